"""Fields of a configuration by their names with dots, such as `training.batch_size`."""

from collections.abc import Mapping
from typing import Any

from maven_jax.config.overrides import override, to_dict
from maven_jax.config.sections import Config


def with_field(config: Config, field: str, value: Any) -> Config:
    """The configuration with another value in one field, given by its name with dots.

    Raises:
        ConfigError: no such field, or a value of the wrong type.
    """
    *sections, last = field.split(".")
    if sections == ["env", "options"]:
        return override(config, {"env": {"options": {**config.env.options, last: value}}})
    nested: Any = {last: value}
    for section in reversed(sections):
        nested = {section: nested}
    return override(config, nested)


def read_field(config: Config, field: str) -> Any:
    """The value of one field, given by its name with dots."""
    value: Any = to_dict(config)
    for name in field.split("."):
        value = value[name]
    return value


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of nested dictionaries, by their names with dots."""
    fields: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = value
    return fields
