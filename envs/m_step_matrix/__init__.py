"""The m-step matrix game of the MAVEN paper."""

from maven_jax.envs.m_step_matrix.env import MStepMatrixGame
from maven_jax.envs.m_step_matrix.types import Observation, State

__all__ = ["MStepMatrixGame", "Observation", "State"]
