"""The page of the command line, from the program's own parsers."""

import argparse
import re
import warnings
from collections.abc import Iterable

import tyro

from maven_jax.cli.commands import COMMANDS
from maven_jax.cli.parsing import _RULES
from maven_jax.environments.registry import complete
from maven_jax.validation.files import load_config

HEAD = """# Command line

The options of every command, as `maven-jax COMMAND --help` prints them. Numbers may be given in
scientific notation. Bad input ends with exit code 2 and one line.
"""
FIELDS = """## Fields of the configuration

`train` and `sweep` take every field as an option. A YAML file nests them:
`--training.num-envs 8` is `training: {num_envs: 8}`. Defaults here are those of `maven`; the
options of `env.options` depend on `--env.name`.
"""


def page() -> str:
    """The page, in Markdown."""
    lines = [HEAD]
    for name, command in COMMANDS.items():
        lines += [f"## maven-jax {name}", command.summary, ""]
        actions = [x for group in parser_of(name)._action_groups for x in group._group_actions]
        lines += table(action for action in actions if not is_field(action))
        if command.takes_config:
            lines += ["And [every field of the configuration](#fields-of-the-configuration).", ""]
    lines.append(FIELDS)
    for group in parser_of("train")._action_groups:
        fields = [action for action in group._group_actions if is_field(action)]
        if fields and group.title != "options":
            title = (group.title or "").removesuffix(" options")
            lines += [f"### {title}", group.description or "", ""]
        lines += table(fields)
    return "\n".join(lines)


def parser_of(name: str) -> argparse.ArgumentParser:
    """A command's parser."""
    kind, _ = COMMANDS[name].load()
    config = complete(load_config("maven"))
    default = kind("maven", config=config) if COMMANDS[name].takes_config else None
    with warnings.catch_warnings(), _RULES:
        warnings.simplefilter("ignore", DeprecationWarning)  # as `maven_jax.cli.parsing` does
        return tyro.extras.get_parser(kind, default=default)


def is_field(action: argparse.Action) -> bool:
    """Whether an option is a field of the configuration."""
    return action.dest.startswith("config.")


def table(actions: Iterable[argparse.Action]) -> list[str]:
    """Options, what they take, and what they mean."""
    rows = [row(action) for action in actions if "--help" not in action.option_strings]
    return ["| option | takes | meaning |", "|---|---|---|", *rows, ""] if rows else []


def row(action: argparse.Action) -> str:
    """One option."""
    metavar = re.sub(r"{None}\||[\[\]]", "", str(action.metavar or "")).replace("|", " or ")
    metavar = re.sub(r"(\w+) \1 \.\.\.", r"\1 ...", metavar)
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{metavar}`"
    takes = re.sub(r"[{}]", "", metavar).replace(",", ", ") if action.option_strings else ""
    meaning = " ".join((action.help or "").split())
    meaning = re.sub(r" \(default: (None)?\)", "", meaning).replace("|", "\\|").replace("<", "&lt;")
    return f"| {names} | {takes} | {meaning} |".replace("  ", " ")
