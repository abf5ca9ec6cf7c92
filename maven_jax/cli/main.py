"""The command line: `maven-jax train | sweep | resume | figure3 | evaluate | plot | ...`.

Bad input ends with one line and exit code 2 before anything compiles; Ctrl-C ends with exit code
130 and what was learned on disk.
"""

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from maven_jax import __version__
from maven_jax.cli import smoke
from maven_jax.cli.commands import COMMANDS
from maven_jax.cli.parsing import last_value, parse
from maven_jax.cli.program_cache import folder_in_use
from maven_jax.cli.training import Experiment
from maven_jax.config import override
from maven_jax.config.checks import validate
from maven_jax.config.files import load_config, packaged_configs
from maven_jax.environments import complete
from maven_jax.errors import ConfigError, MavenJaxError, unknown
from maven_jax.runs.options import InterruptedRunError
from maven_jax.runs.processes import is_writer
from maven_jax.runs.progress import plain_console
from maven_jax.studies.study import packaged_studies

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        silent = jax.distributed.is_initialized() and not is_writer()
        return _run_command(list(argv), plain_console(quiet=silent))
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


def _run_command(argv: list[str], console: Console) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        print(f"maven-jax {__version__}")
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    kind, execute = COMMANDS[name]
    if issubclass(kind, Experiment):
        command: Any = _parse_with_config(kind, name, rest)
    else:
        command = parse(kind, name, rest)
    if command is not None:
        smoke_test = smoke.is_on()  # a value that is not allowed ends it here
        execute(command, console)
        if smoke_test and name in smoke.CUT:
            console.print(smoke.SAID, highlight=False, soft_wrap=True)
    return 0


def _usage() -> str:
    lines = ["usage: maven-jax COMMAND ...", "", "QMIX and MAVEN as pure JAX functions.", ""]
    for name, (kind, _) in COMMANDS.items():
        lines.append(f"  {name:12} {inspect.getdoc(kind)}")
    packaged = ", ".join(sorted(packaged_configs()))
    studies = ", ".join(sorted(packaged_studies()))
    lines += ["", f"packaged configurations: {packaged}", f"packaged studies: {studies}"]
    lines += ["maven-jax COMMAND --help tells more."]
    lines += ["maven-jax --distributed COMMAND ... shares the work among several processes."]
    if folder := folder_in_use():
        lines += [f"compiled programs are cached in {folder}"]
    lines += [f"{smoke.VARIABLE}=1 in the environment tries a command: sizes are cut."]
    return "\n".join(lines)


def _parse_with_config(kind: type[Experiment], name: str, args: list[str]) -> Experiment | None:
    """CONFIG and the environment decide what options there are, so they are read first."""
    wants_help = not {"-h", "--help"}.isdisjoint(args)
    if not wants_help and (not args or args[0].startswith("-")):
        names = ", ".join(sorted(packaged_configs()))
        raise ConfigError(f"{name} needs CONFIG first; allowed: a YAML file, or one of {names}")
    source = args[0] if args and not args[0].startswith("-") else "maven"
    config = load_config(source)
    environment = last_value("--env.name", args)
    if environment is not None:
        config = override(config, {"env": {"name": environment}})
    config = complete(config)
    command = parse(kind, name, args, kind(source, config=config))
    if command is not None:
        validate(command.config)
    return command
