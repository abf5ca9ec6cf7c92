"""The base class of callbacks, and what its methods are given.

A lane is one run of a vmapped sweep: a seed, with its hyperparameters. L is their number.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from maven_jax.config import Config
from maven_jax.experiments.grid import short_names
from maven_jax.experiments.metrics import scalar_columns
from maven_jax.experiments.run import Run
from maven_jax.types import TrainState


class RunStart(NamedTuple):
    """A run that starts, or resumes from a checkpoint."""

    path: Path
    """The run's folder."""
    config: Config
    lanes: Mapping[str, np.ndarray]
    """What tells lanes apart, each `[L]`: `seed`, and `hyperparameters.NAME` where it varies."""
    env_steps: Int64[np.ndarray, "L"]
    """Environment steps of each lane so far; 0 at a fresh start."""
    diverged: Bool[np.ndarray, "L"]
    """Lanes that have diverged so far."""
    num_evaluations: int
    """Evaluations so far; `on_chunk` is given this number plus 1 next."""
    say: Callable[[str], None]
    """Prints a line beside the run's progress."""


class ChunkEnd(NamedTuple):
    """A run after one more evaluation of every lane that is not finished."""

    path: Path
    """The run's folder."""
    config: Config
    lanes: Mapping[str, np.ndarray]
    """As in `RunStart`."""
    metrics: dict[str, np.ndarray]
    """The last row of every lane by the metric's name, `[L]`, or `[L, z]` with a value of each z;
    `env_steps` and `num_updates` are among them."""
    active: Bool[np.ndarray, "L"]
    """Lanes whose row is new: they are not finished before, and have not diverged."""
    diverged: Bool[np.ndarray, "L"]
    """Lanes that have diverged, now or before."""
    num_evaluations: int
    """Evaluations so far, this one included."""
    state: Callable[[], TrainState]
    """Copies the state of every lane to the host's memory, each array with a leading `L`; only
    until `on_chunk` returns."""

    def rows(self) -> Iterator[tuple[int, dict[str, float | int]]]:
        """The index of each active lane, and its metrics by their names in `metrics.csv`."""
        columns = scalar_columns(self.metrics)
        for lane in np.flatnonzero(self.active):
            yield int(lane), {name: column[lane].item() for name, column in columns.items()}


class Callback:
    """Called while a run trains; every method may be left out.

    The runs of a sweep or study of several programs are trained one after the other with the same
    callbacks: `on_start` begins anew. A run that resumes repeats the evaluations since its last
    checkpoint, bit for bit, so a logger drops what it has after `RunStart.num_evaluations`.

    An exception ends the run as `failed`; it resumes from its last checkpoint.

    Attributes:
        reason: why `on_chunk` last returned True, for the console and `run.json`.
    """

    reason: str = ""

    def on_start(self, start: RunStart) -> None:
        """Called before the first evaluation of a run, or of a resumed one."""

    def on_chunk(self, chunk: ChunkEnd) -> bool | None:
        """Called after every evaluation, once its rows are in `metrics.csv`.

        Returns True to stop the run here, all lanes of it: it is finished then.
        """

    def on_end(self, run: Run) -> None:
        """Called when the run has finished, not where it is interrupted or fails."""

    def close(self) -> None:
        """Called last, in whatever way the run ends, even where `on_start` was not called."""


def lane_values(lanes: Mapping[str, np.ndarray], lane: int) -> dict[str, Any]:
    """What tells one lane from others: `seed`, and `hyperparameters.NAME` where it varies."""
    return {name: column[lane].item() for name, column in lanes.items()}


def lane_name(lanes: Mapping[str, np.ndarray], lane: int) -> str:
    """The name of a lane, such as `seed=3,mi_weight=0.01`."""
    short = short_names(lanes)
    return ",".join(f"{short[name]}={value}" for name, value in lane_values(lanes, lane).items())
