"""A run as read from its folder: lanes, curves, final values."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maven_jax.config import Config
from maven_jax.config.fields import with_field
from maven_jax.errors import StorageError, unknown
from maven_jax.experiments.folder import (
    ENDED,
    checkpoint_files,
    describe_status,
    has_rows,
    load_setup,
    parts_of,
    read_file,
)
from maven_jax.experiments.metrics import (
    parse_metrics,
    parse_whole_rows,
    refuse_changed_metrics,
)
from maven_jax.validation.files import AnyPath


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
        """How many lanes the folder holds."""
        return len(self.lanes["seed"])

    @property
    def diverged(self) -> list[dict[str, Any]]:
        """Lanes that diverged: their columns, and `num_updates`, their last finite one."""
        return self.info.get("diverged", [])

    @property
    def has_ended(self) -> bool:
        """Whether it was trained to its end, or converted; otherwise its curves end early."""
        return self.info.get("status", "finished") in ENDED

    @property
    def stopped_early(self) -> bool:
        """Whether a callback ended it before its last environment step."""
        return "stopped_early" in self.info

    @property
    def num_evaluations(self) -> int:
        """The largest number of evaluations of any lane."""
        rows = self._lane_of_row[self._lane_of_row >= 0]
        return int(np.bincount(rows).max()) if rows.size else 0

    @cached_property
    def _identities(self) -> list[tuple[Any, ...]]:
        """What tells each lane apart."""
        return list(zip(*self.lanes.values(), strict=True))

    @cached_property
    def _diverged(self) -> set[tuple[Any, ...]]:
        """The identities of lanes that diverged."""
        return {tuple(lane[name] for name in self.lanes) for lane in self.diverged}

    @cached_property
    def _lane_of_row(self) -> np.ndarray:
        """The index of each row's lane; -1 where the row is of no lane."""
        index = {lane: i for i, lane in enumerate(self._identities)}
        none = np.full(len(self.metrics["seed"]), np.nan)
        rows = zip(*(self.metrics.get(name, none).tolist() for name in self.lanes), strict=True)
        return np.array([index.get(row, -1) for row in rows], int)

    def points(self) -> list["Point"]:
        """Coordinates and seeds of every point of a sweep's grid; one point where there is none.

        The configuration of each is its own, with the values that tell its lanes from others.
        """
        varied = [name for name in self.lanes if name != "seed"]
        of_lane = [
            tuple(self.lanes[name][lane] for name in varied) for lane in range(self.num_lanes)
        ]
        points = []
        for point in dict.fromkeys(of_lane):
            lanes = [lane for lane, other in enumerate(of_lane) if other == point]
            rows = np.isin(self._lane_of_row, lanes)
            seeds = [self.lanes["seed"][lane] for lane in lanes]
            diverged = [lane for lane in self.diverged if tuple(lane[k] for k in varied) == point]
            coordinates = dict(zip(varied, point, strict=True))
            config = self.config
            for field, value in coordinates.items():
                config = with_field(config, field, value)
            run = dataclasses.replace(
                self,
                config=config,
                info=self.info | {"lanes": {"seed": seeds}, "diverged": diverged},
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
        """The last step that every lane has reached that has not diverged.

        At most `total_env_steps`; less in an interrupted run.
        """
        with_rows = np.unique(self._lane_of_row)
        ends = {
            self._identities[lane]: int(steps[-1])
            for lane, (steps, _) in zip(with_rows, self.curves("env_steps"), strict=True)
        }
        finite = [end for lane, end in ends.items() if lane not in self._diverged]
        return min([*(finite or ends.values()), self.config.training.total_env_steps])

    def final(self, metric: str) -> np.ndarray:
        """A metric at each lane's last evaluation, which is that of its final weights.

        Raises:
            ConfigError: the run has no such metric.
        """
        return np.array([values[-1] for _, values in self.curves(metric)])


Point = tuple[dict[str, Any], Run]
"""Coordinates in a sweep's grid, and the lanes there."""


def load_run(path: AnyPath) -> Run:
    """Reads a run's folder; of a run that has not finished, what there is so far.

    Raises:
        StorageError: no such folder, a file in it is missing or damaged, or it has no row yet.
    """
    path = Path(path)
    run = Run(path, *load_setup(path), {})
    expected = set(run._identities) - run._diverged
    begun = checkpoint_files(path) or has_rows(path) or not expected
    if not (run.has_ended or begun):
        status = describe_status(path, run.info)
        raise StorageError(f"run '{path}' has no evaluation yet: it {status}")
    parse = parse_metrics if run.has_ended else parse_whole_rows
    run = dataclasses.replace(run, metrics=read_file(path, "metrics.csv", parse))
    lanes = run._lane_of_row
    found = {run._identities[lane] for lane in lanes if lane >= 0}
    damage = None
    if not lanes.size and expected:
        damage = "metrics.csv: there is no evaluation in it"
    elif (lanes < 0).any() or (run.has_ended and not expected <= found):
        damage = "metrics.csv holds other lanes than run.json names"
    elif any((np.diff(steps) <= 0).any() for steps, _ in run.curves("env_steps")):
        damage = "metrics.csv: env_steps do not increase"
    if damage is not None:
        raise StorageError(f"run '{path}' is damaged: {damage}")
    refuse_changed_metrics(path, run.info)
    return run


def load_runs(path: AnyPath, say: Callable[[str], None] = lambda _: None) -> list[Run]:
    """Reads a run's folder, or those of a sweep of several programs that have finished.

    Of a sweep in which none has, those that have rows so far are read.

    Args:
        path: folder of a run or sweep.
        say: told in a line of each part that is left out, or has not finished.

    Raises:
        StorageError: no such folder, a file in it is missing or damaged, or there is no row yet.
    """
    path = Path(path)
    if not (path / "sweep.json").is_file():
        return [load_run(path)]
    infos = {part: load_setup(part)[1] for part in parts_of(path)}
    taken = [part for part, info in infos.items() if info["status"] in ENDED]
    taken = taken or [part for part in infos if has_rows(part)]
    if not taken:
        (first, info), *_ = infos.items()
        raise StorageError(
            f"sweep '{path}' has no evaluation yet: its part '{first.name}' "
            f"{describe_status(first, info)}"
        )
    for part, info in infos.items():
        if info["status"] not in ENDED:
            used = "its rows so far are used" if part in taken else "it is missing here"
            say(f"part '{part.name}' of sweep '{path}' {describe_status(part, info)}; {used}")
    return [load_run(part) for part in taken]
