"""Stops a run once a metric is good enough, or no longer improves."""

from collections.abc import Iterable, Mapping

import numpy as np

from maven_jax.errors import check, unknown
from maven_jax.experiments.callbacks.callback import Callback, ChunkEnd, RunStart
from maven_jax.experiments.metrics import parse_metrics, scalar_columns


class EarlyStopping(Callback):
    """Stops a run by the median of a metric over its lanes, without those that have diverged.

    A resumed run stops where it would have stopped without the interruption.
    """

    def __init__(
        self,
        metric: str = "return",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        patience: int | None = None,
    ) -> None:
        """One condition or more; the first that holds stops the run.

        Args:
            metric: a column of `metrics.csv`.
            at_least: stops when the median is this or more.
            at_most: stops when the median is this or less.
            patience: stops when the largest median is so many evaluations old.

        Raises:
            ConfigError: no condition, or a patience below 1.
        """
        given = [x for x in (at_least, at_most, patience) if x is not None]
        check(bool(given), "conditions of EarlyStopping", given, "at_least, at_most or patience")
        check(patience is None or patience >= 1, "patience", patience, "a whole number from 1 on")
        self._metric, self._at_least, self._at_most = metric, at_least, at_most
        self._patience = patience
        self._medians: list[float] = []

    def on_start(self, start: RunStart) -> None:
        self._medians = _medians_so_far(start, self._metric)

    def on_chunk(self, chunk: ChunkEnd) -> bool:
        values = _column(scalar_columns(chunk.metrics), self._metric)
        if chunk.diverged.all():
            return False
        median = _median(values[~chunk.diverged])
        self._medians.append(median)
        what = f"median {self._metric} is {median:.6g}"
        if self._at_least is not None and median >= np.float32(self._at_least):
            self.reason = f"{what}, at least {self._at_least:g}"
        elif self._at_most is not None and median <= np.float32(self._at_most):
            self.reason = f"{what}, at most {self._at_most:g}"
        elif self._patience is not None and self._age_of_best >= self._patience:
            self.reason = f"{what}, and the largest is {self._age_of_best} evaluations old"
        else:
            return False
        return True

    @property
    def _age_of_best(self) -> int:
        return len(self._medians) - 1 - int(np.argmax(self._medians))


def _medians_so_far(start: RunStart, metric: str) -> list[float]:
    """The medians that `on_chunk` had before the run was interrupted, of `metrics.csv`."""
    if not start.num_evaluations:
        return []
    rows = parse_metrics((start.path / "metrics.csv").read_text())
    values, curves = _column(rows, metric), []
    for lane in range(len(start.diverged)):
        own = [rows[name] == column[lane] for name, column in start.lanes.items()]
        curves.append(values[np.all(own, axis=0)])
    medians = []
    for evaluation in range(start.num_evaluations):
        # A lane that is finished has its last value, one that has diverged none.
        now = [
            curve[min(evaluation, curve.size - 1)]
            for curve, diverged in zip(curves, start.diverged, strict=True)
            if curve.size > evaluation or (curve.size and not diverged)
        ]
        if now:
            medians.append(_median(now))
    return medians


def _column(columns: Mapping[str, np.ndarray], metric: str) -> np.ndarray:
    if metric not in columns:
        raise unknown("metric of EarlyStopping", metric, columns)
    return columns[metric]


def _median(values: Iterable[float] | np.ndarray) -> float:
    """In single precision, so that rows of a file and of training compare as equal."""
    return float(np.median(np.array(values, np.float32)))
