"""Which values can work: checked once, before anything compiles."""

import dataclasses
import math
import operator
import typing
from typing import Any

import numpy as np

from maven_jax.algorithms.table import row
from maven_jax.config.overrides import TYPE_NAMES, coerce
from maven_jax.config.sections import Config, Hyperparameters, LatentConfig, TrainingConfig
from maven_jax.errors import check

_LARGEST = {"network": 2**16, "latent": 2**16, "discriminator": 2**16} | {
    "training": 10**6,
    "evaluation": 10**6,
    "replay_size": 10**7,
    "hidden_layers": 2**6,
    "total_env_steps": 2**31 - 1,
}
"""The largest whole number of a section or field: a slip of the keyboard must not fill memory."""


def validate(config: Config) -> None:
    """Checks every value that does not depend on the environment, and that the algorithm reads.

    Raises:
        ConfigError: the first value that cannot work, or no such algorithm.
    """
    config = _of_the_right_types(config)
    for section in ("network", "training", "evaluation"):
        _check_sizes(config, section)
    for key in ("latent_head_scale", "mixer_init_scale"):
        scale = getattr(config.network, key)
        check(0 < _single(scale) < math.inf, f"network.{key}", scale, "a positive number")
    training = config.training
    for key in ("batch_size", "num_envs"):
        _check_replay("training", training, f"training.{key}", getattr(training, key))
    _check_rows(config)
    check(
        training.updates_per_evaluation % training.updates_per_round == 0,
        "training.updates_per_evaluation",
        training.updates_per_evaluation,
        f"a multiple of training.updates_per_round, which is {training.updates_per_round}",
    )
    if row(config).has_latent:
        _validate_latent(config)
    for key, value in config.hyperparameters._asdict().items():
        name, single = f"hyperparameters.{key}", _single(value)
        check(math.isfinite(single), name, value, "a finite number in single precision")
        if key in ("gamma", "td_lambda", "rms_decay", "epsilon_start", "epsilon_finish"):
            check(0 <= single <= 1, name, value, "a number from 0 to 1")
        elif key == "target_update_rate":
            check(0 < single <= 1, name, value, "a number above 0, up to 1")
        elif key.endswith("temperature") or key in (
            "epsilon_steps",
            "reward_scale",
            "rms_epsilon",
            "max_grad_norm",
        ):
            check(single > 0, name, value, "a positive number")
        else:
            check(single >= 0, name, value, "a number of at least 0")


_SECTIONS = {field.name for field in dataclasses.fields(Config)} - {"algorithm", "fidelity"}


def _of_the_right_types(config: Config) -> Config:
    """The configuration with Python's own numbers; in Python any value may stand in a field.

    Raises:
        ConfigError: a value of another type than its field's.
    """

    def check_section(section: Any, prefix: str) -> Any:
        types = typing.get_type_hints(type(section))
        values = {}
        for key, expected in types.items():
            value, name = getattr(section, key), f"{prefix}{key}"
            if name in _SECTIONS:
                check(isinstance(value, expected), name, value, f"of type {expected.__name__}")
                values[key] = check_section(value, f"{name}.")
                continue
            values[key] = coerce(value, expected, name)
            if not _is_of_type(value, values[key]):  # YAML may, Python not
                check(False, name, value, TYPE_NAMES[expected])
        if isinstance(section, Hyperparameters):
            return section._replace(**values)
        return dataclasses.replace(section, **values)

    return check_section(config, "")


def _is_of_type(value: Any, coerced: Any) -> bool:
    """Whether a value is used as its coerced one is: `"3"` is no number, 3.0 no whole number."""
    if type(coerced) is int:
        try:
            operator.index(value)
        except TypeError:
            return False
    return isinstance(coerced, str) or not isinstance(value, str)


def _check_sizes(config: Config, section: str) -> None:
    """Every whole number of a section is from 1 to what memory may hold."""
    for key, value in dataclasses.asdict(getattr(config, section)).items():
        if type(value) is int:
            least = 0 if key in ("row_slots", "mixer_hypernet_size") else 1
            largest = _LARGEST.get(key, _LARGEST[section])
            allowed = f"a whole number from {least} to {largest}"
            check(least <= value <= largest, f"{section}.{key}", value, allowed)


def _check_rows(config: Config) -> None:
    """Rows of several episodes, and what is given with them alone."""
    training, ratio = config.training, config.training.env_steps_per_update
    check(
        training.row_slots == 0 or config.fidelity == "paper",
        "training.row_slots",
        training.row_slots,
        "0 where fidelity is reference: the published code plays one episode a row",
    )
    check(
        0 <= _single(ratio) < math.inf,
        "training.env_steps_per_update",
        ratio,
        "a number of at least 0",
    )
    if ratio:
        check(
            training.row_slots > 0,
            "training.env_steps_per_update",
            ratio,
            "0 unless training.row_slots is given, since the length of an episode is not known in "
            "advance",
        )
        steps = training.num_envs * (training.row_slots - 1)
        check(
            steps / _LARGEST["training"] <= ratio <= steps,
            "training.env_steps_per_update",
            ratio,
            f"0, or from {steps / _LARGEST['training']:g} to {steps}, the most steps that one "
            "round collects",
        )
        check(
            training.updates_per_round == 1,
            "training.updates_per_round",
            training.updates_per_round,
            "1 where training.env_steps_per_update is given",
        )


def _check_replay(
    name: str, section: TrainingConfig | LatentConfig, least: str, number: int
) -> None:
    """A section's replay holds as many rows or episodes as the field `least` says."""
    held = section.replay_size
    check(held >= number, f"{name}.replay_size", held, f"at least {least}, which is {number}")


def _validate_latent(config: Config) -> None:
    """What only algorithms with a latent read."""
    latent = config.latent
    for section in ("latent", "discriminator"):
        _check_sizes(config, section)
    if latent.kind != "uniform":  # nothing is learnt, so nothing is replayed
        _check_replay("latent", latent, "latent.batch_size", latent.batch_size)
        if not config.training.row_slots:
            _check_replay("latent", latent, "training.num_envs", config.training.num_envs)
    check(
        latent.size >= 2 or latent.kind in ("gaussian", "logistic"),
        "latent.size",
        latent.size,
        "a whole number of at least 2",
    )
    check(
        config.discriminator.signal == "gradient" or config.hyperparameters.mi_weight > 0,
        "hyperparameters.mi_weight",
        config.hyperparameters.mi_weight,
        "a positive number where discriminator.signal is reward: it is what trains q_v",
    )
    for key in ("bandit_scale", "bandit_temperature"):
        value = getattr(latent, key)
        single = _single(value)
        check(0 < single < math.inf, f"latent.{key}", value, "a positive number")
    for key in ("bandit_epsilon", "bandit_test_epsilon"):
        value = getattr(latent, key)
        check(0 <= value <= 1, f"latent.{key}", value, "a number from 0 to 1")


def _single(value: float) -> float:
    """The value as the compiled program sees it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
