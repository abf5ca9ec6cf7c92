"""A run in the terminal: its progress bar."""

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from maven_jax.runs.sweep import SweepChunk

LEAST_WIDTH = 40
"""Columns below which no table can be read."""


def plain_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Prints text as it is: a folder's name may hold `[brackets]` or `:colons:`."""
    console = Console(stderr=stderr, quiet=quiet, markup=False, emoji=False)
    if console.width < LEAST_WIDTH:  # `COLUMNS=0` would print nothing at all
        console.width = LEAST_WIDTH
    return console


def say_on(console: Console) -> Callable[[str], None]:
    """Prints lines beside the results."""

    def say(line: str) -> None:
        console.print(f"maven-jax: {line}", highlight=False, soft_wrap=True, markup=False)

    return say


def progress_bar(console: Console) -> Progress:
    """A bar of environment steps, with the numbers of the field `live` beside it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),
        TextColumn("{task.completed:,} steps  {task.fields[live]}"),
        _TimeLeft(),
        console=console,
    )


def live_numbers(chunk: SweepChunk, rate: float) -> str:
    """The median return of the lanes that are finite, and updates a second of all together."""
    sound = chunk.metrics["return"][~chunk.diverged]
    median = f"return {np.median(sound):.2f}" if sound.size else "all non-finite"
    return f"{median}  {rate:,.0f} updates/s"


class _TimeLeft(ProgressColumn):
    """Time left at the mean rate so far; steady where chunks are few and seconds long."""

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None or task.total is None:
            return Text("-:-- left")
        left = int(task.elapsed * max(task.total - task.completed, 0) / task.completed)
        return Text(f"{left // 60}:{left % 60:02d} left")
