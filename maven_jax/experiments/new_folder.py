"""Making the folder of a plan, and the files that stand in a run's from the start."""

import json
import os
import platform
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import yaml

from maven_jax import __version__
from maven_jax.config import Config, to_dict
from maven_jax.errors import StorageError, check
from maven_jax.experiments.array_files import write_arrays
from maven_jax.experiments.files import draft_of, replace_text, sync
from maven_jax.experiments.folder import INITIAL_WEIGHTS, is_part_name
from maven_jax.validation.files import AnyPath

PACKAGES = ("jax", "jaxlib", "flax", "optax", "distrax", "jumanji", "flashbax", "jaxmarl", "numpy")
"""Whose versions a run records, as far as they are installed."""


def refuse_existing(what: str, path: AnyPath) -> None:
    """Raises `StorageError` where something is, since what is there is not written over.

    And for a path that is no text, in which libraries could not save, or in what is no folder.
    """
    path = Path(path)
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise StorageError(
            f"{what} {str(path)!r} is not valid UTF-8; choose another path"
        ) from None
    same = path, Path(os.path.normpath(path)), path.resolve()  # of `new/../old`, too
    if any(map(os.path.lexists, same)):
        raise StorageError(f"{what} '{path}' already exists; choose a new path")
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise StorageError(f"{what} '{path}' cannot be made: '{above}' is not a folder")


class Setup(NamedTuple):
    """What a part's folder is made with."""

    config: Config
    info: dict[str, Any]
    """`run.json` of a run that has not begun."""
    initial_weights: Mapping[str, np.ndarray] | None = None
    """By names such as `params/agent/w`, each with an axis of lanes; None for fresh weights."""


def create_folder(path: AnyPath, setups: Mapping[str, Setup], report: str | None = None) -> None:
    """Makes the folder of a plan: all of it, or nothing.

    Args:
        path: folder to make.
        setups: of the parts, by the names of their folders; `""` for one that is the folder.
        report: the name of a study's report.

    Raises:
        ConfigError: a name that no folder can have.
        StorageError: something is there already, or the folder cannot be made.
    """
    path = Path(path)
    for name in setups:
        fits = not name or is_part_name(name)
        check(fits, "the name of a part", name, "one that a folder can have")
    refuse_existing("output folder", path)  # among them those without a name, such as `.`
    draft = draft_of(path)
    try:
        draft.mkdir(parents=True)
        for name, (config, info, weights) in setups.items():
            (draft / name).mkdir(exist_ok=True)
            write_info(draft / name, info | {"config_yaml": [checksum_of(config)]})
            write_config(draft / name, config)
            if weights is not None:
                write_arrays(draft / name / INITIAL_WEIGHTS, weights)
        if "" not in setups:
            plan = {"parts": list(setups)} | ({"report": report} if report else {})
            replace_text(draft / "sweep.json", json.dumps(plan, indent=2) + "\n")
        for entry in [*draft.rglob("*"), draft, draft.parent]:
            sync(entry)
        draft.rename(path)
        sync(path.parent)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            reason = f"output folder '{path}' cannot be made: {error.strerror}"
            raise StorageError(reason) from None
        raise


def create_run_folder(path: AnyPath, config: Config, info: dict[str, Any]) -> None:
    """`create_folder` of a plan of one part."""
    create_folder(path, {"": Setup(config, info)})


def describe_machine() -> dict[str, Any]:
    """Versions and device of this process, for `run.json`."""
    devices = jax.devices()
    return {
        "versions": {
            "maven-jax": __version__,
            "python": platform.python_version(),
            **dict(_installed()),
        },
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "num_devices": len(devices),
    }


def _installed() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def write_config(path: Path, config: Config) -> None:
    """Writes `config.yaml`, whose checksum `run.json` should have by then."""
    replace_text(path / "config.yaml", _as_yaml(config))


def checksum_of(config: Config) -> int:
    """What `run.json` has of `config.yaml`."""
    return zlib.crc32(_as_yaml(config).encode())


def _as_yaml(config: Config) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Writes `run.json`."""
    replace_text(path / "run.json", json.dumps(info, indent=2) + "\n")
