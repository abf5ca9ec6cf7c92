"""Arguments of a command to its dataclass, and the parser's complaints to one line."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo

from maven_jax.cli.commands import COMMANDS, Command
from maven_jax.config import Config, override
from maven_jax.config.overrides import whole_number
from maven_jax.configs import config_names
from maven_jax.environments.registry import ENVIRONMENTS, complete
from maven_jax.errors import ConfigError
from maven_jax.experiments.folder import load_setup
from maven_jax.extensions import import_module, refuse_missing
from maven_jax.suggestions import nearest
from maven_jax.validation.checks import validate
from maven_jax.validation.files import load_config, load_overrides
from maven_jax.validation.ignored_fields import DECISIVE, ignored_beside

T = TypeVar("T")
Parser = Callable[[type[Any], str, list[str]], Any]
"""From a command's dataclass, its name and its arguments."""
_RULES = tyro.constructors.ConstructorRegistry()


@_RULES.primitive_rule
def _whole_number_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """Lets whole numbers be given in scientific notation, as in YAML."""
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: int(whole_number(words[0])),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def parse(kind: type[T], name: str, args: list[str], default: T | None = None) -> T | None:
    """The command's dataclass from its arguments; None where only help was asked for.

    Raises:
        ConfigError: an unknown option or a value of the wrong type.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _RULES:
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
    complaint = _first_paragraph(printed.getvalue())
    unrecognized = re.match(r"Unrecognized options: (-[^\s,=]*)", complaint)
    hint = _hint(unrecognized[1], _options(kind, args, default), default) if unrecognized else ""
    raise ConfigError(_plain(complaint) + hint)


def parse_with_config(kind: type[Any], name: str, args: list[str]) -> Any:
    """`parse` of a command whose first argument is CONFIG.

    CONFIG and the environment decide which options there are, so they are read first.

    Raises:
        ConfigError: also for a configuration that cannot work.
    """
    source = args[0] if args and not args[0].startswith("-") else None
    if source is None and {"-h", "--help"}.isdisjoint(args):
        names = ", ".join(config_names())
        raise ConfigError(f"{name} needs CONFIG first; allowed: a YAML file, or one of {names}")
    source = source or "maven"  # whose options the help shows
    config = load_config(source)
    if (overrides := _value_of("--config", args)) is not None:
        config = override(config, load_overrides(overrides))
    if (environment := _value_of("--env.name", args)) is not None:
        config = override(config, {"env": {"name": environment}})
    command = parse(kind, name, args, kind(source, config=complete(config)))
    if command is not None:
        validate(command.config)
    return command


def import_modules(args: list[str]) -> list[str]:
    """Imports the module of each `--import`; returns the other arguments.

    Raises:
        ConfigError: a module that cannot be imported.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--import", dest="modules", action="append", default=[])
    try:
        given, rest = parser.parse_known_args(args)
    except argparse.ArgumentError:
        raise ConfigError("--import needs a value; allowed: the name of a module") from None
    for name in given.modules:
        import_module(name, f"--import {name}: ")
    return rest


def parse_with_run(kind: type[Any], name: str, args: list[str]) -> Any:
    """`parse` of a command that plays with a run's weights, perhaps in another environment.

    The run and the environment decide which options of `--env` there are, so they are read first.

    Raises:
        ConfigError: also for an environment that does not exist.
        StorageError: there is no such run.
    """
    asks_help = not {"-h", "--help"}.isdisjoint(args)
    if not asks_help and not any(word.startswith(("--env", "--no-env")) for word in args):
        return parse(kind, name, args)
    first = Path(args[0]) if args and not args[0].startswith("-") else None
    named = kind(first, example=_value_of("--example", args))
    config, info = (Config(), {}) if asks_help else load_setup(named.folder)
    if (environment := _value_of("--env.name", args)) is not None:
        config = override(config, {"env": {"name": environment}})
    elif not asks_help:
        modules = info.get("imports", {}).get("env.name"), ENVIRONMENTS.module_of(config.env.name)
        refuse_missing(f"run '{named.folder}'", modules)
    return parse(kind, name, args, dataclasses.replace(named, env=complete(config).env))


def parser_of(command: Command) -> Parser:
    """What parses the arguments of a command."""
    if command.takes_config:
        return parse_with_config
    return parse_with_run if command.takes_env else parse


def _value_of(option: str, args: list[str]) -> str | None:
    """The last value of one option, before all options are known; None if it is not given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value", nargs="?")
    return parser.parse_known_args(args)[0].value


def _options(kind: type[Any], args: list[str], default: Any) -> list[str]:
    """The options of a command, without the fields of CONFIG that its algorithm does not read."""
    ignored: Collection[str] = ()
    if config := getattr(default, "config", None):
        given = {field: _value_of(f"--{field.replace('_', '-')}", args) for field in DECISIVE}
        ignored = ignored_beside(config, {k: v for k, v in given.items() if v is not None})
    actions = tyro.extras.get_parser(kind, default=default)._actions
    names = [name for action in actions for name in action.option_strings]
    return [
        name for name in names if name[:2] == "--" and name[2:].replace("-", "_") not in ignored
    ]


def _hint(unrecognized: str, options: list[str], default: Any) -> str:
    """What to do about an option that there is not."""
    near = nearest(unrecognized, options)
    config, prefix = getattr(default, "config", None), "--env.options."
    is_custom = config is not None and ":" in config.env.name  # an environment `module:Class`
    if is_custom and unrecognized.startswith(prefix) and not (near or "").startswith(prefix):
        return "; set it in a YAML file: its default is not a number, string or flag"
    return f"; did you mean {near}?" if near else ""


def _first_paragraph(panel: str) -> str:
    """The first paragraph in the box that the parser prints, as one line."""
    lines = [line.strip("│╭╮╰╯─|+ ") for line in panel.splitlines()[1:]]
    lines = [line if line.strip("-") else "" for line in lines]
    return " ".join(itertools.takewhile(bool, itertools.dropwhile(lambda x: not x, lines)))


def _plain(complaint: str) -> str:
    """A complaint of the parser as field, value and what is allowed, where it can be read so."""
    for pattern, allowed in (
        (r"Error parsing (\S+): invalid literal.*: (.*)", "a whole number"),
        (r"Error parsing (\S+): could not convert.*: (.*)", "a number"),
        (r"Error parsing (\S+): no type matching .*INT.* from \[(.*)\]", "a whole number"),
    ):
        if match := re.match(pattern, complaint):
            return f"{match[1]} is {match[2]}; allowed: {allowed}"
    if re.match(r"Unrecognized options: [^-\s]+$", complaint):
        return f"{complaint}; an option that is on or off takes no value: --NAME or --no-NAME"
    return complaint
