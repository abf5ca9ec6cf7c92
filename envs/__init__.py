"""Environments of the MAVEN paper, registered with jumanji on import.

They follow the `jumanji.env.Environment` interface and know nothing of the learner.
"""

from jumanji.registration import register, registered_environments

from maven_jax.envs.m_step_matrix import MStepMatrixGame, Observation, State

__all__ = ["MStepMatrixGame", "Observation", "State"]

if "MStepMatrixGame-v0" not in registered_environments():
    register(id="MStepMatrixGame-v0", entry_point="maven_jax.envs.m_step_matrix:MStepMatrixGame")
