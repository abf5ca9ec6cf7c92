"""The fields of a configuration that name parts, and the modules that these parts are from."""

from operator import attrgetter
from typing import Any

from maven_jax.algorithms.table import (
    ALGORITHMS,
    DISCRIMINATORS,
    LATENTS,
    MIXERS,
    OPTIMIZERS,
    Row,
)
from maven_jax.config import Config
from maven_jax.environments.registry import ENVIRONMENTS
from maven_jax.errors import check
from maven_jax.extensions import Table
from maven_jax.functional.exploration import EXPLORATIONS

NAMED: tuple[Table[Any], ...] = (
    ALGORITHMS,
    MIXERS,
    LATENTS,
    DISCRIMINATORS,
    EXPLORATIONS,
    OPTIMIZERS,
)


def check_names(config: Config) -> None:
    """Checks every name but the environment's; a `module:Name` is imported.

    Raises:
        ConfigError: the first that names nothing.
    """
    for table in NAMED:
        if name := attrgetter(table.field)(config):  # no name: the algorithm's own mixer
            part = table.find(name)
            fits = isinstance(part, Row) if table is ALGORITHMS else callable(part)
            check(fits, table.field, name, "a Row" if table is ALGORITHMS else "a function")


def modules_of(config: Config) -> dict[str, str]:
    """The modules that define or register what fields name, by field; packaged names have none."""
    fields = {
        table.field: table.module_of(attrgetter(table.field)(config))
        for table in (*NAMED, ENVIRONMENTS)
    }
    return {field: module for field, module in fields.items() if module}
