"""Experiments as YAML: overrides of `maven_jax.config.Config`, nothing else."""

import importlib.resources
from typing import Any


def packaged_configs() -> dict[str, Any]:
    """Name to file of the configurations that come with the package."""
    return _yaml_files(importlib.resources.files(__name__))


def packaged_studies() -> dict[str, Any]:
    """Name to file of the studies that come with the package."""
    return _yaml_files(importlib.resources.files(__name__) / "studies")


def _yaml_files(folder: Any) -> dict[str, Any]:
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file for file in files}
