"""Every command that README.md and docs/*.md show is one: parsed, and six run with tiny sizes."""

import json
import re
import runpy
import shlex
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from maven_jax.cli.commands import COMMANDS
from maven_jax.cli.main import run
from maven_jax.cli.parsing import parse, parse_with_config

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

INSTALLS = "installs packages"
BUILDS = "makes a virtual environment and installs packages first"
BENCHMARK = "takes up to hours; tests/test_benchmarks.py runs it small"
COMPILERS = "needs the compilers of accelerators; tests/test_accelerators.py runs it small"
THEIRS = "needs a module of the reader's own; tests/environments/test_registry.py trains such a one"
NOT_RUN = {
    "pip install .": INSTALLS,
    "pip install '.[cuda12]'": INSTALLS,
    "pip install '.[ray]'": INSTALLS,
    "pip install '.[smax]'": INSTALLS,
    "make figure3": BUILDS,
    "make test": BUILDS,
    "make PYTHON=python3.12 test": BUILDS,
    "make test-all": BUILDS,
    "make test-newest": BUILDS,
    "make test-accelerators": BUILDS,
    "python benchmarks/accelerator.py --out accelerator.json": BENCHMARK,
    "python benchmarks/kill_and_resume.py": BENCHMARK,
    "python benchmarks/throughput.py": BENCHMARK,
    "python benchmarks/throughput.py --seeds 20 --chunks 6": BENCHMARK,
    "python benchmarks/launches.py": COMPILERS,
    "python benchmarks/launches.py --study foraging": COMPILERS,
    "python benchmarks/launches.py --study smax": COMPILERS,
    "python benchmarks/launches.py --configs foraging spread smax_3m warehouse": COMPILERS,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks mpe_spread --seeds 1 "
    "--rounds 20 --turns 5": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m --seeds 1 "
    "--rounds 6 --turns 5": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m --learn 300000 "
    "--seeds 3": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks mpe_spread --learn 300000 "
    "--seeds 3": BENCHMARK,
    "python benchmarks/environments.py --environments smax level_based_foraging --parallel 8 "
    "--row-slots 0 200 --repeats 2": BENCHMARK,
    "python benchmarks/environments.py --environments robot_warehouse --parallel 8 "
    "--row-slots 0 1002 --repeats 1": BENCHMARK,
    "python benchmarks/environments.py --repeats 1": BENCHMARK,
    "python benchmarks/environments.py --environments overcooked mpe_speaker_listener "
    "mpe_reference hanabi --repeats 1": BENCHMARK,
    "maven-jax train qmix --env.name game:TwoStep --env.options.time-limit 5": THEIRS,
}
"""What no test can run, and why; that it exists and takes its options is tested."""

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
"""Commands of README.md that run one after the other in one folder."""


class Command(NamedTuple):
    """A command as a document shows it."""

    document: str
    line: int
    words: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The command without what surrounds it."""
        return shlex.join(self.words)


def in_code(text: str) -> list[tuple[int, str]]:
    """Lines of blocks, joined where they are continued, and spans in prose; with line numbers."""
    blocks, prose = [], []
    fenced, indented, before = False, False, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.startswith("```")
        indented = line.startswith("    ") and (indented or not before.strip()) and not fenced
        if (fenced or indented) and not fence:
            blocks.append((number, line.strip()))
        prose.append("" if fenced or fence or indented else line)
        fenced, before = fenced != fence, line
    joined: list[tuple[int, str]] = []
    for number, line in blocks:
        if joined and joined[-1][1].endswith("\\"):
            start, first = joined.pop()
            number, line = start, f"{first[:-1]}{line}"
        joined.append((number, line))
    rest = "\n".join(prose)
    spans = [
        (rest.count("\n", 0, span.start()) + 1, " ".join(span[1].split()))
        for span in re.finditer(r"`([^`]+)`", rest)
    ]
    return sorted(joined + spans)


def commands_of(document: Path) -> list[Command]:
    """All commands of a document, in their order."""
    found = []
    for number, text in in_code(document.read_text()):
        if match := re.match(r"(?:[A-Z_]+=\S+ +)*((?:maven-jax|python|make|pip) .*)", text):
            words = shlex.split(match[1], comments=True)
            found.append(Command(document.name, number, tuple(words)))
    return found


FOUND = [command for document in DOCUMENTS for command in commands_of(document)]
PARSED = {c.shown: c for c in reversed(FOUND) if c.shown not in NOT_RUN}


def test_every_command_is_found():
    """By a plain search, too; and what is excepted is still there."""
    found = Counter(command.document for command in FOUND)
    assert {path.name for path in DOCUMENTS if not found[path.name]} == {"fidelity.md"}
    for document in DOCUMENTS:
        words = [command.words[0] for command in commands_of(document)]
        for name, pattern in (
            ("maven-jax", r"\bmaven-jax (?=[-a-z])"),
            ("python", r"\bpython (?=\S+\.py|-m)"),
            ("make", r"(?m)(?:`|^    )make (?=[-A-Za-z])"),
            ("pip", r"\bpip install "),
        ):
            shown = len(re.findall(pattern, document.read_text()))
            assert words.count(name) == shown, (document.name, name)
    assert set(NOT_RUN) | set(RUN) <= {command.shown for command in FOUND}
    assert {command.words[0] for command in PARSED.values()} == {"maven-jax"}


@pytest.mark.parametrize("shown", PARSED)
def test_a_command_is_parsed(shown, capfd):
    if "smax" in shown:
        pytest.importorskip("jaxmarl", reason="SMAX needs jaxmarl, which is not installed")
    assert_parsed(PARSED[shown].words[1:])


def assert_parsed(words) -> None:
    """Whether a command takes its arguments; `--help` prints instead."""
    name, *rest = words
    kind, _ = COMMANDS[name].load()
    parser = parse_with_config if COMMANDS[name].takes_config else parse
    assert (parser(kind, name, rest) is None) == ("--help" in rest)


@pytest.mark.slow
def test_commands_run_one_after_the_other(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    tiny = ["--config", "smoke", "--seeds", "2"]
    assert run(["train", "qmix", *tiny, "--no-tensorboard", "--out", "runs/other"]) == 0
    for shown in RUN:
        _, *words = PARSED[shown].words
        words += tiny if words[0] in ("train", "sweep") else []
        if words[0] == "resume":  # as a kill before the first checkpoint leaves it
            file = tmp_path / words[1] / "run.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "running"}))
        capfd.readouterr()
        code = run(words)
        said = capfd.readouterr()
        assert code == 0, said.err
        assert said.out


@pytest.mark.parametrize("shown", NOT_RUN)
def test_what_is_not_run_is_there(shown, monkeypatch, capfd, tmp_path):
    """Targets and variables of the Makefile, extras, options of benchmarks and of commands."""
    program, *words = shlex.split(shown)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for word in words:
            variable, equals, _ = word.partition("=")
            pattern = rf"^{variable} \?=" if equals else rf"^{word}:"
            assert re.search(pattern, makefile, re.MULTILINE), word
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        known = extras["optional-dependencies"]
        assert words[0] == "install"
        assert words[1] in (".", *(f".[{extra}]" for extra in known))
    elif program == "python":
        script, *options = words
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")  # which this process has already
        monkeypatch.setattr(sys, "argv", [script, "--help"])
        monkeypatch.syspath_prepend(str((ROOT / script).parent))  # as Python itself does
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        printed = capfd.readouterr().out
        assert all(option in printed for option in options if option.startswith("--"))
    else:
        (tmp_path / "game.py").write_text(READERS_OWN)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
        try:
            assert_parsed(words)
        finally:
            sys.modules.pop("game", None)
