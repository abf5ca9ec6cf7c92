"""The reference has an entry for every public name, and each entry is there."""

import pkgutil
import re
from pathlib import Path

import pytest

import maven_jax

API = Path(__file__).parent.parent.parent / "docs" / "api"
ENTRIES = [
    entry
    for page in sorted(API.glob("*.md"))
    for entry in re.findall(r"(?m)^::: (\S+)$", page.read_text())
]


def test_every_public_name_has_one_entry():
    entries = [entry.removeprefix("maven_jax.") for entry in ENTRIES]
    assert {name: entries.count(name) for name in maven_jax.__all__} == dict.fromkeys(
        maven_jax.__all__, 1
    )


def test_the_table_of_names_is_whole():
    table = (API / "index.md").read_text()
    assert all(f"`{name}`" in table for name in maven_jax.__all__)


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_there_and_documented(entry):
    found = pkgutil.resolve_name(entry)
    assert (found.__doc__ or "").strip()
