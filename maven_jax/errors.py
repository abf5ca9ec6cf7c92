"""Errors that a user reads: a line each, with which the command line ends with exit code 2."""

import reprlib
from collections.abc import Iterable
from typing import Any

from maven_jax.suggestions import nearest


class MavenJaxError(Exception):
    """What a user can mend, told in one line."""


class ConfigError(MavenJaxError, ValueError):
    """Bad input: the field, the value and what is allowed."""


class StorageError(MavenJaxError):
    """What is on disk, or should be: missing, damaged, in use, in the way, or not to be written."""


def unknown(kind: str, name: Any, known: Iterable[str], others: Iterable[str] = ()) -> ConfigError:
    """The error for a name that does not exist, with what was probably meant.

    Args:
        kind: what it would name.
        name: as it was written.
        known: names that are allowed instead.
        others: names of other places, which may have been meant too.
    """
    known = sorted(known)
    near = nearest(str(name), list(dict.fromkeys([*known, *others])))
    hint = f"did you mean {near!r}?" if near else f"allowed: {', '.join(known)}"
    return ConfigError(f"unknown {kind} {name!r}; {hint}")


def first_line(error: BaseException, limit: int = 300) -> str:
    """What an error says in its first line, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:limit]


def check(condition: bool, name: str, value: Any, allowed: str) -> None:
    """Raises `ConfigError` with the field, the value and what is allowed, unless `condition`."""
    if not condition:
        raise ConfigError(f"{name} is {shown(value)}; allowed: {allowed}")


def shown(value: Any) -> str:
    """A value as an error shows it: whole, unless it is too large for a line."""
    text = _REPR.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 200
_REPR = reprlib.Repr()
