"""Runs one command of `maven-jax`.

Bad input ends with one line and exit code 2 before anything compiles; Ctrl-C, SIGTERM, SIGHUP and
SIGUSR1 end with exit code 130 and what was learned on disk.
"""

import sys
from collections.abc import Sequence
from typing import Any

from maven_jax.cli.commands import COMMANDS, information, prints_results
from maven_jax.cli.parsing import import_modules, parser_of
from maven_jax.errors import MavenJaxError, unknown
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.interruption import INTERRUPTED, interrupted_by_signals
from maven_jax.experiments.options import InterruptedRunError


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    name, *rest = argv or ["--help"]
    try:
        _run_command(name, rest)
    except BrokenPipeError:
        raise
    except (MavenJaxError, OSError) as error:
        message = " ".join(str(error).splitlines())
        print(f"maven-jax: error: {message}", file=sys.stderr)
        return 2
    except (InterruptedRunError, KeyboardInterrupt) as error:
        print(f"maven-jax: {str(error) or 'interrupted'}", file=sys.stderr, flush=True)
        return INTERRUPTED
    return 0


def _run_command(name: str, rest: list[str]) -> None:
    if (text := information(name)) is not None:
        print(text)
        return
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    arguments, function = COMMANDS[name].load()
    rest = import_modules(rest)
    command: Any = parser_of(COMMANDS[name])(arguments, name, rest)
    if command is not None:
        with interrupted_by_signals():  # until here there is nothing to clean up or to keep
            function(command, plain_console(unfailing=not prints_results(name)))
