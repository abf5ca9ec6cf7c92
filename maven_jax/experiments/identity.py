"""What identifies a run, and the same command once more: it finds the folder that it made.

A run is its configuration, its lanes, its place in a sweep's grid and the weights that it starts
from. Nothing else changes what it computes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maven_jax.config import Config, to_dict
from maven_jax.config.fields import flatten
from maven_jax.environments.registry import default_options
from maven_jax.errors import StorageError, shown
from maven_jax.experiments.folder import load_setup, parts_of, read_sweep, resume_command
from maven_jax.experiments.new_folder import Setup
from maven_jax.validation.files import parse_yaml


def holds(path: Path, setups: Mapping[str, Setup], report: str | None) -> bool:
    """Whether a folder holds a plan already.

    Raises:
        StorageError: it holds another plan, or is damaged.
    """
    is_sweep = (path / "sweep.json").is_file()
    if not is_sweep and not (path / "run.json").is_file():
        return False
    what = "study" if report else "run" if "" in setups else "sweep"
    if is_sweep == ("" in setups):
        difference: str | None = f"it is {'several runs' if is_sweep else 'a single run'}"
    else:
        difference = _find_difference(path, setups, report)
    if difference is not None:
        raise StorageError(
            f"'{path}' holds another {what}: {difference}; choose a new path, or resume what is "
            f"there with: {resume_command(path)}"
        )
    return True


def _find_difference(path: Path, setups: Mapping[str, Setup], report: str | None) -> str | None:
    if "" in setups:
        return _find_other_run(path, setups[""])
    found = read_sweep(path)
    if found.report != report:
        return f"its report is {found.report!r}, not {report!r}"
    if set(found.parts) != set(setups):
        return f"its runs are {', '.join(found.parts)}"
    for folder in parts_of(path):
        difference = _find_other_run(folder, setups[folder.name])
        if difference is not None:
            return f"run '{folder.name}': {difference}"
    return None


def _find_other_run(path: Path, setup: Setup) -> str | None:
    """In what the run of a folder differs from what was asked for; None where it does not.

    Raises:
        StorageError: the folder is damaged.
    """
    config, info = load_setup(path)
    if info["status"] == "converted":
        return "its weights were converted, not trained"
    there = _identity(config, info)
    asked = _identity(setup.config, setup.info)
    differing = [
        f"{name} is {shown(there.get(name))} there, {shown(asked.get(name))} here"
        for name in [*there, *(name for name in asked if name not in there)]
        if there.get(name) != asked.get(name)
    ]
    if differing:
        others = f" ({len(differing) - 1} more differ)" if differing[1:] else ""
        return differing[0] + others
    start, wanted = (record.get("init_from", {}) for record in (info, setup.info))
    if any(start.get(name) != wanted.get(name) for name in ("weights", "lanes")):
        if not start:
            return "it starts from new weights"
        return f"it starts from {'other' if wanted else 'the'} weights, of {start['run']!r}"
    return None


def _identity(config: Config, info: Mapping[str, Any]) -> dict[str, Any]:
    """Fields, lanes and coordinates by name, as they are read from files."""
    env = config.env.name
    options = {f"env.options.{name}": value for name, value in default_options(env).items()}
    fields = options | flatten(parse_yaml(yaml.safe_dump(to_dict(config))))
    coordinates = info.get("coordinates", {}).items()
    rest = info["lanes"] | {f"coordinates.{name}": value for name, value in coordinates}
    return json.loads(json.dumps(fields | rest, default=str))
