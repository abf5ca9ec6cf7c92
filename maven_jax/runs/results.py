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
- `weights`: Orbax: `params` and `latent_params`, every array with a leading axis of lanes; beside
  them after how many evaluations they were saved, and checksums;
- `checkpoints`, until the run has finished, or for good where they are kept (see `checkpoint`);
- `metrics-1.csv` and so on: rows of a run that had to begin again;
- `initial_weights.npz`, where training started from another run's: an array of each name;
- `figures` and, unless switched off, TensorBoard `events`.

A sweep of several programs is a folder of such folders, which its `sweep.json` names in order.
"""

import csv
import dataclasses
import glob
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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
from maven_jax.environments import default_options
from maven_jax.runs.files import (
    CHECKSUMS,
    draft_of,
    find_damage,
    is_locked,
    replace_folder,
    replace_text,
    replaced,
    sync,
    sync_tree,
    write_checksums,
)
from maven_jax.runs.grid import flatten, with_field
from maven_jax.runs.processes import by_writer
from maven_jax.types import NetworkParams, Params

T = TypeVar("T")

STATUSES = ("waiting", "running", "interrupted", "failed", "finished", "converted")
ENDED = ("finished", "converted")
CHECKPOINTS, WEIGHTS, INITIAL_WEIGHTS = "checkpoints", "weights", "initial_weights.npz"
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
    joined: tuple[Path, ...] = ()
    """Folders of the other runs whose seeds stand beside this one's (`points_of`)."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its lanes are from."""
        return (self.path, *self.joined)

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

    @property
    def num_evaluations(self) -> int:
        """How many rows the lane has that has most."""
        rows = self._lane_of_row[self._lane_of_row >= 0]
        return int(np.bincount(rows).max()) if rows.size else 0

    @cached_property
    def _lane_of_row(self) -> np.ndarray:
        index = {lane: i for i, lane in enumerate(zip(*self.lanes.values(), strict=True))}
        rows = zip(*(self.metrics[name] for name in self.lanes), strict=True)
        return np.array([index.get(row, -1) for row in rows], int)

    def points(self) -> list["Point"]:
        """Coordinates and seeds of every point of a sweep's grid; one point where there is none.

        The configuration of each is its own, with the values that tell its lanes from others.
        """
        varied = [name for name in self.lanes if name != "seed"]
        of_lane = list(zip(*(self.lanes[name] for name in varied), strict=True))
        of_lane = of_lane or [()] * self.num_lanes
        points = []
        for point in dict.fromkeys(of_lane):
            lanes = [lane for lane, other in enumerate(of_lane) if other == point]
            rows = np.isin(self._lane_of_row, lanes)
            seeds = [self.lanes["seed"][lane] for lane in lanes]
            broken = [lane for lane in self.diverged if tuple(lane[k] for k in varied) == point]
            coordinates = dict(zip(varied, point, strict=True))
            config = self.config
            for field, value in coordinates.items():
                config = with_field(config, field, value)
            run = dataclasses.replace(
                self,
                config=config,
                info=self.info | {"lanes": {"seed": seeds}, "diverged": broken},
                metrics={name: column[rows] for name, column in self.metrics.items()},
            )
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
        """A metric at each lane's last evaluation, which is that of its final weights.

        Raises:
            ConfigError: the run has no such metric.
        """
        return np.array([values[-1] for _, values in self.curves(metric)])


Point = tuple[dict[str, Any], Run]
"""Coordinates in a sweep's grid, and the lanes there."""


def points_of(runs: Iterable[Run]) -> list[Point]:
    """The experiments among runs, each a configuration with all its seeds.

    A point of a sweep's grid is one; runs of the same configuration, in whatever folders, groups
    or sweeps their seeds are, are the same one.

    Raises:
        ConfigError: an experiment has a seed twice.
    """
    experiments: dict[str, list[Point]] = {}
    for run in runs:
        for point in run.points():
            key = repr(sorted(experiment_fields(point[1]).items()))
            experiments.setdefault(key, []).append(point)
    return [_join(points) for points in experiments.values()]


def experiment_fields(run: Run) -> dict[str, Any]:
    """What an experiment is: every field by its dotted name, the environment's options in full.

    Of converted weights also the folder that they are from.
    """
    env = run.config.env.name
    options = {f"env.options.{name}": value for name, value in default_options(env).items()}
    source = {"source": run.info["source"]} if "source" in run.info else {}
    return options | flatten(to_dict(run.config)) | source


def _join(points: Sequence[Point]) -> Point:
    """The lanes of one experiment."""
    coordinates = {name: value for own, _ in points for name, value in own.items()}
    runs = [run for _, run in points]
    folders: dict[int, Path] = {}
    for run in runs:
        for seed in run.lanes["seed"]:
            if seed in folders:
                raise ConfigError(
                    f"seed {seed} of one experiment is in '{folders[seed]}' and in '{run.path}'; "
                    "allowed: each seed once"
                )
            folders[seed] = run.path
    first, *others = runs
    shared = [name for name in first.metrics if all(name in run.metrics for run in others)]
    diverged = [lane for run in runs for lane in run.diverged]
    joined = dataclasses.replace(
        first,
        info=first.info | {"lanes": {"seed": list(folders)}, "diverged": diverged},
        metrics={name: np.concatenate([run.metrics[name] for run in runs]) for name in shared},
        joined=tuple(run.path for run in others),
    )
    return coordinates, joined


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

    And for a path that is no text, in which libraries could not save, or in what is no folder.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} {str(path)!r} is no UTF-8; allowed: a path that is") from None
    same = path, Path(os.path.normpath(path)), path.resolve()  # of `new/../old`, too
    if any(map(os.path.lexists, same)):
        raise ConfigError(f"{what} '{path}' exists; allowed: a path where nothing is yet")
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise ConfigError(f"{what} '{path}' cannot be made: '{above}' is not a folder")


def create_run_folder(
    path: Path,
    config: Config,
    info: dict[str, Any],
    initial_weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Makes a new run's folder with its configuration and `run.json`: all of it, or nothing.

    Args:
        path: folder to make.
        config: the run's configuration.
        info: its `run.json`.
        initial_weights: what training starts from, by names, if not from fresh weights.

    Raises:
        ConfigError: something is there already, or the folder cannot be made.
    """

    def fill(draft: Path) -> None:
        _set_up(draft, config, info)
        if initial_weights is not None:
            np.savez(draft / INITIAL_WEIGHTS, **initial_weights)  # type: ignore[arg-type]

    _create(path, fill)


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
    write_config(folder, config)
    write_info(folder, info)


def _create(path: Path, fill: Callable[[Path], None]) -> None:
    refuse_existing("output folder", path)  # among them those without a name, such as `.`
    draft = draft_of(path)
    try:
        draft.mkdir(parents=True)
        fill(draft)
        sync_tree(draft)
        draft.rename(path)
        sync(path.parent)
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


def write_config(path: Path, config: Config) -> None:
    """Writes `config.yaml`."""
    replace_text(path / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Writes `run.json`."""
    replace_text(path / "run.json", json.dumps(info, indent=2) + "\n")


class Rows(NamedTuple):
    """How much of `metrics.csv` there was, by which a checkpoint knows its rows again."""

    length: int
    """Bytes."""
    checksum: int
    """CRC-32 of these bytes."""


class MetricsWriter:
    """Appends evaluations to `metrics.csv`, in the file after every chunk.

    Attributes:
        rows: how much there is in it.
    """

    def __init__(self, path: Path, lanes: Mapping[str, np.ndarray], length: int = 0) -> None:
        """Opens the file.

        Args:
            path: the run's folder.
            lanes: what tells the lanes apart, an entry of each lane by column name.
            length: bytes of the file to append to; what comes after them is dropped.
        """
        self._path = path / "metrics.csv"
        self._path.touch()
        sync(path)
        self._file = self._path.open("r+b")
        kept = self._file.read(length)
        self.rows = Rows(len(kept), zlib.crc32(kept))
        self._file.truncate(len(kept))
        self._lanes = lanes

    def write(self, metrics: dict[str, np.ndarray], active: np.ndarray) -> None:
        """One row for each active lane.

        Raises:
            OSError: they cannot be written.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        columns = {**self._lanes, **_columns(metrics)}
        if not self.rows.length:
            writer.writerow(columns)
        for lane in np.flatnonzero(active):
            writer.writerow([column[lane] for column in columns.values()])
        added = text.getvalue().encode()
        try:
            self._file.write(added)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self.rows = Rows(self.rows.length + len(added), zlib.crc32(added, self.rows.checksum))

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        sync(self._path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def find_other_rows(path: Path, rows: Rows) -> str | None:
    """How `metrics.csv` differs from the rows that a checkpoint goes on from; None if it does not.

    Args:
        path: the run's folder.
        rows: those that the file should begin with.
    """
    try:
        with (path / "metrics.csv").open("rb") as file:
            kept = file.read(rows.length)
    except OSError as error:
        return f"metrics.csv cannot be read: {error.strerror}"
    if len(kept) < rows.length:
        return f"metrics.csv was cut to {len(kept)} of {rows.length} bytes"
    if zlib.crc32(kept) != rows.checksum:
        return f"metrics.csv was changed in its first {rows.length} bytes"
    return None


def set_metrics_aside(path: Path) -> Path | None:
    """Renames a `metrics.csv` that has rows, for a run that begins again; its new name."""
    file = path / "metrics.csv"
    if not file.is_file() or file.read_bytes().count(b"\n") < 2:
        return None
    numbers = (path / f"metrics-{number}.csv" for number in range(1, 10**6))
    aside = next(name for name in numbers if not name.exists())
    file.rename(aside)
    sync(path)
    return aside


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


def save_weights(path: Path, params: Params, latent_params: NetworkParams, num_chunks: int) -> None:
    """Writes the weights of every lane, by Orbax; any that are there stay until these are whole.

    Args:
        path: the run's folder.
        params: weights, with a leading axis of lanes.
        latent_params: the same for the latent policy.
        num_chunks: evaluations before they were saved.

    Raises:
        ConfigError: they cannot be written.
    """
    draft = path / f".{WEIGHTS}"
    weights = {"params": params, "latent_params": latent_params}

    def clean() -> None:
        for left in path.glob(f"{draft.name}*"):  # by a process that was killed here
            if not left.name.endswith(".old"):
                shutil.rmtree(left, ignore_errors=True)

    def settle() -> None:
        replace_text(draft / "progress.json", json.dumps({"num_chunks": num_chunks}))
        write_checksums(draft)
        replace_folder(draft, path / WEIGHTS)

    try:
        by_writer(clean)
        with ocp.StandardCheckpointer() as checkpointer, orbax_path(path) as folder:
            checkpointer.save(folder / draft.name, weights, force=True)
            checkpointer.wait_until_finished()
        by_writer(settle)
    except Exception as error:  # Orbax and TensorStore raise many kinds, for a full disk too
        raise ConfigError(f"weights cannot be written in '{path}': {first_line(error)}") from None


class Weights(NamedTuple):
    """Weights as they are on disk."""

    arrays: dict[str, np.ndarray]
    """By names such as `params/agent/rnn/kernel`; a leading axis of lanes."""
    num_chunks: int | None
    """Evaluations before they were saved; None where that is not known."""


def read_weights(path: Path) -> Weights:
    """Reads the weights of a run's folder, whatever their shapes.

    Raises:
        ConfigError: they are missing or damaged.
    """
    folder = (path / WEIGHTS).absolute()
    if not folder.is_dir():
        folder = replaced(folder)
    if not folder.is_dir():
        raise ConfigError(f"run '{path}' has no weights")
    try:
        damage = find_damage(folder) if (folder / CHECKSUMS).is_file() else None
        if damage is not None:
            raise ValueError(damage)
        progress = folder / "progress.json"
        number = json.loads(progress.read_text())["num_chunks"] if progress.is_file() else None
        return Weights(read_arrays(folder), number)
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        reason = first_line(error, 200)
        raise ConfigError(f"weights of run '{path}' are damaged: {reason}") from None


def read_initial_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights that a run started from, by their names; a leading axis of lanes.

    Raises:
        ConfigError: they are missing or damaged.
    """
    try:
        with np.load(path / INITIAL_WEIGHTS) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise ConfigError(f"run '{path}' is damaged: {INITIAL_WEIGHTS} is missing") from None
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise ConfigError(
            f"run '{path}' is damaged: {INITIAL_WEIGHTS}: {first_line(error, 200)}"
        ) from None


def read_arrays(folder: Path, roots: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Arrays that Orbax has written, in the host's memory, by names such as `params/agent/w`.

    Args:
        folder: where they are.
        roots: the first parts of the names that are wanted; by default all.
    """
    with closing(ocp.PyTreeCheckpointHandler()) as handler, orbax_path(folder) as source:
        tree = handler.metadata(source).tree
    if roots:  # what is not wanted costs no memory
        tree = {name: leaf for name, leaf in tree.items() if _name(name).split("/")[0] in roots}
    wanted = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)
    as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    with ocp.PyTreeCheckpointer() as checkpointer, orbax_path(folder) as source:
        arguments = ocp.args.PyTreeRestore(wanted, as_arrays, partial_restore=True)
        found = checkpointer.restore(source, args=arguments)
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {_name(jax.tree_util.keystr(path)): np.asarray(leaf) for path, leaf in leaves}


def _name(path: str) -> str:
    """The words of a path in a tree, whatever holds them: a dictionary, or a NamedTuple."""
    return "/".join(re.findall(r"\w+", path))


def fit_weights(
    arrays: Mapping[str, np.ndarray], params: Params, latent_params: NetworkParams, what: str
) -> tuple[Params, NetworkParams]:
    """Weights as trees of the expected shapes.

    Args:
        arrays: by their names.
        params: arrays or `ShapeDtypeStruct`s of the expected shapes, a leading axis of lanes.
        latent_params: the same for the latent policy.
        what: the beginning of a complaint, such as "these weights do not fit".

    Raises:
        ConfigError: names the first array that is missing, of another shape or not expected.
    """
    expected = {"params": params, "latent_params": latent_params}
    leaves, tree = jax.tree_util.tree_flatten_with_path(expected)
    named = {_name(jax.tree_util.keystr(path)): leaf for path, leaf in leaves}
    fitting = []
    for name, leaf in named.items():
        if 0 in leaf.shape and name not in arrays:  # arrays of no elements are not saved
            fitting.append(np.zeros(leaf.shape, leaf.dtype))
            continue
        if name not in arrays:
            raise ConfigError(f"{what}: array '{name}' is missing; expected shape {leaf.shape}")
        if arrays[name].shape != leaf.shape:
            raise ConfigError(
                f"{what}: array '{name}' has shape {arrays[name].shape}; expected {leaf.shape}"
            )
        fitting.append(arrays[name].astype(leaf.dtype))
    for name, array in arrays.items():
        if name not in named:
            raise ConfigError(f"{what}: array '{name}' of shape {array.shape} is not expected")
    whole = jax.tree.unflatten(tree, fitting)
    return whole["params"], whole["latent_params"]


def load_weights(
    run: Run, params: Params, latent_params: NetworkParams
) -> tuple[Params, NetworkParams]:
    """Reads the weights of every lane, as the run's end or last interruption left them.

    Args:
        run: the run.
        params: arrays or `ShapeDtypeStruct`s of the expected shapes, a leading axis of lanes.
        latent_params: the same for the latent policy.

    Raises:
        ConfigError: the weights are missing or damaged, or of other shapes.
    """
    what = f"weights of run '{run.path}' do not fit its config.yaml"
    return fit_weights(read_weights(run.path).arrays, params, latent_params, what)


def load_run(path: Path) -> Run:
    """Reads a run's folder; of a run that has not finished, what there is so far.

    Raises:
        ConfigError: no such folder, a file in it is missing or damaged, or it has no row yet.
    """
    config, info = load_setup(path)
    ended = info["status"] in ENDED
    lanes = set(zip(*info["lanes"].values(), strict=True))
    broken = {tuple(lane[name] for name in info["lanes"]) for lane in info.get("diverged", [])}
    begun = checkpoint_folders(path) or has_rows(path) or not lanes - broken
    if not (ended or begun):
        raise ConfigError(f"run '{path}' has no evaluation yet: it {standing(path, info)}")
    metrics = _read(path, "metrics.csv", _read_metrics if ended else _read_whole_rows)
    run = Run(path, config, info, metrics)
    found = set(_lanes_of_rows(metrics, run.lanes))
    if not found and lanes - broken:
        raise ConfigError(f"run '{path}' is damaged: metrics.csv: there is no evaluation in it")
    if not found <= lanes or (ended and not lanes - broken <= found):
        raise ConfigError(
            f"run '{path}' is damaged: metrics.csv holds other lanes than run.json names"
        )
    if any((np.diff(steps) <= 0).any() for steps, _ in run.curves("env_steps")):
        raise ConfigError(f"run '{path}' is damaged: metrics.csv: env_steps do not increase")
    return run


def _lanes_of_rows(
    metrics: dict[str, np.ndarray], names: Iterable[str]
) -> Iterator[tuple[float, ...]]:
    none = np.full(len(metrics["seed"]), np.nan)
    return zip(*(metrics.get(name, none).tolist() for name in names), strict=True)


def lanes_in_order(text: str, names: Iterable[str]) -> list[tuple[float, ...]]:
    """The lanes that the rows of a `metrics.csv` are of, in the order in which they are trained.

    Args:
        text: of the file, from its beginning.
        names: the columns that tell them apart.
    """
    return list(dict.fromkeys(_lanes_of_rows(_read_metrics(text), names))) if text else []


def load_setup(path: Path) -> tuple[Config, dict[str, Any]]:
    """Reads what a run's folder holds from the start: its configuration and `run.json`.

    Raises:
        ConfigError: no such folder, or a file is missing or damaged.
    """
    if not path.is_dir():
        raise ConfigError(f"run '{path}' is not a folder")
    if (path / "sweep.json").is_file():
        runs = ", ".join(f"'{part}'" for part in sweep_parts(path))
        raise ConfigError(f"'{path}' is a sweep of several programs; allowed: one of {runs}")
    if not (path / "config.yaml").exists() and not (path / "run.json").exists():
        raise ConfigError(f"'{path}' is no run's folder: config.yaml is missing")
    return _read(path, "config.yaml", _read_config), _read(path, "run.json", _read_info)


def has_rows(path: Path) -> bool:
    """Whether a run's folder has an evaluation."""
    file = path / "metrics.csv"
    return file.is_file() and file.read_bytes().count(b"\n") >= 2


def checkpoint_folders(path: Path) -> list[Path]:
    """The whole checkpoints of a run, the latest first."""
    folders = [p for p in (path / CHECKPOINTS).absolute().glob("*") if p.name.isdecimal()]
    return sorted(folders, key=lambda p: -int(p.name))


def standing(path: Path, info: Mapping[str, Any]) -> str:
    """What has become of a run, and what goes on with it: the rest of a sentence.

    Args:
        path: its folder.
        info: its `run.json`.
    """
    if info["status"] in ENDED:
        return "has finished" if info["status"] == "finished" else "was converted"
    if is_locked(path / "config.yaml"):
        return "is being trained"
    if info["status"] == "waiting" and is_locked(path.parent / "sweep.json"):
        return "waits for its turn in a sweep that is being trained"
    has_become, goes_on = {
        "waiting": ("has not begun", "begins it"),
        "running": ("was killed", "goes on"),
        "interrupted": ("was interrupted", "goes on"),
        "failed": ("failed", "goes on"),
    }[info["status"]]
    return f"{has_become}; maven-jax resume '{path}' {goes_on}"


def load_runs(path: Path, say: Callable[[str], None] = lambda _: None) -> list[Run]:
    """Reads a run's folder, or those of a sweep of several programs that have finished.

    Of a sweep in which none has, those that have rows so far are read.

    Args:
        path: folder of a run or sweep.
        say: told in a line of each part that is left out, or has not finished.

    Raises:
        ConfigError: no such folder, a file in it is missing or damaged, or there is no row yet.
    """
    if not (path / "sweep.json").is_file():
        return [load_run(path)]
    infos = {part: load_setup(part)[1] for part in sweep_parts(path)}
    taken = [part for part, info in infos.items() if info["status"] in ENDED]
    taken = taken or [part for part in infos if has_rows(part)]
    if not taken:
        (first, info), *_ = infos.items()
        raise ConfigError(
            f"sweep '{path}' has no evaluation yet: its part '{first.name}' {standing(first, info)}"
        )
    for part, info in infos.items():
        if info["status"] not in ENDED:
            used = "its rows so far are used" if part in taken else "it is missing here"
            say(f"part '{part.name}' of sweep '{path}' {standing(part, info)}; {used}")
    return [load_run(part) for part in taken]


def sweep_parts(path: Path) -> list[Path]:
    """The folders of a sweep of several programs, as its `sweep.json` names them.

    Raises:
        ConfigError: the file is damaged, or a folder is missing.
    """
    parts = [path / name for name in _read(path, "sweep.json", _read_parts)]
    for part in parts:
        if not part.is_dir():
            raise ConfigError(f"sweep '{path}' is damaged: its part '{part.name}' is missing")
    return parts


def _read(path: Path, name: str, parse: Callable[[str], T]) -> T:
    what = "sweep" if name == "sweep.json" else "run"
    if not (path / name).is_file():
        raise ConfigError(f"{what} '{path}' is damaged: {name} is missing")
    try:
        return parse((path / name).read_text())
    except (ValueError, csv.Error, RecursionError) as error:
        raise ConfigError(f"{what} '{path}' is damaged: {name}: {first_line(error)}") from None


def _read_config(text: str) -> Config:
    plain = parse_yaml(text)
    config = from_dict(plain)
    *_, last = to_dict(config)
    if last not in plain:  # defaults would stand for what is missing
        raise ValueError(f"its last section, {last}, is missing: the rest was cut off")
    if not text.endswith("\n"):
        raise ValueError("it ends within a line: the rest was cut off")
    validate(config)
    return config


def _read_info(text: str) -> dict[str, Any]:
    info = json.loads(text)
    if not isinstance(info, dict) or info.get("status") not in STATUSES:
        raise ValueError("it names no status")
    lanes = info.get("lanes")
    if not isinstance(lanes, dict) or "seed" not in lanes:
        raise ValueError(f"lanes is {lanes!r}; allowed: a mapping of columns, seed among them")
    for name, column in lanes.items():
        numbers = isinstance(column, list) and all(type(x) in (int, float) for x in column)
        if not numbers or not column or len(column) != len(lanes["seed"]):
            raise ValueError(f"lanes.{name} is no list of a number for each lane")
    if not all(type(seed) is int and 0 <= seed < 2**31 for seed in lanes["seed"]):
        raise ValueError("lanes.seed holds something else than whole numbers from 0 to 2**31 - 1")
    if not isinstance(info.get("coordinates", {}), dict):
        raise ValueError("coordinates is no mapping")
    diverged = info.get("diverged", [])
    if not isinstance(diverged, list) or not all(
        isinstance(lane, dict)
        and all(type(lane.get(name)) in (int, float) for name in (*lanes, "num_updates"))
        for lane in diverged
    ):
        raise ValueError("diverged is no list of lanes and their last update")
    for name in ("wall_seconds", "train_seconds", "seed_updates"):
        if type(info.get(name, 0)) not in (int, float):
            raise ValueError(f"{name} is {info[name]!r}; allowed: a number")
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


def _read_whole_rows(text: str) -> dict[str, np.ndarray]:
    """Metrics but for a last row that is still being written, or was when its process ended."""
    return _read_metrics(text[: text.rfind("\n") + 1])


def _read_metrics(text: str) -> dict[str, np.ndarray]:
    header, *rows = csv.reader(text.splitlines()) if text else [[]]
    if not header:
        raise ValueError("there is no evaluation in it")
    if not text.endswith("\n"):
        raise ValueError("it ends within a row: the rest was cut off")
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
