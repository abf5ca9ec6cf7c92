"""Checkpoints of a run: all that it needs to continue as if it had never stopped.

`checkpoints/N.npz`, after N evaluations, holds the state of every lane (weights, targets,
optimisers, replay, keys, counters) and, as JSON, a `Progress`. It is written beside training, under
another name until it is on the disk; only then are older ones removed.
"""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from maven_jax.errors import check, first_line
from maven_jax.experiments.array_files import named_arrays, write_arrays
from maven_jax.experiments.folder import CHECKPOINTS, checkpoint_files
from maven_jax.experiments.metrics import MetricsPrefix
from maven_jax.experiments.sweep import take_lanes
from maven_jax.types import TrainState


@dataclass(frozen=True)
class Checkpointing:
    """When checkpoints are written, and how many are kept."""

    minutes: float = 5.0
    """Minutes between checkpoints."""
    updates: int | None = None
    """Gradient steps of each seed between checkpoints, instead of minutes."""
    keep: int = 2
    """Number of latest checkpoints to keep."""
    keep_final: bool = False
    """Keep the checkpoints of a finished run, so that it can be extended."""

    def validate(self) -> None:
        """Raises `ConfigError` for a value that cannot work."""
        check(self.minutes > 0, "checkpoint.minutes", self.minutes, "a positive number")
        check(
            self.updates is None or self.updates >= 1,
            "checkpoint.updates",
            self.updates,
            "a whole number from 1 on",
        )
        check(1 <= self.keep <= 1000, "checkpoint.keep", self.keep, "a whole number from 1 to 1000")


class Progress(NamedTuple):
    """What a checkpoint holds beside the state."""

    num_chunks: int
    """Evaluations of the lanes that are still trained."""
    lanes: dict[str, list[Any]]
    """As in `run.json`."""
    metrics: dict[str, list[Any]]
    """The last row of every lane."""
    rows: MetricsPrefix
    """How much of `metrics.csv` there was, on the disk."""
    info: dict[str, Any]
    """Those entries of `run.json` that training counts up."""


class CheckpointWriter:
    """Saves checkpoints into a run's folder, beside training."""

    def __init__(
        self,
        path: Path,
        settings: Checkpointing,
        say: Callable[[str], None],
        num_updates: int = 0,
    ) -> None:
        """Nothing is written before the first `save`."""
        self._path, self._settings, self._say = path, settings, say
        self._last_time, self._last_updates = time.perf_counter(), num_updates
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def is_due(self, num_updates: int) -> bool:
        """Whether the interval since the last checkpoint is over."""
        if self._settings.updates is not None:
            return num_updates - self._last_updates >= self._settings.updates
        return time.perf_counter() - self._last_time >= 60 * self._settings.minutes

    def save(self, state: TrainState, progress: Progress, num_updates: int) -> None:
        """Copies the state to the host's memory and writes it in the background.

        Args:
            state: of every lane, padding included; it may be donated as soon as this returns.
            progress: beside the state.
            num_updates: the most gradient steps that a lane has taken.
        """
        self.wait()
        self._last_time, self._last_updates = time.perf_counter(), num_updates
        try:
            state = take_lanes(with_plain_keys(state), len(progress.lanes["seed"]))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            self._report(error)
        else:
            self._writing = self._thread.submit(self._write, state, progress)

    def _write(self, state: TrainState, progress: Progress) -> None:
        folder = self._path / CHECKPOINTS
        folder.mkdir(exist_ok=True)
        text = json.dumps(progress._asdict() | {"rows": progress.rows._asdict()})
        arrays = named_arrays({"state": state}) | {"progress": np.array(text)}
        write_arrays(folder / f"{progress.num_chunks}.npz", arrays)
        for old in checkpoint_files(self._path)[self._settings.keep :]:
            old.unlink()

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk, or reports that it could not be saved."""
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                writing.result()
        except (OSError, MemoryError) as error:
            self._report(error)

    def check(self) -> None:
        """Reports a checkpoint that could not be saved; waits for none."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def _report(self, error: Exception) -> None:
        where = self._path / CHECKPOINTS
        self._say(f"a checkpoint could not be saved in '{where}': {first_line(error)}")

    def close(self) -> None:
        """Waits for the last checkpoint."""
        self.wait()
        self._thread.shutdown()


def with_plain_keys(state: TrainState) -> TrainState:
    """A state whose keys are numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def remove_checkpoints(path: Path) -> None:
    """Removes the checkpoints of a run that needs them no more."""
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
