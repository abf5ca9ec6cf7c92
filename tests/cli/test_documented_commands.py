"""Every command that README.md and the pages show is one: parsed, and six run with tiny sizes."""

import json
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import forget

from maven_jax.cli.commands import COMMANDS
from maven_jax.cli.main import run
from maven_jax.cli.parsing import import_modules, parser_of

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN = {
    "pip": "installs packages",
    "make": "makes a virtual environment and installs packages first",
    "python": "takes up to hours; test_benchmarks.py and test_accelerators.py run it small",
}
"""Programs of which no command is run, and why; that it exists and takes its options is tested."""

OWN_GAME = [
    "maven-jax train qmix --env.name game:TwoStep --env.options.time-limit 5 --out runs/game",
    "maven-jax evaluate runs/game --import game",
    "maven-jax resume runs/game --import game",
]
"""Needs a module of the reader's own; tests/environments/test_registry.py trains such a one."""

READERS_OWN = """from maven_jax.envs.adapters import LevelBasedForaging


class TwoStep(LevelBasedForaging):
    pass
"""
"""What stands for a module of the reader's own."""

RUN = [
    "maven-jax train maven --seeds 8 --hyperparameters.mi-weight 0.01 --out runs/mine",
    "maven-jax evaluate runs/mine",
    "maven-jax plot runs/mine runs/other --metric return",
    "maven-jax sweep maven --seeds 20 --grid hyperparameters.mi-weight=0.01,0.1,1",
    "maven-jax table runs/maven-sweep",
    "maven-jax resume runs/maven-sweep",
]
"""Commands of the documents that run one after the other in one folder."""


class Command(NamedTuple):
    """A command as a document shows it."""

    document: Path
    words: tuple[str, ...]


def in_code(text: str) -> list[str]:
    """Lines of blocks, joined where they are continued, and spans in prose."""
    blocks, prose = [], []
    fenced, indented, before = False, False, ""
    for line in text.splitlines():
        fence = line.startswith("```")
        indented = line.startswith("    ") and (indented or not before.strip()) and not fenced
        if (fenced or indented) and not fence:
            blocks.append(line.strip())
        prose.append("" if fenced or fence or indented else line)
        fenced, before = fenced != fence, line
    lines = "\n".join(blocks).replace("\\\n", "").splitlines()
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", "\n".join(prose))]


def commands_of(document: Path) -> list[Command]:
    """All commands of a document."""
    pattern = r"(?:[A-Z_]+=\S+ +)*((?:maven-jax|python|make|pip) .*)"
    matches = (re.match(pattern, text) for text in in_code(document.read_text()))
    words = (tuple(shlex.split(match[1], comments=True)) for match in matches if match)
    return [Command(document, each) for each in words]


FOUND = [command for document in DOCUMENTS for command in commands_of(document)]
SHOWN = {shlex.join(command.words): command.words for command in FOUND}
PARSED = {shown: words for shown, words in SHOWN.items() if words[0] == "maven-jax"}


def test_every_command_is_found():
    """By a plain search, too; and what is run, and what is excepted, is still there."""
    for document in DOCUMENTS:
        words = [command.words[0] for command in FOUND if command.document == document]
        for name, pattern in (
            ("maven-jax", r"\bmaven-jax (?=[-a-z])"),
            ("python", r"\bpython (?=\S+\.py|-m)"),
            ("make", r"(?m)(?:`|^    )make (?=[-A-Za-z])"),
            ("pip", r"\bpip install "),
        ):
            shown = len(re.findall(pattern, document.read_text()))
            assert words.count(name) == shown, (document, name)
    assert {*OWN_GAME, *RUN} <= set(SHOWN)
    assert {words[0] for words in SHOWN.values()} == {"maven-jax", *NOT_RUN}


@pytest.mark.parametrize("shown", PARSED)
def test_a_command_is_parsed(shown, capfd, monkeypatch, tmp_path):
    if "smax" in shown:
        pytest.importorskip("jaxmarl", reason="SMAX needs jaxmarl, which is not installed")
    if "game:" in shown or "--import game" in shown:
        (tmp_path / "game.py").write_text(READERS_OWN)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    elif "--import" in shown:
        monkeypatch.chdir(ROOT / "docs" / "examples")
    try:
        assert_parsed(PARSED[shown][1:])
    finally:
        forget("game", "own_mixer")


def assert_parsed(words) -> None:
    """Whether a command takes its arguments; `--help` prints instead."""
    name, *rest = words
    kind, _ = COMMANDS[name].load()
    parser = parser_of(COMMANDS[name])
    assert (parser(kind, name, import_modules(rest)) is None) == ("--help" in rest)


@pytest.mark.slow
def test_commands_run_one_after_the_other(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    tiny = ["--config", "smoke", "--seeds", "2"]
    assert run(["train", "qmix", *tiny, "--no-tensorboard", "--out", "runs/other"]) == 0
    for shown in RUN:
        _, *words = PARSED[shown]
        words += tiny if words[0] in ("train", "sweep") else []
        if words[0] == "resume":  # as a kill before the first checkpoint leaves it
            file = tmp_path / words[1] / "run.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "running"}))
        capfd.readouterr()
        code = run(words)
        said = capfd.readouterr()
        assert code == 0, said.err
        assert said.out


@pytest.mark.parametrize("shown", [each for each in SHOWN if each not in PARSED])
def test_what_is_not_run_is_there(shown, monkeypatch, capfd):
    """Targets and variables of the Makefile, extras, and options of benchmarks."""
    program, *words = SHOWN[shown]
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for word in words:
            variable, equals, _ = word.partition("=")
            pattern = rf"^{variable} \?=" if equals else rf"^{word}:"
            assert re.search(pattern, makefile, re.MULTILINE), word
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert words[0] == "install"
        assert words[1] in (".", *(f".[{extra}]" for extra in project["optional-dependencies"]))
    elif words[0].startswith("docs/examples/"):  # test_extension_examples.py runs it
        assert (ROOT / words[0]).exists()
    else:
        script, *options = words
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")  # which this process has already
        monkeypatch.setattr(sys, "argv", [script, "--help"])
        monkeypatch.syspath_prepend(str((ROOT / script).parent))  # as Python itself does
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        printed = capfd.readouterr().out
        assert all(option in printed for option in options if option.startswith("--"))
