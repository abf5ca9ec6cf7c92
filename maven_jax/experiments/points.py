"""The experiments among runs, and their curves over seeds."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maven_jax.config import to_dict
from maven_jax.config.fields import flatten
from maven_jax.environments.registry import default_options
from maven_jax.errors import StorageError
from maven_jax.experiments.run import Point, Run


def points_of(runs: Iterable[Run]) -> list[Point]:
    """The experiments among runs, each a configuration with all its seeds.

    Finished runs of the same configuration and start are one experiment, in whatever folders,
    groups or sweeps their seeds are; each point of a sweep's grid is one.

    Raises:
        StorageError: an experiment has a seed twice.
    """
    experiments: dict[str, list[Point]] = {}
    for run in runs:
        for point in run.points():
            key = repr(sorted(experiment_fields(point[1]).items()))
            experiments.setdefault(key, []).append(point)
    return [_join(points) for points in experiments.values()]


def experiment_fields(run: Run) -> dict[str, Any]:
    """What identifies an experiment: every field by its dotted name, the environment's options.

    Also what its weights were converted from or started from. A run that has not finished, whose
    curves end early, is an experiment by itself: its folder is among the fields.
    """
    env = run.config.env.name
    options = {f"env.options.{name}": value for name, value in default_options(env).items()}
    beside: dict[str, Any] = {
        name: run.info[name] for name in ("source", "environment", "init_from") if name in run.info
    }
    if origin := run.info.get("init_from"):
        # From which lanes, not how many seeds; from which weights, not in which folder.
        sources = sorted(set(zip(*origin["lanes"].values(), strict=True)))
        weights = {"weights": origin["weights"]} if "weights" in origin else origin
        beside["init_from"] = weights | {"lanes": sources}
    if not run.has_ended:
        beside["unfinished"] = str(run.path)
    return options | flatten(to_dict(run.config)) | flatten(beside)


def _join(points: Sequence[Point]) -> Point:
    """The lanes of one experiment."""
    coordinates = {name: value for own, _ in points for name, value in own.items()}
    runs = [run for _, run in points]
    folders: dict[int, Path] = {}
    for run in runs:
        for seed in run.lanes["seed"]:
            if seed in folders:
                raise StorageError(
                    f"seed {seed} of one configuration is in both '{folders[seed]}' and "
                    f"'{run.path}'; list only one of them"
                )
            folders[seed] = run.path
    first, *others = runs
    shared = [name for name in first.metrics if all(name in run.metrics for run in others)]
    diverged = [lane for run in runs for lane in run.diverged]
    stopped = [run.info["stopped_early"] for run in runs if run.stopped_early]
    info = first.info | {"lanes": {"seed": list(folders)}, "diverged": diverged}
    joined = dataclasses.replace(
        first,
        info=info | ({"stopped_early": stopped[0]} if stopped else {}),
        metrics={name: np.concatenate([run.metrics[name] for run in runs]) for name in shared},
        joined=tuple(run.path for run in others),
    )
    return coordinates, joined


def on_grid(steps: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A curve at each point of a common grid: the latest evaluation so far, NaN before the first.

    `steps` and `grid` are environment steps; `steps` increase.
    """
    index = np.searchsorted(steps, grid, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan)


def quartiles(run: Run, metric: str, grid: np.ndarray) -> np.ndarray:
    """25th, 50th and 75th percentile over seeds at each grid point: `[3, len(grid)]`."""
    curves = np.stack([on_grid(steps, values, grid) for steps, values in run.curves(metric)])
    return np.percentile(curves, [25, 50, 75], axis=0)
