"""Environments of other libraries as this library's `MarlEnv`."""

from maven_jax.envs.adapters.adapter import Adapter
from maven_jax.envs.adapters.jaxmarl_suite import MpeSpread, Smax
from maven_jax.envs.adapters.jumanji_suite import (
    Cleaner,
    Connector,
    LevelBasedForaging,
    RobotWarehouse,
)
from maven_jax.envs.adapters.types import Observation, State

__all__ = [
    "Adapter",
    "Cleaner",
    "Connector",
    "LevelBasedForaging",
    "MpeSpread",
    "Observation",
    "RobotWarehouse",
    "Smax",
    "State",
]
