"""Immutable mappings, so that a configuration has a hash."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class FrozenDict(Mapping[str, Any]):
    """An immutable mapping with a hash: lists in it become tuples, mappings `FrozenDict`s.

    It equals every mapping of the same content.
    """

    def __init__(self, content: Mapping[str, Any] | None = None) -> None:
        self._content = {key: frozen(value) for key, value in (content or {}).items()}

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return repr(self._content)

    def __hash__(self) -> int:
        return hash(frozenset(self._content.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._content == FrozenDict(other)._content


def frozen(value: Any) -> Any:
    """An immutable copy of a value of YAML: lists and arrays become tuples."""
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and numbers
        value = value.tolist()
    if isinstance(value, Mapping):
        return FrozenDict(value)
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def to_plain(value: Any) -> Any:
    """A frozen value as what YAML can write: dictionaries, lists and Python's own numbers."""
    if isinstance(value, Mapping):
        return {key: to_plain(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return list(map(to_plain, value)) if isinstance(value, tuple) else value
