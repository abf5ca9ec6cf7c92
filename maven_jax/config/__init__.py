"""A whole experiment as data. What fixes shapes or the program is static; numbers are traced."""

from maven_jax.config.frozen import FrozenDict
from maven_jax.config.overrides import coerce, from_dict, override, to_dict
from maven_jax.config.sections import (
    Config,
    DiscriminatorConfig,
    EnvConfig,
    EvaluationConfig,
    ExplorationConfig,
    Hyperparameters,
    LatentConfig,
    NetworkConfig,
    TrainingConfig,
)

__all__ = [
    "Config",
    "DiscriminatorConfig",
    "EnvConfig",
    "EvaluationConfig",
    "ExplorationConfig",
    "FrozenDict",
    "Hyperparameters",
    "LatentConfig",
    "NetworkConfig",
    "TrainingConfig",
    "coerce",
    "from_dict",
    "override",
    "to_dict",
]
