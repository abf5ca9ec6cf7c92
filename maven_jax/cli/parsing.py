"""Arguments of a command to its dataclass, and the parser's complaints to one line."""

import argparse
import contextlib
import io
import itertools
import re
from typing import TypeVar

import tyro

from maven_jax.errors import ConfigError

T = TypeVar("T")


def parse(kind: type[T], name: str, args: list[str], default: T | None = None) -> T | None:
    """The command's dataclass from its arguments; None where only help was asked for.

    Raises:
        ConfigError: an unknown option or a value of the wrong type.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=f"maven-jax {name}", args=args, default=default)
    except SystemExit as stop:
        if not stop.code:
            return None
    raise ConfigError(_one_line(said.getvalue())) from None


def last_value(option: str, args: list[str]) -> str | None:
    """What one option is given, before all others are known; None where it is not."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value", nargs="?")
    return parser.parse_known_args(args)[0].value


def _one_line(panel: str) -> str:
    """The first paragraph of the parser's panel, and the nearest option where it names one."""
    lines = [line.strip("│╭╮╰╯─|+ ") for line in panel.splitlines()[1:]]
    lines = [line if line.strip("-") else "" for line in lines]
    started = itertools.dropwhile(lambda line: not line, lines)
    paragraph = " ".join(itertools.takewhile(bool, started))
    wrong_type = re.match(
        r"Error parsing (\S+): (invalid literal|could not convert).*: (.*)", paragraph
    )
    if wrong_type:
        kind = "a whole number" if wrong_type[2] == "invalid literal" else "a number"
        return f"{wrong_type[1]} is {wrong_type[3]}; allowed: {kind}"
    near = re.search(r"Perhaps you meant:.*?(--[\w.-]+)", " ".join(lines))
    return paragraph + (f"; did you mean {near[1]}?" if near else "")
