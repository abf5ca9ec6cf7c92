"""A run's progress on the console."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from maven_jax.experiments.sweep import SweepChunk

SECONDS_BETWEEN_LINES = 60.0
"""Between two lines of progress where there is no live bar."""


@contextmanager
def show_progress(
    console: Console,
    label: str,
    total: int,
    start: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int, str], None]]:
    """Shows environment steps: a live bar in a terminal, elsewhere plain lines, a minute apart.

    Yields a function of the steps so far, from `start` to `total`, and of the numbers to show with
    them. Its first call and the one that reaches the end print a line in any case.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            TextColumn("{task.completed:,} steps, {task.fields[live]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        with Progress(*columns, console=console, speed_estimate_period=math.inf) as progress:
            task = progress.add_task(label, total=total, completed=start, live="")
            yield lambda completed, live: progress.update(task, completed=completed, live=live)
        return
    started, last = clock(), -math.inf

    def update(completed: int, live: str) -> None:
        nonlocal last
        now = clock()
        if now - last < SECONDS_BETWEEN_LINES and completed < total:
            return
        last = now
        left = _time_left(completed - start, total - completed, now - started)
        line = f"{label}: {completed:,} of {total:,} steps, {live}, {left}"
        console.print(line, highlight=False, soft_wrap=True)

    yield update


def live_numbers(chunk: SweepChunk, rate: float) -> str:
    """The median return of the lanes that are finite, and updates a second of all together."""
    finite = chunk.metrics["return"][~chunk.diverged]
    median = f"return {np.median(finite):.2f}" if finite.size else "all diverged"
    return f"{median}, {rate:,.0f} updates/s"


def _time_left(taken: int, to_come: int, seconds: float) -> str:
    """At the mean rate of the steps that were taken in so many seconds."""
    if not taken:
        return "-:-- left"
    left = int(seconds * max(to_come, 0) / taken)
    return f"{left // 60}:{left % 60:02d} left"
