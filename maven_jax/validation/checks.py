"""Which values can work: checked once, before anything compiles."""

import dataclasses
import math
import operator
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from maven_jax.algorithms.table import latent_of, row
from maven_jax.config.overrides import TYPE_NAMES, coerce
from maven_jax.config.sections import Config, Hyperparameters
from maven_jax.errors import check
from maven_jax.validation.names import check_names

_LARGEST = {
    "network": 2**16,
    "latent": 2**16,
    "discriminator": 2**16,
    "training": 10**6,
    "evaluation": 10**6,
    "replay_size": 10**7,
    "hidden_layers": 2**6,
    "total_env_steps": 2**31 - 1,
}
"""The largest whole number of a section or field: a typing error must not fill memory."""

_UP_TO_1 = "a number from 0 to 1"
_POSITIVE = "a positive number"
_AT_LEAST_0 = "a number of at least 0"
_IS_ALLOWED: dict[str, Callable[[float], bool]] = {
    _UP_TO_1: lambda x: 0 <= x <= 1,
    "a number above 0, up to 1": lambda x: 0 < x <= 1,
    _POSITIVE: lambda x: 0 < x < math.inf,
    _AT_LEAST_0: lambda x: 0 <= x < math.inf,
    "a finite number in single precision": math.isfinite,
}
_HYPERPARAMETERS = {
    **dict.fromkeys(Hyperparameters._fields, _AT_LEAST_0),
    **dict.fromkeys(("gamma", "td_lambda", "rms_decay"), _UP_TO_1),
    **dict.fromkeys(("epsilon_start", "epsilon_finish"), _UP_TO_1),
    **dict.fromkeys(("temperature", "exploration_temperature", "epsilon_steps"), _POSITIVE),
    **dict.fromkeys(("reward_scale", "rms_epsilon", "max_grad_norm"), _POSITIVE),
    "target_update_rate": "a number above 0, up to 1",
}


def validate(config: Config) -> None:
    """Checks every value that the algorithm reads and that does not depend on the environment.

    Raises:
        ConfigError: the first value that cannot work, or no such algorithm.
    """
    allowed = "a Config, such as from_dict makes of a dictionary"
    check(isinstance(config, Config), "config", config, allowed)
    config = _with_plain_numbers(config)
    check_names(config)
    training = config.training
    for section in ("network", "training", "evaluation"):
        _check_sizes(config, section)
    for name in ("network.latent_head_scale", "network.mixer_init_scale"):
        _check_number(config, name, _POSITIVE)
    for name in ("training.batch_size", "training.num_envs"):
        _check_replay(config, "training", name)
    _check_packed_sequences(config)
    check(
        training.updates_per_evaluation % training.updates_per_round == 0,
        "training.updates_per_evaluation",
        training.updates_per_evaluation,
        f"a multiple of training.updates_per_round, which is {training.updates_per_round}",
    )
    if row(config).has_latent:
        _check_latent(config)
    for key, allowed in _HYPERPARAMETERS.items():
        for each in ("a finite number in single precision", allowed):
            _check_number(config, f"hyperparameters.{key}", each)


_SECTIONS = {field.name for field in dataclasses.fields(Config)} - {"algorithm", "fidelity"}


def _with_plain_numbers(section: Any, prefix: str = "") -> Any:
    """A configuration or section with Python's own numbers, every type checked."""
    values = {}
    for key, expected in typing.get_type_hints(type(section)).items():
        value, name = getattr(section, key), f"{prefix}{key}"
        if name in _SECTIONS:
            check(isinstance(value, expected), name, value, f"of type {expected.__name__}")
            values[key] = _with_plain_numbers(value, f"{name}.")
            continue
        values[key] = coerce(value, expected, name)
        if not _is_used_as(value, values[key]):
            check(False, name, value, TYPE_NAMES[expected])
    if isinstance(section, Hyperparameters):
        return section._replace(**values)
    return dataclasses.replace(section, **values)


def _is_used_as(value: Any, coerced: Any) -> bool:
    """Whether Python computes with both alike: not with `"3"` and 3, nor with 3.0 and 3."""
    if type(coerced) is int:
        try:
            operator.index(value)
        except TypeError:
            return False
    return isinstance(coerced, str) or not isinstance(value, str)


def _check_sizes(config: Config, section: str) -> None:
    for key, value in dataclasses.asdict(getattr(config, section)).items():
        if type(value) is int:
            least = 0 if key in ("row_slots", "mixer_hypernet_size") else 1
            largest = _LARGEST.get(key, _LARGEST[section])
            allowed = f"a whole number from {least} to {largest}"
            check(least <= value <= largest, f"{section}.{key}", value, allowed)


def _check_number(config: Config, name: str, allowed: str) -> None:
    value = operator.attrgetter(name)(config)
    with np.errstate(over="ignore"):
        single = float(np.float32(value))  # as the compiled program sees it
    check(_IS_ALLOWED[allowed](single), name, value, allowed)


def _check_replay(config: Config, section: str, least: str) -> None:
    """A section's replay holds at least as much as the field `least` asks for."""
    size, number = getattr(config, section).replay_size, operator.attrgetter(least)(config)
    check(size >= number, f"{section}.replay_size", size, f"at least {least}, which is {number}")


def _check_packed_sequences(config: Config) -> None:
    training, name = config.training, "training.env_steps_per_update"
    ratio = training.env_steps_per_update
    check(
        training.row_slots == 0 or config.fidelity == "paper",
        "training.row_slots",
        training.row_slots,
        "0 where fidelity is reference: the published code plays one episode a row",
    )
    _check_number(config, name, _AT_LEAST_0)
    if not ratio:
        return
    check(
        training.row_slots > 0,
        name,
        ratio,
        "0 unless training.row_slots is given, since the length of an episode is not known in "
        "advance",
    )
    steps = training.num_envs * (training.row_slots - 1)
    least = steps / _LARGEST["training"]
    check(
        least <= ratio <= steps,
        name,
        ratio,
        f"0, or from {least:g} to {steps}, the most steps that one round collects",
    )
    check(
        training.updates_per_round == 1,
        "training.updates_per_round",
        training.updates_per_round,
        f"1 where {name} is given",
    )


def _check_latent(config: Config) -> None:
    """Checks what only algorithms with a latent read."""
    latent, mi_weight = config.latent, config.hyperparameters.mi_weight
    for section in ("latent", "discriminator"):
        _check_sizes(config, section)
    if latent_of(config).learnt:  # else nothing is replayed
        _check_replay(config, "latent", "latent.batch_size")
        if not config.training.row_slots:
            _check_replay(config, "latent", "training.num_envs")
    check(
        latent.size >= 2 or not latent_of(config).discrete,
        "latent.size",
        latent.size,
        "a whole number of at least 2",
    )
    check(
        config.discriminator.signal == "gradient" or mi_weight > 0,
        "hyperparameters.mi_weight",
        mi_weight,
        "a positive number where discriminator.signal is reward: it is what trains q_v",
    )
    for name in ("latent.bandit_scale", "latent.bandit_temperature"):
        _check_number(config, name, _POSITIVE)
    for name in ("latent.bandit_epsilon", "latent.bandit_test_epsilon"):
        _check_number(config, name, _UP_TO_1)
