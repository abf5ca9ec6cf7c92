"""What a run leaves on disk, and its loading.

A run's folder holds

- `config.yaml`: the full configuration;
- `run.json`: lanes, versions, device, timings, and how the run ended (`status`). A lane is one
  training run: a `seed`, and in a sweep values of `hyperparameters.NAME`. `coordinates` are the
  values that a sweep's grid gives to all lanes of the folder, `diverged` the lanes that turned
  non-finite, with their last finite update;
- `metrics.csv`: a row for each lane and evaluation, a column for each metric (`pandas.read_csv`
  opens it): `seed`, what else tells the lanes apart, `env_steps`, `num_updates`, then the metrics
  in alphabetical order, those with one value for each z as `name_0`, `name_1`, ...;
- `weights`: Orbax: `params` and `latent_params`, every array with a leading axis of lanes;
- `checkpoints`, until the run has finished (see `checkpoint`);
- `figures` and, unless switched off, TensorBoard `events`.

A sweep of several programs is a folder of such folders, which its `sweep.json` names in order.
"""

import csv
import dataclasses
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
import yaml

from maven_jax import __version__
from maven_jax.config import (
    Config,
    ConfigError,
    first_line,
    from_dict,
    parse_yaml,
    to_dict,
    unknown,
    validate,
)
from maven_jax.types import NetworkParams, Params

T = TypeVar("T")

COUNTERS = ("env_steps", "num_updates")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "distrax", "jumanji", "flashbax")


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run, as read from its folder."""

    path: Path
    config: Config
    info: dict[str, Any]
    metrics: dict[str, np.ndarray]
    """Column name to values, one a row of `metrics.csv`."""

    @property
    def lanes(self) -> dict[str, list[Any]]:
        """What tells the lanes apart: a list with an entry of each lane, by column name."""
        return self.info["lanes"]

    @property
    def num_lanes(self) -> int:
        """How many runs this is."""
        return len(self.lanes["seed"])

    @property
    def diverged(self) -> list[dict[str, Any]]:
        """Lanes that turned non-finite: their columns, and `num_updates`, their last finite one."""
        return self.info.get("diverged", [])

    @cached_property
    def _lane_of_row(self) -> np.ndarray:
        index = {lane: i for i, lane in enumerate(zip(*self.lanes.values(), strict=True))}
        rows = zip(*(self.metrics[name] for name in self.lanes), strict=True)
        return np.array([index.get(row, -1) for row in rows], int)

    def points(self) -> list["Point"]:
        """Coordinates and lanes of every point of a sweep's grid; one point where there is none."""
        varied = [name for name in self.lanes if name != "seed"]
        of_lane = list(zip(*(self.lanes[name] for name in varied), strict=True))
        of_lane = of_lane or [()] * self.num_lanes
        points = []
        for point in dict.fromkeys(of_lane):
            lanes = [lane for lane, other in enumerate(of_lane) if other == point]
            rows = np.isin(self._lane_of_row, lanes)
            own = {name: [column[lane] for lane in lanes] for name, column in self.lanes.items()}
            broken = [lane for lane in self.diverged if tuple(lane[k] for k in varied) == point]
            run = dataclasses.replace(
                self,
                info=self.info | {"lanes": own, "diverged": broken},
                metrics={name: column[rows] for name, column in self.metrics.items()},
            )
            coordinates = dict(zip(varied, point, strict=True))
            points.append((self.info.get("coordinates", {}) | coordinates, run))
        return points

    def curves(self, metric: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Environment steps and values of one metric, lane by lane; none of a lane without rows.

        Raises:
            ConfigError: the run has no such metric.
        """
        if metric not in self.metrics:
            raise unknown(f"metric of run {str(self.path)!r}:", metric, self.metrics)
        for lane in np.unique(self._lane_of_row):
            rows = self._lane_of_row == lane
            yield self.metrics["env_steps"][rows], self.metrics[metric][rows]

    @property
    def last_step(self) -> int:
        """The environment step up to which lanes have curves; an interrupted run's is less.

        A lane that diverged is not waited for: it keeps its last value.
        """
        names = list(self.lanes)
        broken = {tuple(lane[name] for name in names) for lane in self.diverged}
        lanes = list(zip(*self.lanes.values(), strict=True))
        with_rows = np.unique(self._lane_of_row)
        ends = {
            lanes[lane]: int(steps[-1])
            for lane, (steps, _) in zip(with_rows, self.curves("env_steps"), strict=True)
        }
        sound = [end for lane, end in ends.items() if lane not in broken]
        return min([*(sound or ends.values()), self.config.training.total_env_steps])

    def final(self, metric: str) -> np.ndarray:
        """Each lane's latest value of a metric up to `last_step`, or its first if none is."""
        end = np.array([self.last_step])
        values = []
        for steps, x in self.curves(metric):
            latest = on_grid(steps, x, end)[0]
            values.append(x[0] if np.isnan(latest) else latest)
        return np.array(values)


Point = tuple[dict[str, Any], Run]
"""Coordinates in a sweep's grid, and the lanes there."""


def points_of(runs: Sequence[Run]) -> list[Point]:
    """The points of a sweep's grid; one whose lanes were run in several groups stands once."""
    merged: dict[str, Point] = {}
    for coordinates, lanes in (point for run in runs for point in run.points()):
        key = repr(coordinates)
        merged[key] = (coordinates, _join(merged[key][1], lanes) if key in merged else lanes)
    return list(merged.values())


def _join(first: Run, second: Run) -> Run:
    """The lanes of both, which have the same columns."""
    names = first.lanes
    return dataclasses.replace(
        first,
        info=first.info
        | {
            "lanes": {name: first.lanes[name] + second.lanes[name] for name in names},
            "diverged": first.diverged + second.diverged,
        },
        metrics={
            name: np.concatenate([column, second.metrics[name]])
            for name, column in first.metrics.items()
        },
    )


def on_grid(steps: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A curve on a common grid: at each point the latest evaluation so far, NaN before the first.

    Args:
        steps: environment steps of the evaluations, increasing.
        values: what they found.
        grid: environment steps at which to read the curve.
    """
    index = np.searchsorted(steps, grid, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan)


def quartiles(run: Run, metric: str, grid: np.ndarray) -> np.ndarray:
    """25th, 50th and 75th percentile over seeds at each grid point: `[3, len(grid)]`."""
    curves = np.stack([on_grid(steps, values, grid) for steps, values in run.curves(metric)])
    return np.percentile(curves, [25, 50, 75], axis=0)


def refuse_existing(what: str, path: Path) -> None:
    """Raises `ConfigError` where something is, since nothing on disk is ever written over.

    And for a path that is no text, in which libraries could not save.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} {str(path)!r} is no UTF-8; allowed: a path that is") from None
    if os.path.lexists(path):
        raise ConfigError(f"{what} '{path}' exists; allowed: a path where nothing is yet")


def create_run_folder(path: Path, config: Config, info: dict[str, Any]) -> None:
    """Makes a new run's folder with its configuration and `run.json`: all of it, or nothing.

    Raises:
        ConfigError: something is there already, or the folder cannot be made.
    """
    _create(path, lambda draft: _set_up(draft, config, info))


def create_sweep_folder(path: Path, runs: Mapping[str, tuple[Config, dict[str, Any]]]) -> None:
    """Makes a folder of several runs' folders, by their names: all of it, or nothing.

    Raises:
        ConfigError: something is there already, or the folder cannot be made.
    """

    def fill(draft: Path) -> None:
        for name, (config, info) in runs.items():
            (draft / name).mkdir()
            _set_up(draft / name, config, info)
        replace_text(draft / "sweep.json", json.dumps({"parts": list(runs)}, indent=2) + "\n")

    _create(path, fill)


def _set_up(folder: Path, config: Config, info: dict[str, Any]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    write_info(folder, info)


def _create(path: Path, fill: Callable[[Path], None]) -> None:
    refuse_existing("output folder", path)  # among them those without a name, such as `.`
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        fill(draft)
        draft.rename(path)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ConfigError(f"output folder '{path}' cannot be made: {error.strerror}") from None


def describe_machine() -> dict[str, Any]:
    """Versions and device of this process, for `run.json`."""
    devices = jax.devices()
    return {
        "versions": {"maven-jax": __version__}
        | {name: metadata.version(name) for name in PACKAGES},
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "num_devices": len(devices),
    }


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Writes `run.json`."""
    replace_text(path / "run.json", json.dumps(info, indent=2) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it, at any moment, finds the old text or the new."""
    draft = path.with_name(f".{path.name}")
    with draft.open("w", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class MetricsWriter:
    """Appends evaluations to `metrics.csv`, on disk after every chunk."""

    def __init__(self, path: Path, lanes: Mapping[str, np.ndarray], text: str = "") -> None:
        """Opens the file.

        Args:
            path: the run's folder.
            lanes: what tells the lanes apart, an entry of each lane by column name.
            text: what the file holds so far; anything else in it is dropped.
        """
        self._path = path / "metrics.csv"
        replace_text(self._path, text)
        self._file: TextIO = self._path.open("a", newline="")
        self._writer: Any = csv.writer(self._file)
        self._needs_header = not text
        self._lanes = lanes

    def write(self, metrics: dict[str, np.ndarray], active: np.ndarray) -> None:
        """One row for each active lane."""
        columns = {**self._lanes, **_columns(metrics)}
        if self._needs_header:
            self._writer.writerow(columns)
            self._needs_header = False
        for lane in np.flatnonzero(active):
            self._writer.writerow([column[lane] for column in columns.values()])
        self._file.flush()

    def read(self) -> str:
        """What the file holds."""
        return self._path.read_bytes().decode()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _columns(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Counters first, then the other metrics by name; one column for each z of a vector."""
    columns = {}
    for name in [*COUNTERS, *sorted(set(metrics) - set(COUNTERS))]:
        value = metrics[name]
        if value.ndim == 1:
            columns[name] = value
        else:
            columns |= {f"{name}_{i}": value[:, i] for i in range(value.shape[1])}
    return columns


@contextmanager
def orbax_path(path: Path) -> Iterator[Path]:
    """The folder, by a link where Orbax would take its name for a pattern: it holds `[`."""
    whole = path.absolute()
    if glob.escape(str(whole)) == str(whole) and "\\" not in str(whole):
        yield whole
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(whole)
        yield link


def save_weights(path: Path, params: Params, latent_params: NetworkParams) -> None:
    """Writes the weights of every lane, by Orbax, in the place of any that are there.

    Raises:
        ConfigError: they cannot be written.
    """
    weights = {"params": params, "latent_params": latent_params}
    try:
        with ocp.StandardCheckpointer() as checkpointer, orbax_path(path) as folder:
            checkpointer.save(folder / "weights", weights, force=True)
            checkpointer.wait_until_finished()
    except Exception as error:  # Orbax and TensorStore raise many kinds, for a full disk too
        raise ConfigError(f"weights cannot be written in '{path}': {first_line(error)}") from None


def load_weights(
    run: Run, params: Params, latent_params: NetworkParams
) -> tuple[Params, NetworkParams]:
    """Reads the weights of every lane.

    Args:
        run: the run.
        params: arrays or `ShapeDtypeStruct`s of the expected shapes, a leading axis of lanes.
        latent_params: the same for the latent policy.

    Raises:
        ConfigError: the weights are missing or damaged, or of other shapes.
    """
    if not (run.path / "weights").is_dir():
        raise ConfigError(f"run '{run.path}' has no weights")
    try:
        with ocp.StandardCheckpointer() as checkpointer, orbax_path(run.path) as folder:
            restored = checkpointer.restore(
                folder / "weights", {"params": params, "latent_params": latent_params}
            )
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        reason = first_line(error, 200)
        raise ConfigError(f"weights of run '{run.path}' are damaged: {reason}") from None
    for (name, found), wanted in zip(
        jax.tree_util.tree_leaves_with_path(restored),
        jax.tree.leaves({"params": params, "latent_params": latent_params}),
        strict=True,
    ):
        if found.shape != wanted.shape:
            raise ConfigError(
                f"weights of run '{run.path}' are damaged: {jax.tree_util.keystr(name)} has shape "
                f"{found.shape}; expected {wanted.shape}"
            )
    return restored["params"], restored["latent_params"]


def load_run(path: Path) -> Run:
    """Reads a run's folder.

    Raises:
        ConfigError: no such folder, or a file in it is missing or damaged.
    """
    config, info = load_setup(path)
    run = Run(path, config, info, _read(path, "metrics.csv", _read_metrics))
    lanes = set(zip(*run.lanes.values(), strict=True))
    broken = {tuple(lane.get(name) for name in run.lanes) for lane in run.diverged}
    named = (run.metrics.get(name, np.full(len(run.metrics["seed"]), np.nan)) for name in run.lanes)
    found = set(zip(*named, strict=True))
    if not found and lanes - broken:
        raise ConfigError(f"run '{path}' is damaged: metrics.csv: there is no evaluation in it")
    if not lanes - broken <= found <= lanes:
        raise ConfigError(
            f"run '{path}' is damaged: metrics.csv holds other lanes than run.json names"
        )
    if any((np.diff(steps) <= 0).any() for steps, _ in run.curves("env_steps")):
        raise ConfigError(f"run '{path}' is damaged: metrics.csv: env_steps do not increase")
    return run


def load_setup(path: Path) -> tuple[Config, dict[str, Any]]:
    """Reads what a run's folder holds from the start: its configuration and `run.json`.

    Raises:
        ConfigError: no such folder, or a file is missing or damaged.
    """
    if not path.is_dir():
        raise ConfigError(f"run '{path}' is not a folder")
    return _read(path, "config.yaml", _read_config), _read(path, "run.json", _read_info)


def load_runs(path: Path) -> list[Run]:
    """Reads a run's folder, or those of a sweep of several programs that have begun.

    Raises:
        ConfigError: no such folder, a file in it is missing or damaged, or nothing has begun.
    """
    if not (path / "sweep.json").is_file():
        return [load_run(path)]
    begun = [part for part in sweep_parts(path) if load_setup(part)[1]["status"] != "waiting"]
    if not begun:
        raise ConfigError(f"sweep '{path}' has no run that has begun")
    return [load_run(part) for part in begun]


def sweep_parts(path: Path) -> list[Path]:
    """The folders of a sweep of several programs, as its `sweep.json` names them.

    Raises:
        ConfigError: the file is damaged.
    """
    return [path / name for name in _read(path, "sweep.json", _read_parts)]


def _read(path: Path, name: str, parse: Callable[[str], T]) -> T:
    if not (path / name).is_file():
        raise ConfigError(f"run '{path}' is damaged: {name} is missing")
    try:
        return parse((path / name).read_text())
    except (ValueError, csv.Error, RecursionError) as error:
        raise ConfigError(f"run '{path}' is damaged: {name}: {first_line(error)}") from None


def _read_config(text: str) -> Config:
    config = from_dict(parse_yaml(text))
    validate(config)
    return config


def _read_info(text: str) -> dict[str, Any]:
    info = json.loads(text)
    if not isinstance(info, dict) or not isinstance(info.get("status"), str):
        raise ValueError("it names no status")
    lanes = info.get("lanes")
    if not isinstance(lanes, dict) or "seed" not in lanes:
        raise ValueError(f"lanes is {lanes!r}; allowed: a mapping of columns, seed among them")
    for name, column in lanes.items():
        numbers = isinstance(column, list) and all(type(x) in (int, float) for x in column)
        if not numbers or not column or len(column) != len(lanes["seed"]):
            raise ValueError(f"lanes.{name} is no list of a number for each lane")
    return info


def _read_parts(text: str) -> list[str]:
    info = json.loads(text)
    parts = info.get("parts") if isinstance(info, dict) else None
    plain = isinstance(parts, list) and all(
        isinstance(name, str) and name == Path(name).name for name in parts
    )
    if not plain or not parts:
        raise ValueError(f"parts is {parts!r}; allowed: a list of folders' names")
    return parts


def _read_metrics(text: str) -> dict[str, np.ndarray]:
    header, *rows = csv.reader(text.splitlines()) if text else [[]]
    if not header:
        raise ValueError("there is no evaluation in it")
    if any(len(row) != len(header) for row in rows):
        raise ValueError("its rows are of different lengths")
    columns = np.array(rows, float).reshape(len(rows), len(header)).T
    metrics = dict(zip(header, columns, strict=True))
    for name in ("seed", *COUNTERS):
        if name not in metrics:
            raise ValueError(f"column {name} is missing")
        if not (np.isfinite(metrics[name]) & (metrics[name] >= 0)).all():
            raise ValueError(f"column {name} holds something else than whole numbers")
    return metrics
