"""TensorBoard events of a run: a curve of each seed, and the median."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maven_jax.experiments.callbacks.callback import Callback, ChunkEnd, RunStart, lane_name
from maven_jax.experiments.metrics import scalar_columns

MOST_LANES = 64
"""Above which lanes have no curves of their own."""


class TensorBoard(Callback):
    """Writes `events/median`, and `events/LANE` for each lane, which TensorBoard overlays.

    The median is over the lanes that have not diverged, each at its last evaluation. With more
    than `MOST_LANES` lanes only medians are written.
    """

    def __init__(self) -> None:
        self._median: Any = None
        self._lanes: list[Any] = []

    def on_start(self, start: RunStart) -> None:
        events = start.path / "events"
        self._median = _writer(events / "median", _median_step(start.env_steps, start.diverged))
        if len(start.env_steps) > MOST_LANES:
            start.say(
                f"TensorBoard shows the medians of {len(start.env_steps)} runs, without their own "
                f"curves: they are more than {MOST_LANES}"
            )
            return
        for lane, env_steps in enumerate(start.env_steps.tolist()):
            self._lanes.append(_writer(events / lane_name(start.lanes, lane), env_steps))

    def on_chunk(self, chunk: ChunkEnd) -> None:
        if self._lanes:
            for lane, row in chunk.rows():
                _write(self._lanes[lane], row, int(row["env_steps"]))
        if not chunk.diverged.all():
            finite = {k: x[~chunk.diverged] for k, x in scalar_columns(chunk.metrics).items()}
            medians = {name: float(np.median(values)) for name, values in finite.items()}
            step = _median_step(chunk.metrics["env_steps"], chunk.diverged)
            _write(self._median, medians, step)

    def close(self) -> None:
        for writer in [self._median, *self._lanes]:
            if writer is not None:
                writer.close()
        self._median, self._lanes = None, []


def _writer(folder: Path, env_steps: int) -> Any:
    """A writer of events; TensorBoard drops those of an earlier start after so many steps."""
    from tensorboardX import SummaryWriter

    count = len(list(folder.glob("*")))  # two starts in a second would share a file's name
    purge = env_steps + 1 if env_steps else 0
    return SummaryWriter(str(folder), purge_step=purge, filename_suffix=f".{count}")


def _write(writer: Any, values: Mapping[str, float | int], step: int) -> None:
    """One event of all values, which takes a fraction of the time of one each."""
    from tensorboardX.proto.summary_pb2 import Summary

    summary = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    writer.file_writer.add_summary(Summary(value=summary), step)


def _median_step(env_steps: np.ndarray, diverged: np.ndarray) -> int:
    """Where the median of a chunk is shown: at the median step of the lanes it is of."""
    return 0 if diverged.all() else int(np.median(env_steps[~diverged]))
