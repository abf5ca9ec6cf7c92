"""Every command that README.md and docs/*.md show runs as it stands there, as a smoke test.

`DOCUMENTED=all` in the environment runs those of `CHECKED`, too, which add minutes of compiling.
"""

import json
import os
import re
import runpy
import shlex
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from maven_jax.cli import smoke
from maven_jax.cli.main import run
from maven_jax.config.files import load_config
from maven_jax.environments import make_env
from maven_jax.pymarl.weights import expected_state_dicts
from maven_jax.rollout import env_spec
from maven_jax.runs.folder import is_study

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

INSTALLS = "installs packages"
BUILDS = "makes a virtual environment and installs packages first"
BENCHMARK = "takes up to hours; tests/test_benchmarks.py runs it small"
COMPILERS = "needs the compilers of accelerators; tests/test_accelerators.py runs it small"
THEIRS = "needs a module of the reader's own; tests/test_environments.py trains such a one"
HOSTS = "waits for the other host; tests/runs/test_devices.py starts two processes"
NOT_RUN = {
    "pip install .": INSTALLS,
    "pip install '.[cuda12]'": INSTALLS,
    "pip install '.[smax]'": INSTALLS,
    "make figure3": BUILDS,
    "make test": BUILDS,
    "make PYTHON=python3.12 test": BUILDS,
    "make test-newest": BUILDS,
    "make test-accelerators": BUILDS,
    "python benchmarks/accelerator.py --out accelerator.json": BENCHMARK,
    "python benchmarks/kill_and_resume.py": BENCHMARK,
    "python benchmarks/checkpoints.py": BENCHMARK,
    "python benchmarks/checkpoints.py --pairs 4": BENCHMARK,
    "python benchmarks/throughput.py": BENCHMARK,
    "python benchmarks/throughput.py --seeds 20 --chunks 6": BENCHMARK,
    "python benchmarks/breakdown.py --configs qmix maven smax_3m --turns 10": BENCHMARK,
    "python benchmarks/launches.py": COMPILERS,
    "python benchmarks/launches.py --study foraging": COMPILERS,
    "python benchmarks/launches.py --study smax": COMPILERS,
    "python benchmarks/launches.py --configs foraging spread smax_3m warehouse": COMPILERS,
    "python benchmarks/scripted_smax.py": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks mpe_spread --seeds 1 "
    "--rounds 20 --turns 5": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m --seeds 1 "
    "--rounds 6 --turns 5": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m --learn 300000 "
    "--seeds 3": BENCHMARK,
    "python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks mpe_spread --learn 300000 "
    "--seeds 3": BENCHMARK,
    "python benchmarks/fuzz.py": BENCHMARK,
    "python benchmarks/fuzz_folders.py": BENCHMARK,
    "python benchmarks/environments.py --environments smax level_based_foraging --parallel 8 "
    "--row-slots 0 200 --repeats 2": BENCHMARK,
    "python benchmarks/environments.py --environments robot_warehouse --parallel 8 "
    "--row-slots 0 1002 --repeats 1": BENCHMARK,
    "python benchmarks/environments.py --repeats 1": BENCHMARK,
    "python benchmarks/environments.py --environments overcooked mpe_speaker_listener "
    "mpe_reference hanabi --repeats 1": BENCHMARK,
    "python benchmarks/same_starts.py RUN RUN": BENCHMARK,
    "maven-jax --distributed sweep maven --seeds 1000": HOSTS,
    "maven-jax train qmix --env.name game:TwoStep --env.options.time-limit 5": THEIRS,
}
"""What no test can run, and why; that it exists and takes its options is tested."""

READERS_OWN = """from maven_jax.envs.adapters import LevelBasedForaging


class TwoStep(LevelBasedForaging):
    pass
"""
"""What stands for a module of the reader's own."""

SLOW = "compiles for half a minute or more; another line runs the like"
CHECKED = {
    "maven-jax sweep foraging --algorithm maven --seeds 2 --hyperparameters.reward-scale 1 "
    "--grid hyperparameters.mi-weight=0.1,0.01,0.001 "
    "--grid hyperparameters.latent-return-scale=1,10": SLOW,
    "maven-jax train qmix --env.name level_based_foraging --env.options.num-agents 3": SLOW,
    "maven-jax train maven --env.options.m 5": SLOW,
    "maven-jax train maven --algorithm maven_vdn --latent.kind gaussian": SLOW,
    "maven-jax train smax_3m --training.row-slots 200 --training.env-steps-per-update 40": SLOW,
    "maven-jax study ten_step": SLOW,
    "maven-jax study foraging": SLOW,
    "maven-jax study smax": SLOW,
    "maven-jax study smax_2s3z": SLOW,
    "maven-jax study smax_3s_vs_5z": SLOW,
    "maven-jax study smax_6h_vs_8z": SLOW,
    "maven-jax study spread": SLOW,
    "maven-jax study warehouse": SLOW,
}
"""What goes as far as an output folder that exists, once all else has been found right."""
if os.environ.get("DOCUMENTED") == "all":
    CHECKED = {}

PRESUPPOSED = {
    "runs/other": "qmix",
    "runs/a": "maven",
    "runs/b": "qmix",
    "runs/smax-qmix": "qmix",
    "runs/smax-maven": "maven",
}
"""Runs that a document reads and does not make, and the configuration of what stands for them."""


class Command(NamedTuple):
    """A command as a document shows it."""

    document: str
    line: int
    words: tuple[str, ...]
    inline: bool
    """In a sentence or table: it runs in a folder of its own, those of blocks in the document's."""

    @property
    def shown(self) -> str:
        """The command without what surrounds it."""
        return shlex.join(self.words)


def in_code(text: str) -> list[tuple[int, str, bool]]:
    """Lines of blocks, joined where they are continued, and spans in prose; with line numbers."""
    blocks, prose = [], []
    fenced, indented, before = False, False, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.startswith("```")
        indented = line.startswith("    ") and (indented or not before.strip()) and not fenced
        if (fenced or indented) and not fence:
            blocks.append((number, line.strip(), False))
        prose.append("" if fenced or fence or indented else line)
        fenced, before = fenced != fence, line
    joined: list[tuple[int, str, bool]] = []
    for number, line, inline in blocks:
        if joined and joined[-1][1].endswith("\\"):
            start, first, _ = joined.pop()
            number, line = start, f"{first[:-1]}{line}"
        joined.append((number, line, inline))
    rest = "\n".join(prose)
    spans = [
        (rest.count("\n", 0, span.start()) + 1, " ".join(span[1].split()), True)
        for span in re.finditer(r"`([^`]+)`", rest)
    ]
    return sorted(joined + spans)


def commands_of(document: Path) -> list[Command]:
    """All commands of a document, in their order."""
    found = []
    for number, text, inline in in_code(document.read_text()):
        if match := re.match(r"(?:[A-Z_]+=\S+ +)*((?:maven-jax|python|make|pip) .*)", text):
            words = shlex.split(match[1], comments=True)
            found.append(Command(document.name, number, tuple(words), inline))
    return found


COMMANDS = [command for document in DOCUMENTS for command in commands_of(document)]
RUN = [command for command in COMMANDS if command.shown not in NOT_RUN]


def reads(command: Command) -> tuple[Command, ...]:
    """What stands above a command in its document's blocks and has to do with a run it names."""
    names = [word.removeprefix("runs/").removesuffix("-sweep") for word in command.words]
    names = [name for name, word in zip(names, command.words, strict=True) if name != word]
    above = [c for c in RUN if c.document == command.document and c.line < command.line]
    return tuple(c for c in above if not c.inline and any(x in c.shown[10:] for x in names))


FIRST = {(c.words, *(x.words for x in reads(c))): c for c in reversed(RUN)}.values()
ONCE = [command for command in RUN if command in FIRST]
"""The same command on the same runs stands in several places: the first of them is run."""


def test_every_command_is_found():
    """By a plain search, too; and what is excepted is still there."""
    found = Counter(command.document for command in COMMANDS)
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
    assert set(NOT_RUN) | set(CHECKED) <= {command.shown for command in COMMANDS}
    assert {command.words[0] for command in RUN} == {"maven-jax"}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The working folder of a document's blocks, and a new one for each other command."""
    folders = {}

    def find(command: Command) -> Path:
        if command.inline:
            return tmp_path_factory.mktemp("inline")
        name = command.document
        return folders.setdefault(name, folders.get(name) or tmp_path_factory.mktemp(name))

    return find


def make_run(path: Path) -> None:
    """What stands for a run that a document presupposes."""
    assert run(["train", PRESUPPOSED[str(path)], "--no-tensorboard", "--out", str(path)]) == 0


def make_weights(path: Path) -> None:
    """Random weights of the published code's names and shapes, and MAVEN's sizes."""
    config = load_config("maven")
    arrays = expected_state_dicts(config, env_spec(make_env(config)))
    random = np.random.default_rng(0)
    path.mkdir()
    for name, part in zip(
        ("agent", "mixer", "discrim", "rnn_agg", "ez_bandit_policy"), arrays, strict=True
    ):
        drawn = {key: random.normal(size=x.shape).astype(np.float32) for key, x in part.items()}
        np.savez(path / f"{name}.npz", **drawn)


def leave_as_killed(path: Path) -> None:
    """A run as it is left by a kill before its first checkpoint."""
    file = path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "running"}))


def assert_only_the_folder_is_refused(words: list[str], capfd) -> None:
    Path("exists").touch()
    capfd.readouterr()
    assert run([*words, "--out", "exists"]) == 2
    message = "output folder 'exists' already exists; choose a new path"
    assert capfd.readouterr().err == f"maven-jax: error: {message}\n"


@pytest.mark.parametrize(
    "command", ONCE, ids=[f"{c.document}:{c.line} {c.shown[10:]}" for c in ONCE]
)
def test_a_command_runs(command, folder_of, monkeypatch, capfd):
    if "smax" in command.shown.replace("smax-", ""):
        pytest.importorskip("jaxmarl", reason="SMAX needs jaxmarl, which is not installed")
    monkeypatch.chdir(folder_of(command))
    monkeypatch.setenv(smoke.SMOKE_TEST, "1")
    _, name, *rest = command.words
    for path in (Path(word) for word in rest if word in PRESUPPOSED):
        if not path.exists():
            make_run(path)
    if "FOLDER" in rest:
        make_weights(Path("FOLDER"))
    finishes = name == "resume" and "--training.total-env-steps" not in rest
    if finishes and not is_study(Path(rest[0])):  # of a study runs are missing anyway
        leave_as_killed(Path(rest[0]))
    if command.shown in CHECKED:
        assert_only_the_folder_is_refused([name, *rest], capfd)
        return
    capfd.readouterr()
    code = run([name, *rest])
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
            assert_only_the_folder_is_refused([w for w in words if w != "--distributed"], capfd)
        finally:
            sys.modules.pop("game", None)
