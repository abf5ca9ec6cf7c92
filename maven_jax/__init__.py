"""QMIX and MAVEN as pure JAX functions: whole multi-agent training runs as one compiled program."""

import jax

if not (0, 10) <= jax.__version_info__ < (0, 13):
    raise ImportError(f"maven_jax needs jax of at least 0.10 and below 0.13, not {jax.__version__}")

from maven_jax.config import Config, Hyperparameters, from_dict, to_dict
from maven_jax.config.files import load_config
from maven_jax.env_check import check_env
from maven_jax.errors import ConfigError
from maven_jax.runs.sweep import compile_sweep, run_sweep, seed_keys
from maven_jax.train import Trainer, make_train, make_trainer

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "Hyperparameters",
    "Trainer",
    "check_env",
    "compile_sweep",
    "from_dict",
    "load_config",
    "make_train",
    "make_trainer",
    "run_sweep",
    "seed_keys",
    "to_dict",
]
