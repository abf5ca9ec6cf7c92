"""What a run leaves on disk, and its loading.

A run's folder holds

- `config.yaml`: the full configuration;
- `run.json`: seeds, versions, device, timings, and how the run ended (`status`);
- `metrics.csv`: a row for each seed and evaluation, a column for each metric (`pandas.read_csv`
  opens it): `seed`, `env_steps`, `num_updates`, then the metrics in alphabetical order, those with
  one value for each z as `name_0`, `name_1`, ...;
- `weights`: Orbax: `params` and `latent_params`, every array with a leading axis of seeds;
- `figures` and, unless switched off, TensorBoard `events`.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
import yaml

from maven_jax.config import (
    Config,
    ConfigError,
    from_dict,
    parse_yaml,
    to_dict,
    unknown,
    validate,
)
from maven_jax.types import NetworkParams, Params

T = TypeVar("T")

COUNTERS = ("env_steps", "num_updates")
PACKAGES = ("maven-jax", "jax", "jaxlib", "flax", "optax", "distrax", "jumanji", "flashbax")


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run, as read from its folder."""

    path: Path
    config: Config
    info: dict[str, Any]
    metrics: dict[str, np.ndarray]
    """Column name to values, one a row of `metrics.csv`."""

    def curves(self, metric: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Environment steps and values of one metric, seed by seed.

        Raises:
            ConfigError: the run has no such metric.
        """
        if metric not in self.metrics:
            raise unknown(f"metric of run {str(self.path)!r}:", metric, self.metrics)
        seeds = self.metrics["seed"]
        for seed in np.unique(seeds):
            yield self.metrics["env_steps"][seeds == seed], self.metrics[metric][seeds == seed]

    @property
    def last_step(self) -> int:
        """The environment step up to which every seed has a curve; an interrupted run's is less."""
        reached = min(steps[-1] for steps, _ in self.curves("env_steps"))
        return min(int(reached), self.config.training.total_env_steps)

    def final(self, metric: str) -> np.ndarray:
        """Each seed's latest value of a metric up to `last_step`, or its first if none is."""
        end = np.array([self.last_step])
        values = []
        for steps, x in self.curves(metric):
            latest = on_grid(steps, x, end)[0]
            values.append(x[0] if np.isnan(latest) else latest)
        return np.array(values)


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
    """Raises `ConfigError` where something is: nothing on disk is ever written over."""
    if path.exists():
        raise ConfigError(f"{what} '{path}' exists; allowed: a path where nothing is yet")


def create_run_folder(path: Path, config: Config) -> None:
    """Makes a new run's folder with its configuration.

    Raises:
        ConfigError: something is there already, or the folder cannot be made.
    """
    try:
        refuse_existing("output folder", path)
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    except OSError as error:
        raise ConfigError(f"output folder '{path}' cannot be made: {error.strerror}") from None


def describe_machine() -> dict[str, Any]:
    """Versions and device of this process, for `run.json`."""
    devices = jax.devices()
    return {
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "num_devices": len(devices),
    }


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Writes `run.json`."""
    (path / "run.json").write_text(json.dumps(info, indent=2) + "\n")


class MetricsWriter:
    """Appends evaluations to `metrics.csv`, on disk after every chunk."""

    def __init__(self, path: Path, first_seed: int) -> None:
        self._file: TextIO = (path / "metrics.csv").open("x", newline="")
        self._writer: Any = None
        self._first_seed = first_seed

    def write(self, metrics: dict[str, np.ndarray], active: np.ndarray) -> None:
        """One row for each active seed."""
        columns = _columns(metrics)
        if self._writer is None:
            self._writer = csv.writer(self._file)
            self._writer.writerow(["seed", *columns])
        for seed in np.flatnonzero(active):
            self._writer.writerow(
                [self._first_seed + seed, *(column[seed] for column in columns.values())]
            )
        self._file.flush()

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


def save_weights(path: Path, params: Params, latent_params: NetworkParams) -> None:
    """Writes the weights of every seed, by Orbax."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(
            (path / "weights").absolute(), {"params": params, "latent_params": latent_params}
        )


def load_weights(
    run: Run, params: Params, latent_params: NetworkParams
) -> tuple[Params, NetworkParams]:
    """Reads the weights of every seed.

    Args:
        run: the run.
        params: arrays or `ShapeDtypeStruct`s of the expected shapes, a leading axis of seeds.
        latent_params: the same for the latent policy.

    Raises:
        ConfigError: the weights are missing or damaged, or of other shapes.
    """
    folder = (run.path / "weights").absolute()
    if not folder.is_dir():
        raise ConfigError(f"run '{run.path}' has no weights")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(
                folder, {"params": params, "latent_params": latent_params}
            )
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"weights of run '{run.path}' are damaged: {reason[:200]}") from None
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
    if not path.is_dir():
        raise ConfigError(f"run '{path}' is not a folder")
    run = Run(
        path=path,
        config=_read(path, "config.yaml", _read_config),
        info=_read(path, "run.json", _read_info),
        metrics=_read(path, "metrics.csv", _read_metrics),
    )
    first, count = run.info["first_seed"], run.info["num_seeds"]
    if not np.array_equal(np.unique(run.metrics["seed"]), np.arange(first, first + count)):
        raise ConfigError(
            f"run '{path}' is damaged: metrics.csv holds other seeds than run.json names"
        )
    return run


def _read(path: Path, name: str, parse: Callable[[str], T]) -> T:
    if not (path / name).is_file():
        raise ConfigError(f"run '{path}' is damaged: {name} is missing")
    try:
        return parse((path / name).read_text())
    except (ValueError, csv.Error, RecursionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"run '{path}' is damaged: {name}: {reason}") from None


def _read_config(text: str) -> Config:
    config = from_dict(parse_yaml(text))
    validate(config)
    return config


def _read_info(text: str) -> dict[str, Any]:
    info = json.loads(text)
    for name, least in (("first_seed", 0), ("num_seeds", 1)):
        value = info.get(name) if isinstance(info, dict) else None
        if type(value) is not int or value < least:
            raise ValueError(f"{name} is {value!r}; allowed: a whole number of at least {least}")
    return info


def _read_metrics(text: str) -> dict[str, np.ndarray]:
    header, *rows = csv.reader(text.splitlines()) if text else [[]]
    if not rows:
        raise ValueError("there is no evaluation in it")
    if any(len(row) != len(header) for row in rows):
        raise ValueError("its rows are of different lengths")
    metrics = dict(zip(header, np.array(rows, float).T, strict=True))
    for name in ("seed", *COUNTERS):
        if name not in metrics:
            raise ValueError(f"column {name} is missing")
        if not (np.isfinite(metrics[name]) & (metrics[name] >= 0)).all():
            raise ValueError(f"column {name} holds something else than whole numbers")
    for seed in np.unique(metrics["seed"]):
        if (np.diff(metrics["env_steps"][metrics["seed"] == seed]) <= 0).any():
            raise ValueError(f"env_steps of seed {seed:.0f} do not increase")
    return metrics
