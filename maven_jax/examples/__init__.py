"""Trained runs that come with the package: each is a finished run's folder in this one."""

from pathlib import Path

from maven_jax.errors import unknown


def example_names() -> list[str]:
    """The names of the packaged runs."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/run.json"))


def example_path(name: str) -> Path:
    """The folder of a packaged run.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in example_names():
        raise unknown("example", name, example_names())
    return Path(__file__).parent / name
