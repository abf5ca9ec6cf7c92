"""The command line: `maven-jax train | sweep | resume | figure3 | evaluate | plot | ...`.

Bad input ends with one line and exit code 2 before anything compiles; Ctrl-C, SIGTERM, SIGHUP and
SIGUSR1 end with exit code 130 and what was learned on disk.
"""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from maven_jax.cli.commands import COMMANDS, information, prints_results
from maven_jax.cli.parsing import parse, parse_with_config
from maven_jax.errors import MavenJaxError, unknown
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.interruption import INTERRUPTED, interrupted_by_signals
from maven_jax.experiments.options import InterruptedRunError


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        name, *rest = argv or ["--help"]
        console = plain_console(unfailing=not prints_results(name))
        return _run_command(name, rest, console)
    except (MavenJaxError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        message = " ".join(str(error).splitlines())
        print(f"maven-jax: error: {message}", file=sys.stderr)
        return 2
    except InterruptedRunError as error:
        print(f"maven-jax: {error}", file=sys.stderr, flush=True)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("maven-jax: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED


def _run_command(name: str, rest: list[str], console: Console) -> int:
    if (text := information(name)) is not None:
        print(text)
        return 0
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    kind, execute = COMMANDS[name].load()
    parser = parse_with_config if COMMANDS[name].takes_config else parse
    command: Any = parser(kind, name, rest)
    if command is not None:
        with interrupted_by_signals():  # until here there is nothing to clean up or to keep
            execute(command, console)
    return 0
