"""QMIX and MAVEN as pure JAX functions: whole multi-agent training runs as one compiled program.

The names of `__all__` are imported when they are first used, so that `import maven_jax` is quick.
"""

import re
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_NAMES_OF = {
    "config": ("Config", "Hyperparameters", "from_dict", "override", "to_dict"),
    "config.checks": ("validate",),
    "config.files": ("load_config",),
    "env_check": ("check_env",),
    "errors": ("ConfigError", "MavenJaxError", "StorageError"),
    "runs.evaluating": ("trained_weights",),
    "runs.run": ("load_run",),
    "runs.sweep": ("compile_sweep", "run_sweep", "seed_keys"),
    "train": ("Trainer", "make_train", "make_trainer"),
}
"""The public names that a module defines; the other names of `__all__` are modules."""
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    else:
        value = import_module(f"{__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refuse_other_jax(version: str) -> None:
    """Raises `ImportError` for a version of jax that this package does not work with."""
    if not (0, 10) <= tuple(map(int, re.findall(r"\d+", version)[:2])) < (0, 13):
        raise ImportError(f"maven_jax needs jax of at least 0.10 and below 0.13, not {version}")


_refuse_other_jax(metadata.version("jax"))
