"""One-step cooperative games from a payoff table."""

from maven_jax.envs.matrix_game.env import PAYOFFS, MatrixGame
from maven_jax.envs.matrix_game.types import Observation, State

__all__ = ["PAYOFFS", "MatrixGame", "Observation", "State"]
