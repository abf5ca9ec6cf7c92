"""Parts of your own, by `module:Name`.

They are imported from the working directory or from a folder that `PYTHONPATH` names.
"""

import importlib
import os
import sys
from typing import Any

from maven_jax.errors import ConfigError, first_line, unknown


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
