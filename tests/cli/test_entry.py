"""The command line as a process: what surrounds it, names of folders, and no installation."""

import contextlib
import dataclasses
import inspect
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from small_experiments import SMALL, refused

import maven_jax
from maven_jax.cli.commands import COMMANDS
from maven_jax.cli.main import run
from maven_jax.config import Config
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.new_folder import describe_machine
from maven_jax.experiments.run import Run, load_run
from maven_jax.reports.plots import draw_curves

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
MAIN = [sys.executable, "-m", "maven_jax"]


def start(*arguments, cwd=ROOT, command=MAIN, **environment) -> subprocess.CompletedProcess:
    """A process of its own, with further variables in its environment."""
    return subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "300", **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_device_that_is_not_there_is_one_line(platform, tmp_path):
    ended = start("train", "qmix", "--out", str(tmp_path / "run"), JAX_PLATFORMS=platform)
    assert ended.returncode == 2
    assert ended.stdout == b""
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith(f"maven-jax: error: JAX_PLATFORMS is '{platform}': ")
    assert not list(tmp_path.iterdir())


WITHOUT_JAX = """
import runpy, sys
try:
    runpy.run_module("maven_jax", run_name="__main__")
except SystemExit as end:
    slow = {"jax", "jumanji", "matplotlib", "numpy", "tyro"} & set(sys.modules)
    sys.exit(end.code or ", ".join(slow) or 0)
"""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [(["--version"], f"maven-jax {maven_jax.__version__}\n"), ([], "usage: maven-jax COMMAND")],
)
def test_help_and_version_need_neither_a_device_nor_jax(arguments, printed):
    command = [sys.executable, "-c", WITHOUT_JAX]
    ended = start(*arguments, command=command, JAX_PLATFORMS="cuda")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode().startswith(printed)


def test_the_help_of_a_command_needs_no_device():
    ended = start("train", "--help", JAX_PLATFORMS="cuda")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.startswith(b"usage: maven-jax train")


def test_every_command_can_be_loaded():
    for name, command in COMMANDS.items():
        arguments, function = command.load()
        assert f"`maven-jax {name}" in inspect.getdoc(function)
        fields = {field.name for field in dataclasses.fields(arguments)}
        assert ("config_source" in fields) == command.takes_config


@pytest.mark.parametrize(
    "redirection",
    ["2>&1 | head -c 1", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"],
    ids=["no reader", "full", "closed"],
)
def test_output_that_nobody_reads_does_not_end_training(redirection, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    train = f"'{sys.executable}' -m maven_jax train small.yaml --seeds 1 --no-tensorboard --out run"
    script = f"{train} {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = start(cwd=tmp_path, command=["bash", "-c", script], PYTHONPATH=str(ROOT))
    assert (ended.returncode, ended.stderr) == (0, b"")
    run = load_run(tmp_path / "run")
    assert run.info["status"] == "finished"
    assert run.final("env_steps").min() >= 60
    assert (tmp_path / "run" / "weights.npz").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_result_that_cannot_be_printed_is_an_error():
    code = f"'{sys.executable}' -m maven_jax --help >/dev/full"
    ended = start(command=["bash", "-c", code])
    assert ended.returncode == 2
    assert ended.stderr == b"maven-jax: error: [Errno 28] No space left on device\n"


NAME = "\u5b9e\u9a8c $[lr=1e-3]$:bomb:"
"""A folder that an ASCII terminal, rich's markup and matplotlib would each print otherwise."""


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """The folder of a run with that name, and what its training printed in ASCII."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "small.yaml").write_text(SMALL.format(algorithm="maven"))
    arguments = ["small.yaml", "--seeds", "2", "--no-tensorboard", "--out", f"_runs/{NAME}"]
    ended = start("train", *arguments, cwd=folder, PYTHONIOENCODING="ascii", PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout.decode("ascii")


def test_a_name_is_printed_in_any_encoding(named):
    escaped = NAME.encode("ascii", "backslashreplace").decode()
    assert named[1].rstrip().endswith(f"results in _runs/{escaped}/")


def test_a_name_is_printed_whole(named, capsys, monkeypatch):
    monkeypatch.chdir(named[0])
    monkeypatch.setenv("COLUMNS", "200")
    path = f"_runs/{NAME}"
    assert run(["evaluate", path, "--episodes", "2", "--behaviour", "z [b].png"]) == 0
    printed = capsys.readouterr().out
    assert f"2 greedy episodes a run: {path}" in printed
    assert "picture: z [b].png" in printed
    assert refused(capsys, "table", path, path).count(f"'{path}'") == 2
    assert refused(capsys, "train", "small.yaml", "--out", path).startswith(
        f"'{path}' holds another run: seed is [0, 1] there,"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_what_evaluate_draws_is_written_before_it_prints(named, monkeypatch):
    monkeypatch.chdir(named[0])
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(["evaluate", f"_runs/{NAME}", "--episodes", "2", "--behaviour", "full.png"]) == 2
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert (named[0] / "full.png").is_file()


def test_a_name_stands_whole_in_a_legend(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: shown.append(figure))
    info = {"lanes": {"seed": [0]}, "coordinates": {}, "status": "finished"}
    metrics = {name: np.array([0.0, 0.0]) for name in ("seed", "return")}
    metrics |= {name: np.array([10.0, 20.0]) for name in ("env_steps", "num_updates")}
    configs = {"_first": "iql", "a $x$ b": "vdn", "[c]": "qmix", "no\udce9text": "maven"}
    runs = [
        Run(tmp_path / name, Config(algorithm=algorithm), info, metrics)
        for name, algorithm in configs.items()
    ]
    draw_curves(runs, tmp_path / "x.png")
    texts = shown[0].axes[0].get_legend().get_texts()
    names = ["_first", "a $x$ b", "[c]", "no\\udce9text"]
    assert [text.get_text() for text in texts] == [f"{name} (1 seed)" for name in names]
    assert not any(text.get_parse_math() for text in texts)


def test_versions_are_known_without_installation(monkeypatch, capsys):
    known = metadata.version

    def version(name):
        if name == "maven-jax":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"maven-jax {maven_jax.__version__}\n"
    assert describe_machine()["versions"]["maven-jax"] == maven_jax.__version__


@pytest.mark.parametrize(
    ("command", "odd"),
    [
        *(("train", odd) for odd in (".", "..", "/", "", "here/..", "new/../here", "file/run")),
        *(("train", odd) for odd in ("link", "no\udce9utf")),
        *((command, ".") for command in ("sweep", "convert", "figure3")),
    ],
)
def test_an_output_folder_that_cannot_be_made_is_refused(command, odd, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = {"train": ["maven"], "sweep": ["maven", "--grid", "latent.size=2,3"]}
    arguments |= {"convert": ["here", "--config", "maven"], "figure3": []}
    with contextlib.chdir(tmp_path):
        message = refused(capsys, command, *arguments[command], "--out", odd)
    assert message.startswith("output folder '")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "odd",
    [".", "/", "", "here/..", "file/run.png", "link.png", "here", "new/../link.png", "new/../file"],
)
@pytest.mark.parametrize("command", ["plot", "export"])
def test_a_file_that_cannot_be_made_is_refused(command, odd, named, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere.png")
    before = sorted(path.name for path in tmp_path.iterdir())
    with contextlib.chdir(tmp_path):
        refused(capsys, command, named[0] / "_runs" / NAME, "--out", odd)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_files_beside_what_is_written_are_left_alone(named, capsys, tmp_path):
    """Not even one of the name that a draft might have; and a name may be as long as may be."""
    (tmp_path / ".x.json").write_text("kept")
    assert run(["export", str(named[0] / "_runs" / NAME), "--out", str(tmp_path / "x.json")]) == 0
    longest = tmp_path / ("e" * 255)
    assert run(["export", str(named[0] / "_runs" / NAME), "--out", str(longest)]) == 0
    assert (tmp_path / ".x.json").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {".x.json", "x.json", longest.name}


def test_nothing_is_made_for_a_picture_that_cannot_be_drawn(named, capsys, tmp_path):
    out = tmp_path / "new" / "below" / "x.png"
    refused(capsys, "plot", named[0] / "_runs" / NAME, "--metric", "nope", "--out", out)
    assert not any(tmp_path.iterdir())


def test_a_terminal_without_columns_is_printed_to(monkeypatch, capsys):
    for columns in ("0", "1", "39"):
        monkeypatch.setenv("COLUMNS", columns)
        plain_console().print("a word")
        assert capsys.readouterr().out == "a word\n"
