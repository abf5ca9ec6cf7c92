"""Environments by their names in a configuration: the only module that knows them all.

A name is one of `ENVIRONMENTS`, or `module:Class` of a custom environment, which is imported from
the working directory or `PYTHONPATH`. The class is called with `env.options` as keyword arguments.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from maven_jax.acting.rollout import env_sizes
from maven_jax.config import Config, EnvConfig, coerce
from maven_jax.config.frozen import FrozenDict
from maven_jax.config.overrides import TYPE_NAMES
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
from maven_jax.extensions import Table, described
from maven_jax.types import MarlEnv

_PACKAGED: dict[str, Callable[..., MarlEnv]] = {
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
ENVIRONMENTS: Table[Callable[..., MarlEnv]] = Table("env.name", _PACKAGED)
"""What `env.name` can name."""


def make_env(config: Config) -> MarlEnv:
    """The environment that `config.env` names; the same object for the same options.

    Raises:
        ConfigError: no such environment or option, or a value it does not take.
    """
    name, options = config.env.name, FrozenDict(_checked_options(config))
    made = _made if _has_hash(options) else _made.__wrapped__
    try:
        env = made(_constructor(name), options)
    except ValueError as error:
        raise ConfigError(f"env.options: {error}") from None
    except Exception as error:
        if name in _PACKAGED:
            raise
        raise ConfigError(f"env.options: {name} raises {described(error)}") from None
    env_sizes(env)
    return env


def class_name(env: MarlEnv) -> str:
    """The `module:Class` of an environment, as `env.name` takes it."""
    return f"{type(env).__module__}:{type(env).__qualname__}"


def env_config(
    env: MarlEnv, given: Mapping[str, Any] = MappingProxyType({}), *, is_kept: bool = True
) -> EnvConfig:
    """What a configuration says of an environment that was made in Python, to make it again.

    Its options are its attribute `options`, a mapping, or else the attributes that are named like
    its constructor's parameters: those that are numbers, strings, flags or lists.

    Args:
        env: the environment.
        given: options that need not be read off it.
        is_kept: whether the environment has to be made again from this, to resume.

    Raises:
        ConfigError: it has to, and an option whose default is a number, a string or a flag cannot
            be read off it; or a given option that it does not have.
    """
    kind, missing = type(env), []
    options: dict[str, Any] = {}
    if isinstance(held := getattr(env, "options", None), Mapping):
        options |= held
    else:
        for option, default in _options_of(kind).items():
            value = getattr(env, option, None)
            if isinstance(value, np.ndarray | np.generic | jax.Array):
                value = value.tolist()
            if type(value) in (*TYPE_NAMES, list):
                options[option] = value
            elif type(default) in TYPE_NAMES and option not in given:
                missing.append(option)
    for option in given:
        if option not in _options_of(kind) and not _has_any(kind):
            raise unknown(
                f"option of environment {kind.__name__}", option, _options_of(kind) or ["none"]
            )
    names = [name for name, packaged in ENVIRONMENTS.items() if packaged is kind]
    if missing and is_kept:
        raise ConfigError(
            f"options of environment {kind.__name__} cannot be read off it: {', '.join(missing)}; "
            "allowed: attributes of these names, or values in overrides, under env.options"
        )
    return EnvConfig(names[0] if names else class_name(env), {**options, **given})


def _constructor(name: str) -> Callable[..., Any]:
    """What is called with the options: a class of `ENVIRONMENTS`, or an imported one.

    Raises:
        ConfigError: there is none of that name, or its module cannot be imported.
    """
    found = ENVIRONMENTS.find(name)
    if name in ENVIRONMENTS:
        return found
    if not isinstance(found, type):
        raise ConfigError(f"env.name is {name!r}, which is no class; allowed: module:Class")
    for method in ("reset", "step"):  # before the call: a run's folder may name any class
        if not callable(getattr(found, method, None)):
            raise ConfigError(f"env.name is {name!r}, which has no {method}; allowed: a MarlEnv")
    return found


@lru_cache
def _made(constructor: Callable[..., Any], options: FrozenDict) -> Any:
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
    Of a custom environment those whose defaults are numbers, strings or flags are spelled out.
    """
    options, known = _checked_options(config), _options(config.env.name)
    if not any(known.get(option, "") is None for option in options):
        plain = {key: value for key, value in known.items() if type(value) in TYPE_NAMES}
        options = plain | options
    return dataclasses.replace(config, env=dataclasses.replace(config.env, options=options))


def _checked_options(config: Config) -> dict[str, Any]:
    """The options that a configuration gives, as the types that the constructor takes."""
    name, options = config.env.name, config.env.options
    known, checked = _options(name), dict(options)
    for option, value in options.items():
        if option not in known and not _takes_any(name):
            raise unknown(f"option of environment {name}", option, known or ["none"])
        if type(known.get(option)) in TYPE_NAMES:
            checked[option] = coerce(value, type(known[option]), f"env.options.{option}")
    return checked


def default_options(name: str) -> dict[str, Any]:
    """The options of an environment of `ENVIRONMENTS`, with their default values; else none."""
    return {} if name not in _PACKAGED else _options(name)


def _options(name: str) -> dict[str, Any]:
    """What a configuration can give the environment's constructor, with its defaults."""
    return _options_of(_constructor(name))


def _options_of(constructor: Callable[..., Any]) -> dict[str, Any]:
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return {
        p.name: p.default
        for p in _parameters(constructor)
        if p.kind in kinds and p.name != "viewer"
    }


def _takes_any(name: str) -> bool:
    """Whether the constructor takes keyword arguments of any name."""
    return _has_any(_constructor(name))


def _has_any(constructor: Callable[..., Any]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(constructor))


def _parameters(constructor: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(constructor).parameters.values())
    except ValueError:  # some classes written in C state none
        return []
