"""The generated page of the command line has every command, and every field of a configuration."""

import importlib.util
from pathlib import Path

import pytest

from maven_jax.cli.commands import COMMANDS
from maven_jax.config import Config, to_dict
from maven_jax.config.fields import flatten

SCRIPT = Path(__file__).parent.parent.parent / "docs" / "site" / "command_line.py"


@pytest.fixture(scope="module")
def page() -> str:
    spec = importlib.util.spec_from_file_location("command_line", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


def test_every_command_and_every_field_is_there(page):
    for name, command in COMMANDS.items():
        assert f"## maven-jax {name}\n{command.summary}\n" in page
    for field in flatten(to_dict(Config())):
        assert f"`--{field.replace('_', '-')}`" in page, field


def test_every_row_of_a_table_has_three_cells(page):
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 100
    assert {line.replace("\\|", "").count("|") for line in rows} == {4}
