"""Experiments as YAML: overrides of `maven_jax.config.Config`, nothing else."""

import importlib.resources
from typing import Any


def packaged_configs() -> dict[str, Any]:
    """Name to file of the configurations that come with the package."""
    return _yaml_files(importlib.resources.files(__name__))


ALGORITHMS_OF = {
    "qmix": ("iql", "qmix_unconstrained", "qtran", "vdn"),
    "maven": ("maven_iql", "maven_qtran", "maven_unconstrained", "maven_vdn"),
}
"""Algorithms without a file: their names stand for this configuration with `algorithm` set."""


def algorithm_configs() -> dict[str, str]:
    """Name of an algorithm without a file to the name of the configuration that it is set in."""
    return {name: config for config, names in ALGORITHMS_OF.items() for name in names}


def config_names() -> list[str]:
    """Every name that stands for a configuration."""
    return sorted({*packaged_configs(), *algorithm_configs()})


def packaged_studies() -> dict[str, Any]:
    """Name to file of the studies that come with the package."""
    return _yaml_files(importlib.resources.files(__name__) / "studies")


def packaged_overrides() -> dict[str, Any]:
    """Name to file of the overrides that come with the package, such as `smoke`."""
    return _yaml_files(importlib.resources.files(__name__) / "overrides")


def _yaml_files(folder: Any) -> dict[str, Any]:
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file for file in files}
