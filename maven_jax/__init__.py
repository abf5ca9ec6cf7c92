"""QMIX and MAVEN as pure JAX functions: whole multi-agent training runs as one compiled program."""

import jax

if not (0, 10) <= jax.__version_info__ < (0, 13):
    raise ImportError(f"maven_jax needs jax of at least 0.10 and below 0.13, not {jax.__version__}")

from maven_jax import agents, discriminators, information, latents, losses, mixers
from maven_jax.config import Config, Hyperparameters, from_dict, override, to_dict
from maven_jax.config.checks import validate
from maven_jax.config.files import load_config
from maven_jax.env_check import check_env
from maven_jax.errors import ConfigError, MavenJaxError, StorageError
from maven_jax.runs.evaluating import trained_weights
from maven_jax.runs.run import load_run
from maven_jax.runs.sweep import compile_sweep, run_sweep, seed_keys
from maven_jax.train import Trainer, make_train, make_trainer

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "Hyperparameters",
    "MavenJaxError",
    "StorageError",
    "Trainer",
    "agents",
    "check_env",
    "compile_sweep",
    "discriminators",
    "from_dict",
    "information",
    "latents",
    "load_config",
    "load_run",
    "losses",
    "make_train",
    "make_trainer",
    "mixers",
    "override",
    "run_sweep",
    "seed_keys",
    "to_dict",
    "trained_weights",
    "validate",
]
