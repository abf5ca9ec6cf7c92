"""QMIX and MAVEN as pure JAX functions: whole multi-agent training runs as one compiled program.

The names of `__all__` are imported when they are first used, so that `import maven_jax` is quick.
"""

import re
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maven_jax import latents
    from maven_jax.api import Results, load_example, load_results, train
    from maven_jax.config import Config, Hyperparameters, from_dict, override, to_dict
    from maven_jax.environments.checker import check_env
    from maven_jax.errors import ConfigError, MavenJaxError, StorageError
    from maven_jax.experiments import callbacks
    from maven_jax.experiments.callbacks.by_name import register_callback
    from maven_jax.experiments.evaluating import trained_weights
    from maven_jax.experiments.plan import Plan
    from maven_jax.experiments.run import load_run
    from maven_jax.experiments.sweep import compile_sweep, run_sweep, seed_keys
    from maven_jax.functional import information, losses
    from maven_jax.networks import agents, discriminators, mixers
    from maven_jax.registering import (
        register_algorithm,
        register_environment,
        register_exploration,
        register_latent,
        register_mixer,
    )
    from maven_jax.training.train import Trainer, make_train, make_trainer
    from maven_jax.validation.checks import validate
    from maven_jax.validation.files import load_config

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "Hyperparameters",
    "MavenJaxError",
    "Plan",
    "Results",
    "StorageError",
    "Trainer",
    "agents",
    "callbacks",
    "check_env",
    "compile_sweep",
    "discriminators",
    "from_dict",
    "information",
    "latents",
    "load_config",
    "load_example",
    "load_results",
    "load_run",
    "losses",
    "make_train",
    "make_trainer",
    "mixers",
    "override",
    "register_algorithm",
    "register_callback",
    "register_environment",
    "register_exploration",
    "register_latent",
    "register_mixer",
    "run_sweep",
    "seed_keys",
    "to_dict",
    "train",
    "trained_weights",
    "validate",
]

_NAMES_OF = {
    "api": ("Results", "load_example", "load_results", "train"),
    "config": ("Config", "Hyperparameters", "from_dict", "override", "to_dict"),
    "environments.checker": ("check_env",),
    "errors": ("ConfigError", "MavenJaxError", "StorageError"),
    "experiments.callbacks.by_name": ("register_callback",),
    "experiments.evaluating": ("trained_weights",),
    "experiments.plan": ("Plan",),
    "experiments.run": ("load_run",),
    "experiments.sweep": ("compile_sweep", "run_sweep", "seed_keys"),
    "registering": (
        "register_algorithm",
        "register_environment",
        "register_exploration",
        "register_latent",
        "register_mixer",
    ),
    "training.train": ("Trainer", "make_train", "make_trainer"),
    "validation.checks": ("validate",),
    "validation.files": ("load_config",),
}
"""The public names that a module defines."""
_MODULES = {
    "experiments": ("callbacks",),
    "functional": ("information", "losses"),
    "networks": ("agents", "discriminators", "mixers"),
}
"""The public modules of a package; `latents` is a package."""
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}
_PACKAGE_OF = {module: package for package, modules in _MODULES.items() for module in modules}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    else:
        package = f"{_PACKAGE_OF[name]}." if name in _PACKAGE_OF else ""
        value = import_module(f"{__name__}.{package}{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refuse_other_jax(version: str) -> None:
    """Raises `ImportError` for a version of jax that this package does not work with."""
    if not (0, 10) <= tuple(map(int, re.findall(r"\d+", version)[:2])) < (0, 13):
        raise ImportError(f"maven_jax needs jax of at least 0.10 and below 0.13, not {version}")


_refuse_other_jax(metadata.version("jax"))
