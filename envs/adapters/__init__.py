"""Environments of other libraries as this library's `MarlEnv`."""

from maven_jax.envs.adapters.adapter import Adapter
from maven_jax.envs.adapters.cleaner import Cleaner
from maven_jax.envs.adapters.connector import Connector
from maven_jax.envs.adapters.foraging import LevelBasedForaging
from maven_jax.envs.adapters.hanabi import Hanabi
from maven_jax.envs.adapters.mpe import MpeReference, MpeSpeakerListener, MpeSpread
from maven_jax.envs.adapters.overcooked import Overcooked
from maven_jax.envs.adapters.smax import Smax
from maven_jax.envs.adapters.types import Observation, State
from maven_jax.envs.adapters.warehouse import RobotWarehouse

__all__ = [
    "Adapter",
    "Cleaner",
    "Connector",
    "Hanabi",
    "LevelBasedForaging",
    "MpeReference",
    "MpeSpeakerListener",
    "MpeSpread",
    "Observation",
    "Overcooked",
    "RobotWarehouse",
    "Smax",
    "State",
]
