"""Parts by name: packaged, registered by a module, or `module:Name` of your own.

Each table holds the parts that one field of a configuration can name. A custom part is imported
from the working directory or from a folder that `PYTHONPATH` names, and is what a row of its table
is. A module that registers names is imported by the user, by `--import`, or by an entry point.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import Any, Generic, TypeVar

from maven_jax.errors import ConfigError, check, first_line, unknown

T = TypeVar("T")

GROUP = "maven_jax.extensions"
"""The entry points whose modules are imported where a name is not known otherwise."""


FEW = 6
"""Names that an error lists all, where of more it suggests the nearest."""


class Table(dict[str, T], Generic[T]):
    """The parts that a field of a configuration can name, by their names."""

    def __init__(self, field: str, rows: Mapping[str, T]) -> None:
        super().__init__(rows)
        self.field = field
        self.packaged = frozenset(rows)
        self.modules: dict[str, str] = {}
        """The modules that have registered names."""

    def find(self, name: str) -> T:
        """The part of a name, or what `module:Name` imports.

        Raises:
            ConfigError: there is none.
        """
        if name not in self and ":" not in name:
            import_entry_points()
        if name in self:
            return self[name]
        if ":" in name:
            return imported(self.field, name)
        raise unknown_part(self.field, name, self)

    def register(self, name: str, part: T, module: str) -> None:
        """Adds a part, or replaces a registered one.

        Args:
            name: letters, digits, `_`, `-` and `.`.
            part: what `find` returns.
            module: the module to import where the name is to be known.

        Raises:
            ConfigError: a packaged name, or one that holds other characters.
        """
        is_name = isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) is not None
        check(is_name, self.field, name, "letters, digits, '_', '-' and '.'")
        check(name not in self.packaged, self.field, name, "a name that is not packaged")
        self[name] = part
        self.modules[name] = module

    def module_of(self, name: str) -> str | None:
        """The module to import before the name is known; None for a packaged name."""
        return name.partition(":")[0] if ":" in name else self.modules.get(name)


def unknown_part(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that no table has, with how to name a custom part."""
    custom = "(custom: module:Name, or a name that a module registers, with --import MODULE)"
    if len(names := list(known)) > FEW:
        return ConfigError(f"{unknown(kind, name, names)} {custom}")
    return ConfigError(f"{kind} is {name!r}; allowed: {', '.join(names)} {custom}")


def check_takes(number: int, function: Any, name: str, what: str) -> None:
    """Raises `ConfigError` for what cannot be called with as many arguments."""
    try:
        inspect.signature(function).bind(*range(number))
    except TypeError:
        check(False, name, function, f"a function of {what}")
    except ValueError:  # some functions written in C state no signature
        pass


def imported(field: str, name: str) -> Any:
    """What `module:Name` names; the working directory is searched, as by `python -m`.

    Raises:
        ConfigError: there is no such module or name, or importing it fails.
    """
    module_name, _, path = name.partition(":")
    found: Any = import_module(module_name, f"{field} is {name!r}, but ")
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            public = [key for key in vars(found) if not key.startswith("_")]
            raise unknown(f"name in {module_name!r}, {field} {name!r}:", attribute, public)
        found = getattr(found, attribute)
    return found


def import_module(name: str, prefix: str = "") -> Any:
    """Imports a module of the user's; the working directory is searched, as by `python -m`.

    Raises:
        ConfigError: there is no such module, or importing it fails; the line begins with `prefix`.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{prefix}there is no module {error.name!r}; allowed: a module in the working "
                "directory, or in a folder that PYTHONPATH names"
            ) from None
        raise ConfigError(f"{prefix}importing {name!r} raises {described(error)}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{prefix}importing {name!r} raises {described(error)}") from None


def described(error: BaseException) -> str:
    """The kind of an error and its first line."""
    return f"{type(error).__name__}: {first_line(error)}"


@cache
def import_entry_points() -> None:
    """Imports the modules that installed packages name in the entry points of `GROUP`.

    Raises:
        ConfigError: importing one fails.
    """
    for point in metadata.entry_points(group=GROUP):
        import_module(point.module, f"entry point {point.name!r}: ")


def refuse_missing(what: str, modules: Iterable[str | None], beside: str | None = None) -> None:
    """Refuses what needs modules that neither the user nor an entry point has imported.

    Importing runs a module's code. So what a folder names is not imported on its account.

    Args:
        what: begins the line.
        modules: that are needed.
        beside: a module that is needed later; it is named together with others that are missing.

    Raises:
        ConfigError: names all that are missing.
    """
    needed = [name for name in modules if name]
    if any(name not in sys.modules for name in needed):
        import_entry_points()
    if not (missing := [name for name in needed if name not in sys.modules]):
        return
    if beside and beside not in sys.modules:
        missing.append(beside)
    missing = list(dict.fromkeys(missing))
    names = ", ".join(map(repr, missing))
    which, them = ("module", "it") if len(missing) == 1 else ("modules", "them")
    imports = " ".join(f"--import {name}" for name in missing)
    raise ConfigError(
        f"{what} needs the {which} {names}; if you trust {them}, add {imports}, or in Python "
        f"import {them} first"
    )


def registering_module() -> str:
    """The module that registers a name, past what checks types around these functions."""
    frame, module = sys._getframe(1), __name__
    while module.partition(".")[0] in ("", "maven_jax", "jaxtyping", "beartype") and frame.f_back:
        frame = frame.f_back
        module = frame.f_globals.get("__name__", "")
    return module
