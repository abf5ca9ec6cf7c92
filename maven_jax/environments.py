"""Environments by their names in a configuration: the only module that knows them all."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from maven_jax.config import Config, coerce
from maven_jax.config.frozen import FrozenDict
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.envs.adapters import (
    Cleaner,
    Connector,
    Hanabi,
    LevelBasedForaging,
    MpeReference,
    MpeSpeakerListener,
    MpeSpread,
    Overcooked,
    RobotWarehouse,
    Smax,
)
from maven_jax.errors import ConfigError, unknown
from maven_jax.types import MarlEnv

ENVIRONMENTS: dict[str, Callable[..., MarlEnv]] = {
    "m_step_matrix": MStepMatrixGame,
    "matrix_game": MatrixGame,
    "level_based_foraging": LevelBasedForaging,
    "robot_warehouse": RobotWarehouse,
    "connector": Connector,
    "cleaner": Cleaner,
    "smax": Smax,
    "mpe_spread": MpeSpread,
    "mpe_speaker_listener": MpeSpeakerListener,
    "mpe_reference": MpeReference,
    "overcooked": Overcooked,
    "hanabi": Hanabi,
}


def make_env(config: Config) -> MarlEnv:
    """The environment that `config.env` names; the same object for the same options.

    Raises:
        ConfigError: no such environment or option, or a value it does not take.
    """
    options = FrozenDict(_checked_options(config))
    made = _made if _has_hash(options) else _made.__wrapped__
    try:
        return made(ENVIRONMENTS[config.env.name], options)
    except ValueError as error:
        raise ConfigError(f"env.options: {error}") from None


@lru_cache
def _made(constructor: Callable[..., MarlEnv], options: FrozenDict) -> MarlEnv:
    """One of each: an environment holds no state, and JAX traces its steps once for all uses."""
    return constructor(**options)


def _has_hash(options: FrozenDict) -> bool:
    """A set among them has none; that it cannot be is for the environment to say."""
    try:
        hash(options)
    except TypeError:
        return False
    return True


def complete(config: Config) -> Config:
    """The configuration with every option of its environment spelled out.

    An option whose default is None, such as a payoff table, stands instead of all the defaults.
    """
    options, known = _checked_options(config), _options(config.env.name)
    if not any(known.get(option, "") is None for option in options):
        options = {key: value for key, value in known.items() if value is not None} | options
    return dataclasses.replace(config, env=dataclasses.replace(config.env, options=options))


def _checked_options(config: Config) -> dict[str, Any]:
    """The options that a configuration gives, as the types that the constructor takes."""
    name, options = config.env.name, config.env.options
    if name not in ENVIRONMENTS:
        raise unknown("environment", name, ENVIRONMENTS)
    known, checked = _options(name), dict(options)
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of environment {name}", option, known)
        if known[option] is not None:
            checked[option] = coerce(value, type(known[option]), f"env.options.{option}")
    return checked


def default_options(name: str) -> dict[str, Any]:
    """The options of an environment, with the values that they have by themselves."""
    return {} if name not in ENVIRONMENTS else _options(name)


def _options(name: str) -> dict[str, Any]:
    """What a configuration can say to the environment's constructor, with its defaults."""
    parameters = inspect.signature(ENVIRONMENTS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "viewer"}
