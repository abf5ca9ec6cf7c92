"""Fields of a configuration that have no effect, because of its algorithm or of another field."""

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any

from maven_jax.algorithms.objectives import penalised_q_learning, qtran
from maven_jax.algorithms.table import additive, independent, joint, latent_of, row
from maven_jax.config import Config, to_dict
from maven_jax.config.fields import flatten, with_field
from maven_jax.errors import ConfigError

DECISIVE = (
    "algorithm",
    "fidelity",
    "latent.kind",
    "exploration.kind",
    "discriminator.kind",
    "discriminator.reads",
    "discriminator.signal",
    "training.optimizer",
    "hyperparameters.shaping_weight",
)
"""Fields that decide which others are read."""


def ignored_fields(config: Config) -> dict[str, str]:
    """The fields that nothing reads, by their dotted names, and why.

    Raises:
        ConfigError: no such algorithm.
    """
    return {field: reason for reason, names in _reasons(config) for field in names}


def ignored_beside(config: Config, given: Mapping[str, Any]) -> dict[str, str]:
    """`ignored_fields`, with other values in those of the `DECISIVE` fields that are given.

    Bad values are left out, since they are refused elsewhere.
    """
    for field in DECISIVE:
        if field in given:
            with suppress(ConfigError):
                config = with_field(config, field, given[field])
    try:
        return ignored_fields(config)
    except (ConfigError, TypeError):  # no such algorithm
        return {}


def remarks(config: Config, base: Config) -> list[str]:
    """A line for every reason for which fields of a configuration are ignored or misconfigured.

    What holds too in `base`, which its user started from, is not reported.

    Raises:
        ConfigError: no such algorithm.
    """
    lines = []
    for reason, names in _reasons(config):
        changed = [name for name in names if attrgetter(name)(config) != attrgetter(name)(base)]
        if changed:
            lines.append(f"ignored because {reason}: {', '.join(changed)}")
    unused = _why_discriminator_is_unused(config)
    if unused and unused != _why_discriminator_is_unused(base):
        lines.append(f"the discriminator is trained but does not affect the utilities: {unused}")
    return lines


def _reasons(config: Config) -> Iterator[tuple[str, list[str]]]:
    """Why fields are not read, and their names."""
    mixer, objective, has_latent = row(config)
    mixed_by = "network.mixer" if config.network.mixer else "algorithm"
    exploration, latent, discriminator = config.exploration, config.latent, config.discriminator
    rules = [  # whether it is so, the field that decides it, and the fields that are ignored then
        (mixer in (independent, additive), mixed_by, "network.mixer_*"),
        (mixer is joint, mixed_by, _OF_QMIXERS),
        (objective is not penalised_q_learning, "algorithm", "*.monotonicity_weight"),
        (objective is not qtran, "algorithm", "*.optimum_weight *.nonoptimum_weight"),
        (config.training.optimizer != "rmsprop", "training.optimizer", "*.rms_*"),
        (exploration.kind == "boltzmann", "exploration.kind", "*.epsilon_*"),
        (exploration.kind != "boltzmann", "exploration.kind", "*.exploration_temperature"),
    ]
    if has_latent:
        rules += [
            (latent.kind != "bandit", "latent.kind", "latent.bandit_*"),
            (latent.kind == "bandit", "latent.kind", "*.latent_entropy_weight"),
            (not latent_of(config).learnt, "latent.kind", _OF_LEARNT_LATENTS),
            (latent_of(config).discrete, "latent.kind", "*.latent_draws"),
            (discriminator.kind == "feed_forward", "discriminator.kind", "*.recurrent_size"),
            (discriminator.signal == "gradient", "discriminator.signal", "*.intrinsic_weight"),
            (discriminator.reads != "policies", "discriminator.reads", "*.temperature"),
        ]
    for is_ignored, field, patterns in rules:
        if is_ignored:
            yield f"{field} is {attrgetter(field)(config)}", _matching(patterns)
    if objective is qtran and config.fidelity == "reference":
        yield f"algorithm is {config.algorithm} and fidelity reference", ["training.double_q"]
    if not config.hyperparameters.shaping_weight:
        yield "hyperparameters.shaping_weight is 0", ["hyperparameters.shaping_steps"]
    if not has_latent:
        patterns = _OF_LATENTS if objective is qtran else f"{_OF_LATENTS} fidelity"
        yield f"algorithm is {config.algorithm}, which has no latent", _matching(patterns)


_OF_QMIXERS = "*.mixer_skip_connections *.mixer_hypernet_size *.mixer_init_scale"
_OF_LEARNT_LATENTS = "latent.*_size latent.updates hyperparameters.latent_*"
_OF_LATENTS = """
    latent.* discriminator.* *.mi_weight *.intrinsic_weight *.temperature hyperparameters.latent_*
    *.episodes_per_latent *.latent_draws network.latent_*"""
_FIELDS = [*flatten(to_dict(Config()))]


def _matching(patterns: str) -> list[str]:
    return [name for pattern in patterns.split() for name in fnmatch.filter(_FIELDS, pattern)]


def _why_discriminator_is_unused(config: Config) -> str | None:
    """Why the discriminator learns, but has no effect on the utilities; None where it has."""
    discriminator = config.discriminator
    if not row(config).has_latent:
        return None
    if discriminator.signal == "reward" and config.hyperparameters.intrinsic_weight == 0:
        return "discriminator.signal is reward, and hyperparameters.intrinsic_weight is 0"
    if discriminator.signal == "gradient" and discriminator.reads != "policies":
        return f"discriminator.signal is gradient, but {discriminator.reads} have none"
    return None
