"""Fields of a configuration that have no effect, because of its algorithm or of another field."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import reduce
from typing import Any

from maven_jax.algorithms.objectives import penalised_q_learning, qtran
from maven_jax.algorithms.table import additive, independent, joint, row
from maven_jax.config import Config, DiscriminatorConfig, Hyperparameters, LatentConfig
from maven_jax.config.fields import with_field
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
    """`ignored_fields`, where some of the `DECISIVE` fields are given other values.

    Args:
        config: the other fields.
        given: values by dotted names; those that cannot be, another line will refuse.
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

    Args:
        config: the configuration.
        base: what its user started from; what holds there too is not reported.

    Raises:
        ConfigError: no such algorithm.
    """
    lines = []
    for reason, names in _reasons(config):
        changed = [name for name in names if _read(config, name) != _read(base, name)]
        if changed:
            lines.append(f"ignored because {reason}: {', '.join(changed)}")
    known = _discriminator_unused(base)
    return lines + [line for line in _discriminator_unused(config) if line not in known]


def _reasons(config: Config) -> Iterator[tuple[str, Sequence[str]]]:
    """Why fields are not read, and which."""
    mixer, objective, has_latent = row(config)
    name = f"algorithm is {config.algorithm}"
    if mixer in (independent, additive):
        yield name, ("network.mixer_embed_size", *_OF_QMIXERS)
    if mixer is joint:
        yield name, _OF_QMIXERS
    if objective is not penalised_q_learning:
        yield name, ("hyperparameters.monotonicity_weight",)
    if objective is not qtran:
        yield name, ("hyperparameters.optimum_weight", "hyperparameters.nonoptimum_weight")
    if objective is qtran and config.fidelity == "reference":
        yield f"{name} and fidelity reference", ("training.double_q",)
    if not config.hyperparameters.shaping_weight:
        reason = "hyperparameters.shaping_weight is 0"
        yield reason, ("hyperparameters.shaping_steps",)
    if config.training.optimizer != "rmsprop":
        reason = f"training.optimizer is {config.training.optimizer}"
        yield reason, _dotted("hyperparameters", ["rms_decay", "rms_epsilon"])
    if config.exploration.kind == "boltzmann":
        epsilons = [key for key in Hyperparameters._fields if key.startswith("epsilon_")]
        yield "exploration.kind is boltzmann", _dotted("hyperparameters", epsilons)
    else:
        reason = f"exploration.kind is {config.exploration.kind}"
        yield reason, ("hyperparameters.exploration_temperature",)
    if has_latent:
        yield from _reasons_of_latent(config)
        return
    yield (
        f"{name}, which has no latent",
        (
            *_dotted("latent", [field.name for field in fields(LatentConfig)]),
            *_dotted("discriminator", [field.name for field in fields(DiscriminatorConfig)]),
            *_dotted("hyperparameters", ["mi_weight", "intrinsic_weight", "temperature"]),
            *_dotted("hyperparameters", _LATENT_LEARNING),
            *_dotted("evaluation", ["episodes_per_latent", "latent_draws"]),
            *_dotted("network", ["latent_head", "latent_head_scale"]),
            *(["fidelity"] if objective is not qtran else []),
        ),
    )


_OF_QMIXERS = tuple(
    f"network.mixer_{key}" for key in ("skip_connections", "hypernet_size", "init_scale")
)
_LATENT_LEARNING = [key for key in Hyperparameters._fields if key.startswith("latent_")]


def _reasons_of_latent(config: Config) -> Iterator[tuple[str, Sequence[str]]]:
    kind, discriminator = config.latent.kind, config.discriminator
    reason = f"latent.kind is {kind}"
    if kind != "bandit":
        bandit = [field.name for field in fields(LatentConfig) if field.name.startswith("bandit_")]
        yield reason, _dotted("latent", bandit)
    if kind == "bandit":
        yield reason, ("hyperparameters.latent_entropy_weight",)
    if kind == "uniform":
        sizes = ["hidden_size", "updates", "batch_size", "replay_size"]
        yield reason, [*_dotted("latent", sizes), *_dotted("hyperparameters", _LATENT_LEARNING)]
    if kind not in ("gaussian", "logistic"):
        yield reason, ("evaluation.latent_draws",)
    if discriminator.kind == "feed_forward":
        yield "discriminator.kind is feed_forward", ("discriminator.recurrent_size",)
    if discriminator.signal == "gradient":
        yield "discriminator.signal is gradient", ("hyperparameters.intrinsic_weight",)
    if discriminator.reads != "policies":
        reason = f"discriminator.reads is {discriminator.reads}"
        yield reason, ("hyperparameters.temperature",)


def _discriminator_unused(config: Config) -> list[str]:
    """Where the discriminator learns, and nothing of it reaches the utilities."""
    discriminator = config.discriminator
    if not row(config).has_latent:
        return []
    end = "the discriminator is trained but does not affect the utilities"
    if discriminator.signal == "reward" and config.hyperparameters.intrinsic_weight == 0:
        reason = "discriminator.signal is reward, and hyperparameters.intrinsic_weight is 0"
        return [f"{end}: {reason}"]
    if discriminator.signal == "gradient" and discriminator.reads != "policies":
        reason = f"discriminator.signal is gradient, but {discriminator.reads} have none"
        return [f"{end}: {reason}"]
    return []


def _dotted(section: str, names: Sequence[str]) -> list[str]:
    return [f"{section}.{name}" for name in names]


def _read(config: Config, field: str) -> Any:
    return reduce(getattr, field.split("."), config)
