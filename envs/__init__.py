"""Environments of the MAVEN paper, registered with jumanji on import.

They follow the `jumanji.env.Environment` interface and know nothing of the learner.
"""

import maven_jax.envs.jumanji_import  # noqa: F401, I001  before anything else of jumanji
from jumanji.registration import register, registered_environments

from maven_jax.envs.m_step_matrix import MStepMatrixGame, Observation, State
from maven_jax.envs.matrix_game import MatrixGame

__all__ = ["MStepMatrixGame", "MatrixGame", "Observation", "State"]

for _name, _module in (("MStepMatrixGame", "m_step_matrix"), ("MatrixGame", "matrix_game")):
    if f"{_name}-v0" not in registered_environments():
        register(id=f"{_name}-v0", entry_point=f"maven_jax.envs.{_module}:{_name}")
