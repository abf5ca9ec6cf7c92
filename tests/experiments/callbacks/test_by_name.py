"""Callbacks by name on the command line."""

import importlib
import subprocess
import sys

import pytest
from small_experiments import SMALL, contents, refused

import maven_jax
from maven_jax.cli.main import run
from maven_jax.experiments.callbacks import EarlyStopping, JsonLines, TensorBoard, make_callback
from maven_jax.experiments.callbacks.by_name import CALLBACKS

MODULE = """
from maven_jax import callbacks


class First(callbacks.Callback):
    def on_start(self, start):
        print("starts at", start.num_evaluations)

    def on_chunk(self, chunk):
        return chunk.num_evaluations == 2


first = First()


def make():
    return callbacks.EarlyStopping(at_least=1.0)


class Nested:
    Inner = First


class NeedsAnArgument(callbacks.Callback):
    def __init__(self, project):
        pass


def raises():
    return callbacks.EarlyStopping()


number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module, as a user's; nothing of it stays imported."""
    (tmp_path / "watchers.py").write_text(MODULE)
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("watchers", None)


def test_packaged_names_and_those_of_a_module(here):
    assert isinstance(make_callback("json_lines"), JsonLines)
    assert isinstance(make_callback("tensorboard"), TensorBoard)
    first = make_callback("watchers:first")
    module = sys.modules["watchers"]
    assert first is module.first
    assert isinstance(make_callback("watchers:First"), module.First)
    assert isinstance(make_callback("watchers:Nested.Inner"), module.First)
    assert isinstance(make_callback("watchers:make"), EarlyStopping)


def test_a_registered_name(here):
    maven_jax.register_callback("to_the_top", lambda: EarlyStopping(at_least=13.0))
    try:
        assert isinstance(make_callback("to_the_top"), EarlyStopping)
    finally:
        del CALLBACKS["to_the_top"], CALLBACKS.modules["to_the_top"]
    with pytest.raises(maven_jax.ConfigError, match="callback is 'wandb'; allowed: a name that is"):
        maven_jax.register_callback("wandb", JsonLines)


REFUSED = [
    ("jason_lines", "callback is 'jason_lines'; allowed: json_lines, tensorboard, wandb (custom:"),
    ("other:Name", "callback is 'other:Name', but there is no module 'other'; allowed: a module"),
    ("watchers:Frist", "unknown name in 'watchers', callback 'watchers:Frist': 'Frist'; did you"),
    (
        "watchers:number",
        "callback is 'watchers:number'; allowed: a maven_jax.callbacks.Callback, or a",
    ),
    ("watchers:NeedsAnArgument", "callback is 'watchers:NeedsAnArgument', which raises TypeError"),
    ("watchers:raises", "conditions of EarlyStopping is []; allowed: at_least, at_most or"),
    ("os:getcwd", "callback is 'os:getcwd'; allowed: a maven_jax.callbacks.Callback, or a class"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_other_names_are_refused_in_a_line_before_anything_compiles(here, capsys, name, message):
    for command in (
        ["train", "small.yaml", "--out", "out"],
        ["sweep", "small.yaml", "--grid", "hyperparameters.gamma=0.9,0.99", "--out", "out"],
        ["study", "ten_step", "--out", "out"],
        ["figure3", "--out", "out"],
    ):
        line = refused(capsys, *command, "--callback", "json_lines", "--callback", name)
        assert line.startswith(message)
        assert not (here / "out").exists()


@pytest.mark.slow
def test_a_command_calls_what_it_names_and_a_resumed_one_too(here, capsys):
    words = ["--callback", "watchers:First", "--callback", "json_lines", "--no-tensorboard"]
    command = ["train", "small.yaml", "--seeds", "2", "--out", "out", "--checkpoint.keep-final"]
    assert run([*command, *words]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("starts at 0\n")
    assert "steps, stopped early: median" in printed
    assert len((here / "out" / "log.jsonl").read_text().splitlines()) == 4
    assert not (here / "out" / "events").exists()
    before = contents(here / "out")
    longer = ["resume", "out", "--training.total-env-steps", "60"]
    refused(capsys, *longer, "--callback", "watchers:Frist")
    assert contents(here / "out") == before
    assert run([*longer, *words]) == 0
    assert capsys.readouterr().out.startswith("starts at 2\n")
    assert len((here / "out" / "log.jsonl").read_text().splitlines()) > 4


def test_loggers_import_their_packages_when_they_are_used():
    code = """
import sys
from maven_jax import callbacks
callbacks.TensorBoard(), callbacks.JsonLines()
print(sorted({"wandb", "tensorboardX"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"
