"""Configurations in YAML: files of overrides, and those that come with the package."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from maven_jax.algorithms.table import ALGORITHMS, row
from maven_jax.config.overrides import from_dict, override
from maven_jax.config.sections import Config
from maven_jax.configs import (
    config_names,
    packaged_configs,
    packaged_overrides,
)
from maven_jax.errors import ConfigError, unknown
from maven_jax.extensions import import_entry_points, unknown_part
from maven_jax.validation.checks import validate

AnyPath = str | os.PathLike[str]
"""What public functions take for a path: text, or a path of `pathlib`."""


def load_config(source: AnyPath) -> Config:
    """Reads a YAML file of overrides, or one of the packaged configurations by its name.

    The name of an algorithm that has no configuration stands for that of QMIX, or of MAVEN if it
    has a latent, with `algorithm` set.

    Raises:
        ConfigError: no such file or name, unknown key, wrong type, or a value that cannot work.
    """
    name = str(source)
    family = None if Path(source).is_file() else _family_of(name)
    file = find_yaml("config", family or source, packaged_configs, config_names())
    config = from_dict(_read_overrides(file, f"config {name!r}"))
    if family:
        config = override(config, {"algorithm": name})
    validate(config)
    return config


def _family_of(algorithm: str) -> str | None:
    """The configuration in which an algorithm is set that has none; None for any other name."""
    if algorithm in packaged_configs() or Path(algorithm).suffix:
        return None
    if algorithm not in ALGORITHMS and ":" not in algorithm:
        import_entry_points()
        if algorithm not in ALGORITHMS:
            return None
    return "maven" if row(Config(algorithm=algorithm)).has_latent else "qmix"


def load_overrides(source: AnyPath) -> Any:
    """Nested values for `override`: from a YAML file, or packaged ones by name, such as `smoke`.

    Raises:
        ConfigError: no such file or name, or it is not valid YAML.
    """
    file = find_yaml("overrides", source, packaged_overrides)
    return _read_overrides(file, f"overrides {str(source)!r}")


def _read_overrides(file: Any, what: str) -> Any:
    try:
        overrides = parse_yaml(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"{what} {error}") from None
    return {} if overrides is None else overrides


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where YAML would keep the last.

    What a merge key (`<<`) brings may stand there too: the mapping's own keys win.
    """

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: list[Any] = []
        for key, _ in node.value:
            is_merge = key.tag == "tag:yaml.org,2002:merge"
            value = "<<" if is_merge else self.construct_object(key, deep=True)
            if value in seen:
                raise yaml.MarkedYAMLError(problem_mark=key.start_mark)
            seen.append(value)
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Merges mappings; of several that have a key the first decides, as YAML's merge says.

        Versions of PyYAML differ there.
        """
        own, merged = [], []
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                if key.tag == "tag:yaml.org,2002:value":  # a key that is `=`
                    key.tag = "tag:yaml.org,2002:str"
                own.append((key, value))
                continue
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):  # the last of equal keys is what is read
                if not isinstance(source, yaml.MappingNode):
                    raise yaml.MarkedYAMLError(problem_mark=source.start_mark)
                self.flatten_mapping(source)
                merged += source.value
        node.value = merged + own


def parse_yaml(text: str | bytes) -> Any:
    """Plain values from YAML.

    Raises:
        ConfigError: it is not valid YAML, or a key stands twice.
    """
    try:
        value = yaml.load(text, Loader=_StrictLoader)
        size = _size(value, {})
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f": look at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"is not valid YAML{where}") from None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):  # odd scalars
        raise ConfigError("is not valid YAML") from None
    if size > LARGEST_YAML:
        raise ConfigError(f"holds more than {LARGEST_YAML} values, its aliases written out")
    return value


LARGEST_YAML = 10**5
"""Values of a file: aliases of aliases must not fill memory."""


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are in lists and dictionaries, as if none were shared."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # one that holds itself is refused by what reads it
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(entry, known) for entry in inner)
    return known[id(value)]


def find_yaml(
    kind: str, source: AnyPath, packaged: Callable[[], dict[str, Any]], names: Collection[str] = ()
) -> Any:
    """The file that a path, or a name among the `packaged` ones, stands for.

    An error calls the file a `kind`, and suggests `names`, by default those of `packaged`.

    Raises:
        ConfigError: no such file or name.
    """
    path, name = Path(source), str(source)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise ConfigError(f"{kind} {name!r} is not a file")
    if name not in packaged():
        error = unknown_part if kind == "config" else unknown
        raise error(kind, name, names or packaged())
    return packaged()[name]
