"""What a run leaves on disk, and its loading.

A run's folder holds

- `config.yaml`: the full configuration;
- `run.json`: lanes, versions, device, timings, and how the run ended (`status`). A lane is one
  training run: a `seed`, and in a sweep values of `hyperparameters.NAME`. `coordinates` are the
  values that a sweep's grid gives to all lanes of the folder, `diverged` the lanes that
  diverged, with their last finite update. `settings` are JAX's at the start, `history` describes
  every start, `config_yaml` has a checksum of each form of that file, since a run can be extended,
  `imports` has the modules that define what fields name, where these are not of this package,
  `metrics_csv` the size and checksum of that file once the run has ended, and `stopped_early` after
  how many evaluations a callback stopped the run, and why;
- `metrics.csv`: a row for each lane and evaluation, a column for each metric (`pandas.read_csv`
  opens it): `seed`, what else tells the lanes apart, `env_steps`, `num_updates`, then the metrics
  in alphabetical order, those with one value for each z as `name_0`, `name_1`, ...;
- `weights.npz`: `params/...` and `latent_params/...`, every array with a leading axis of lanes, and
  after how many evaluations they were saved (`num_chunks`);
- `checkpoints`, until the run has finished, or for good where they are kept (see `checkpoint`);
- `metrics-1.csv` and so on: rows of a run that had to begin again;
- `initial_weights.npz`, where training started from another run's: an array of each name;
- `figures` and what callbacks write (see `callbacks`): TensorBoard `events`, unless switched off,
  `log.jsonl`, `wandb` and `wandb_id`;
- `.lock`, which is locked while the run is trained (see `lock`).

A sweep of several programs is a folder of such folders, which its `sweep.json` names in order; so
is a study, of which it also names the report.
"""

import csv
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from maven_jax.config import Config, from_dict, to_dict
from maven_jax.errors import ConfigError, StorageError, first_line, shown
from maven_jax.experiments.lock import is_locked
from maven_jax.extensions import refuse_missing
from maven_jax.validation.checks import validate
from maven_jax.validation.files import AnyPath, parse_yaml
from maven_jax.validation.names import modules_of

T = TypeVar("T")

STATUSES = ("waiting", "running", "interrupted", "failed", "finished", "converted")
ENDED = ("finished", "converted")
CHECKPOINTS, WEIGHTS, INITIAL_WEIGHTS = "checkpoints", "weights.npz", "initial_weights.npz"
LONGEST_NAME = 255
"""Bytes of a folder's name."""


def load_setup(path: AnyPath) -> tuple[Config, dict[str, Any]]:
    """Reads what a run's folder holds from the start: its configuration and `run.json`.

    Raises:
        StorageError: no such folder, or a file is missing or damaged.
        ConfigError: the configuration names what a module defines that is not imported.
    """
    path = Path(path)
    if not path.is_dir():
        raise StorageError(f"run '{path}' is not a folder")
    if (path / "sweep.json").is_file():
        runs = ", ".join(f"'{part}'" for part in parts_of(path))
        raise StorageError(f"'{path}' is a sweep of several programs; allowed: one of {runs}")
    if not (path / "config.yaml").exists() and not (path / "run.json").exists():
        raise StorageError(f"'{path}' is no run's folder: config.yaml is missing")
    config = read_file(path, "config.yaml", _read_config)
    info = read_file(path, "run.json", _read_info)
    modules = modules_of(config) | info.get("imports", {})
    env = modules.pop("env.name", None)  # which `env_of_run` alone needs
    refuse_missing(f"run '{path}'", modules.values(), beside=env)
    try:
        validate(config)
    except ConfigError as error:
        raise StorageError(f"run '{path}' is damaged: config.yaml: {first_line(error)}") from None
    known, found = info.get("config_yaml"), zlib.crc32((path / "config.yaml").read_bytes())
    if known is not None and found not in known:
        raise StorageError(f"run '{path}' is damaged: config.yaml is not what training wrote")
    return config, info


def has_rows(path: Path) -> bool:
    """Whether a run's folder has an evaluation."""
    file = path / "metrics.csv"
    return file.is_file() and file.read_bytes().count(b"\n") >= 2


def checkpoint_files(path: Path) -> list[Path]:
    """The checkpoints of a run, the latest first."""
    found = (path / CHECKPOINTS).glob("*.npz")
    files = [file for file in found if file.stem.isdecimal() and file.is_file()]
    return sorted(files, key=lambda file: -int(file.stem))


def describe_status(path: Path, info: Mapping[str, Any]) -> str:
    """What has become of a run, and how to resume it: the rest of a sentence."""
    if info["status"] in ENDED:
        return "has finished" if info["status"] == "finished" else "was converted"
    if is_locked(path):
        return "is being trained"
    if info["status"] == "waiting" and _has_locked_sibling(path):
        return "waits for its turn in a sweep that is being trained"
    has_become, verb = {
        "waiting": ("has not started", "start"),
        "running": ("was killed", "resume"),
        "interrupted": ("was interrupted", "resume"),
        "failed": ("failed", "resume"),
    }[info["status"]]
    return f"{has_become}; {verb} it with: {resume_command(path)}"


def resume_command(path: Path) -> str:
    """The command that resumes a run, sweep or study, with the modules that it needs."""
    modules: set[str] = set()
    with suppress(StorageError, OSError, ValueError, AttributeError):
        for part in parts_of(path):
            named = json.loads((part / "run.json").read_text()).get("imports", {})
            modules |= {module for module in named.values() if module != "__main__"}
    imports = "".join(f" --import {module}" for module in sorted(modules))
    return f"maven-jax resume '{path}'{imports}"


def _has_locked_sibling(path: Path) -> bool:
    sweep = path.absolute().parent
    return (sweep / "sweep.json").is_file() and any(map(is_locked, sweep.iterdir()))


class SweepFile(NamedTuple):
    """What `sweep.json` holds."""

    parts: list[str]
    """The names of the parts' folders, in order."""
    report: str | None
    """The name of a study's report."""


def read_sweep(path: AnyPath) -> SweepFile:
    """Reads the `sweep.json` of a sweep or study.

    Raises:
        StorageError: it is missing or damaged.
    """
    return read_file(Path(path), "sweep.json", _read_sweep)


def parts_of(path: AnyPath) -> list[Path]:
    """The folders of a plan's parts: those that `sweep.json` names, or without it the path itself.

    Raises:
        StorageError: the file is damaged, or a folder is missing or lies elsewhere.
    """
    path = Path(path)
    if not (path / "sweep.json").exists():
        return [path]
    parts = [path / name for name in read_sweep(path).parts]
    for part in parts:
        if not part.is_dir():
            raise StorageError(f"sweep '{path}' is damaged: its part '{part.name}' is missing")
        if part.is_symlink():
            raise StorageError(
                f"sweep '{path}' is damaged: its part '{part.name}' is a link; allowed: a folder"
            )
    return parts


def is_part_name(name: Any) -> bool:
    """Whether a part of a sweep can have the name: a single visible component of a path."""
    return (
        isinstance(name, str)
        and name[:1] not in ("", ".")
        and name == Path(name).name
        and "\\" not in name
        and name.isprintable()
        and len(name.encode()) <= LONGEST_NAME
    )


def is_study(path: AnyPath) -> bool:
    """Whether a folder is one of a study: a sweep of named runs, and a report."""
    path = Path(path)
    return (path / "sweep.json").is_file() and read_sweep(path).report is not None


def read_file(path: Path, name: str, parse: Callable[[str], T]) -> T:
    """What a file of a run or sweep holds.

    Raises:
        StorageError: it is missing or damaged.
    """
    what = "sweep" if name == "sweep.json" else "run"
    if not (path / name).is_file():
        raise StorageError(f"{what} '{path}' is damaged: {name} is missing")
    try:
        return parse((path / name).read_text())
    except (ValueError, csv.Error, RecursionError) as error:
        raise StorageError(f"{what} '{path}' is damaged: {name}: {first_line(error)}") from None


def _read_config(text: str) -> Config:
    plain = parse_yaml(text)
    config = from_dict(plain)
    *_, last = to_dict(config)
    if last not in plain:  # defaults would stand for what is missing
        raise ValueError(f"its last section, {last}, is missing: the rest was cut off")
    if not text.endswith("\n"):
        raise ValueError("it ends within a line: the rest was cut off")
    return config


_NUMBER = int | float


def _read_info(text: str) -> dict[str, Any]:
    info = json.loads(text)
    if not isinstance(info, dict) or info.get("status") not in STATUSES:
        raise ValueError("it names no status")
    lanes = info.get("lanes")
    if not isinstance(lanes, dict) or not _has_form(lanes, {"seed": [int]}):
        raise ValueError(f"lanes is {shown(lanes)}; allowed: columns, seed among them")
    forms: dict[str, Any] = {
        "lanes": {name: [_NUMBER] for name in lanes},
        "coordinates": {},
        "settings": {},
        "versions": {},
        "history": [{"versions": {}}],
        "config_yaml": [int],
        "imports": dict.fromkeys(info.get("imports") or {}, str),
        "init_from": {"run": str, "lanes": {"seed": [int]}},
        "metrics_csv": {"length": int, "checksum": int},
        "stopped_early": {"num_evaluations": int, "reason": str},
        "diverged": [dict.fromkeys([*lanes, "num_updates"], _NUMBER)],
        "wall_seconds": _NUMBER,
        "train_seconds": _NUMBER,
        "seed_updates": _NUMBER,
    }
    for name, form in forms.items():
        if name in info and not _has_form(info[name], form):
            raise ValueError(f"{name} is {shown(info[name])}, which is not what training writes")
    if not lanes["seed"] or len({len(column) for column in lanes.values()}) > 1:
        raise ValueError("lanes holds columns of different lengths, or empty ones")
    if not all(0 <= seed < 2**31 for seed in lanes["seed"]):
        raise ValueError("lanes.seed holds something else than whole numbers from 0 to 2**31 - 1")
    return info


def _has_form(value: Any, form: Any) -> bool:
    """Whether a value of JSON is of a type, or a list of a form, or has entries of these forms."""
    if isinstance(form, list):
        return isinstance(value, list) and all(_has_form(entry, form[0]) for entry in value)
    if isinstance(form, dict):
        return isinstance(value, dict) and all(
            name in value and _has_form(value[name], inner) for name, inner in form.items()
        )
    return isinstance(value, form) and not isinstance(value, bool)


def _read_sweep(text: str) -> SweepFile:
    info = json.loads(text)
    parts, report = (
        (info.get("parts"), info.get("report")) if isinstance(info, dict) else (None,) * 2
    )
    if not isinstance(report, str | None):
        raise ValueError(f"report is {report!r}; allowed: a name")
    if not isinstance(parts, list) or not parts or not all(map(is_part_name, parts)):
        raise ValueError(f"parts is {shown(parts)}; allowed: a list of names of folders in it")
    if len(set(parts)) < len(parts):
        raise ValueError(f"parts is {shown(parts)}; allowed: each name once")
    return SweepFile(parts, report)
