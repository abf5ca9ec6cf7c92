"""Nested plain values to a configuration and back, every type checked."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from maven_jax.config.frozen import to_plain
from maven_jax.config.sections import Config, EnvConfig, Hyperparameters
from maven_jax.errors import ConfigError, shown, unknown


def from_dict(overrides: Any) -> Config:
    """The defaults with other values in the fields that nested dictionaries name.

    Raises:
        ConfigError: unknown key or wrong type. Values are checked by `validate`.
    """
    return override(Config(), overrides)


def override(config: Config, overrides: Any) -> Config:
    """The configuration with other values in the fields that nested dictionaries name.

    With another `env.name`, `env.options` are those of the overrides alone.

    Raises:
        ConfigError: unknown key or wrong type. Values are checked by `validate`.
    """

    def change(section: Any, given: Any, prefix: str) -> Any:
        if not isinstance(given, Mapping):
            name = prefix.removesuffix(".") or "config"
            raise ConfigError(f"{name} is {shown(given)}; allowed: a mapping of fields to values")
        types = typing.get_type_hints(type(section))
        values = {}
        for key, value in given.items():
            if isinstance(key, str) and "." in key:
                first, _, rest = key.partition(".")
                raise ConfigError(
                    f"unknown key '{prefix}{key}'; nest it: {first}: {{{rest}: ...}}, or name the "
                    "field on the command line or in a grid"
                )
            if key not in types:
                from maven_jax.config.fields import flatten  # which imports this module

                beside = [f"{prefix}{name}" for name in types]
                raise unknown("key", f"{prefix}{key}", beside, flatten(to_dict(config)))
            current = getattr(section, key)
            if dataclasses.is_dataclass(current) or isinstance(current, Hyperparameters):
                values[key] = change(current, value, f"{prefix}{key}.")
            else:
                values[key] = coerce(value, types[key], f"{prefix}{key}")
        if isinstance(section, Hyperparameters):
            return section._replace(**values)
        if isinstance(section, EnvConfig) and values.get("name", section.name) != section.name:
            values.setdefault("options", {})
        return dataclasses.replace(section, **values)

    try:
        return change(config, overrides, "")
    except RecursionError:
        raise ConfigError("config is nested too deeply, or holds itself") from None


def to_dict(config: Config) -> dict[str, Any]:
    """The full configuration as nested plain dictionaries; `from_dict` reads it back."""
    plain = dataclasses.asdict(config)
    plain["env"]["options"] = config.env.options
    plain["hyperparameters"] = config.hyperparameters._asdict()
    return to_plain(plain)


def coerce(value: Any, expected: Any, name: str) -> Any:
    """`value` as the field's type; YAML reads `5e-4` and `2e3` as strings, 1 where 1.0 is meant.

    Raises:
        ConfigError: the value is of another type.
    """
    is_traced = isinstance(value, jax.core.Tracer)
    if isinstance(value, np.generic | jax.Array) and not is_traced and value.ndim == 0:
        value = value.item()
    if typing.get_origin(expected) is Literal:
        allowed = typing.get_args(expected)
        if value not in allowed:
            raise ConfigError(f"{name} is {shown(value)}; allowed: {', '.join(allowed)}")
        return value
    expected = typing.get_origin(expected) or expected
    if expected is int and isinstance(value, float | str):
        value = whole_number(value)
    if expected is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        raise ConfigError(f"{name} is {shown(value)}; allowed: {TYPE_NAMES[expected]}")
    return value


def whole_number(value: float | str) -> Any:
    """A number, or text such as `2e3`, as an integer if it is a whole one; else unchanged."""
    if isinstance(value, str) and "e" not in value.lower():
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else value


TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Mapping: "a mapping of option names to values",
}
"""What an error calls each type of a field."""
