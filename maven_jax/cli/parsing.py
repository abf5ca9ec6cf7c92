"""Arguments of a command to its dataclass, and the parser's complaints to one line."""

import argparse
import contextlib
import io
import itertools
import re
from collections.abc import Collection
from typing import Any, TypeVar

import tyro

from maven_jax.cli.commands import COMMANDS
from maven_jax.config import override
from maven_jax.config.overrides import whole_number
from maven_jax.configs import config_names
from maven_jax.environments.registry import complete
from maven_jax.errors import ConfigError
from maven_jax.suggestions import nearest
from maven_jax.validation.checks import validate
from maven_jax.validation.files import load_config, load_overrides
from maven_jax.validation.ignored_fields import DECISIVE, ignored_beside

T = TypeVar("T")


def parse(kind: type[T], name: str, args: list[str], default: T | None = None) -> T | None:
    """The command's dataclass from its arguments; None where only help was asked for.

    Raises:
        ConfigError: an unknown option or a value of the wrong type.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _RULES:
            return tyro.cli(
                kind,
                prog=f"maven-jax {name}",
                description=COMMANDS[name].summary,
                args=args,
                default=default,
            )
    except SystemExit as stop:
        if not stop.code:
            return None
    unrecognized = re.search(r"Unrecognized options: (-\S*?)[,\s]", said.getvalue() + " ")
    near = (
        nearest(unrecognized[1].partition("=")[0], _options(kind, args, default))
        if unrecognized
        else None
    )
    hint = f"; did you mean {near}?" if near else ""
    config = getattr(default, "config", None)
    is_option = unrecognized and unrecognized[1].startswith("--env.options.")
    if (
        config
        and is_option
        and ":" in config.env.name
        and not (near or "").startswith("--env.options.")
    ):
        hint = "; set it in a YAML file: its default is not a number, string or flag"
    raise ConfigError(_one_line(said.getvalue()) + hint)


def parse_with_config(kind: type[Any], name: str, args: list[str]) -> Any:
    """`parse` of a command whose first argument is CONFIG.

    CONFIG and the environment decide which options there are, so they are read first.

    Raises:
        ConfigError: also for a configuration that cannot work.
    """
    wants_help = not {"-h", "--help"}.isdisjoint(args)
    if not wants_help and (not args or args[0].startswith("-")):
        names = ", ".join(config_names())
        raise ConfigError(f"{name} needs CONFIG first; allowed: a YAML file, or one of {names}")
    source = args[0] if args and not args[0].startswith("-") else "maven"
    config = load_config(source)
    if (overrides := last_value("--config", args)) is not None:
        config = override(config, load_overrides(overrides))
    environment = last_value("--env.name", args)
    if environment is not None:
        config = override(config, {"env": {"name": environment}})
    config = complete(config)
    command = parse(kind, name, args, kind(source, config=config))
    if command is not None:
        validate(command.config)
    return command


def _options(kind: type[Any], args: list[str], default: Any) -> list[str]:
    """The options of a command, without the fields of CONFIG that its algorithm does not read."""
    parser = tyro.extras.get_parser(kind, default=default)
    options = [name for action in parser._actions for name in action.option_strings]
    left_out: Collection[str] = ()
    if config := getattr(default, "config", None):
        given = {field: last_value(f"--{field.replace('_', '-')}", args) for field in DECISIVE}
        left_out = ignored_beside(config, {k: v for k, v in given.items() if v is not None})
    return [
        name
        for name in options
        if name.startswith("--") and name.removeprefix("--").replace("-", "_") not in left_out
    ]


_RULES = tyro.constructors.ConstructorRegistry()


@_RULES.primitive_rule
def _whole_number_rule(
    type_info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[int] | None:
    """Lets whole numbers be given in scientific notation, as in YAML."""
    if type_info.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: int(whole_number(words[0])),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def last_value(option: str, args: list[str]) -> str | None:
    """What one option is given, before all others are known; None where it is not."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value", nargs="?")
    return parser.parse_known_args(args)[0].value


def _one_line(panel: str) -> str:
    """The first paragraph of the parser's panel."""
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
    no_number = re.match(r"Error parsing (\S+): no type matching .*INT.* from \[(.*)\]", paragraph)
    if no_number:
        return f"{no_number[1]} is {no_number[2]}; allowed: a whole number"
    if re.match(r"Unrecognized options: [^-\s]+$", paragraph):
        return f"{paragraph}; an option that is on or off takes no value: --NAME or --no-NAME"
    return paragraph
