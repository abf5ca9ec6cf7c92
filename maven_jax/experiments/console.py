"""Where text is printed: plain lines, and live displays in terminals alone."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from maven_jax.experiments.streams import UnfailingStream

LEAST_WIDTH = 40
"""Columns below which no table can be read."""


class _PlainConsole(Console):
    """rich's, but a broken pipe is an error like any other and does not exit."""

    def on_broken_pipe(self) -> None:
        raise


def plain_console(
    *, stderr: bool = False, quiet: bool = False, unfailing: bool | None = None
) -> Console:
    """Prints text unchanged: a folder's name may hold `[brackets]` or `:colons:`.

    Only a terminal gets control codes and live displays; a file, a pipe and a notebook get plain
    lines.

    Args:
        stderr: print to standard error, not to standard output.
        quiet: print nothing.
        unfailing: discard what cannot be printed; by default so for standard error.
    """
    stream = UnfailingStream(lambda: sys.stderr if stderr else sys.stdout)
    is_unfailing = stderr if unfailing is None else unfailing
    console = _PlainConsole(
        # rich asks for an `IO[str]`, which no class of `io` is for a type checker
        file=stream if is_unfailing else None,  # type: ignore[arg-type]
        stderr=stderr,
        quiet=quiet,
        markup=False,
        emoji=False,
        force_terminal=stream.isatty() and _redraws_lines(),
        force_jupyter=False,
    )
    if console.width < LEAST_WIDTH:  # `COLUMNS=0` would print nothing at all
        console.width = LEAST_WIDTH
    return console


def _redraws_lines() -> bool:
    """Whether a terminal can; a notebook runs `!command` in one, but appends every redrawn line."""
    in_notebook = "JPY_PARENT_PID" in os.environ or "inline" in os.environ.get("MPLBACKEND", "")
    return not in_notebook and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def log_to(console: Console) -> Callable[[str], None]:
    """A function that prints a line of a run's progress."""

    def say(line: str) -> None:
        console.print(f"maven-jax: {line}", highlight=False, soft_wrap=True, markup=False)

    return say


@contextmanager
def show_status(console: Console, text: str) -> Iterator[None]:
    """Shows what is being done meanwhile: a spinner in a terminal, elsewhere a line."""
    if console.is_terminal:
        with console.status(text):
            yield
        return
    console.print(text, highlight=False, soft_wrap=True)
    yield
