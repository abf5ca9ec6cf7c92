"""Signals: whichever comes, and whenever, what is on disk is resumed bit for bit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from rich.console import Console
from small_experiments import SMALL, small_config, train_run

from maven_jax.environments.registry import make_env
from maven_jax.experiments import loop, runner
from maven_jax.experiments.checkpoint import Checkpointing, CheckpointWriter
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.grid import make_lanes
from maven_jax.experiments.interruption import (
    SIGNALS,
    StopRequest,
    exit_on_signals,
    interrupted_by_signals,
)
from maven_jax.experiments.metrics import MetricsWriter
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.runner import continue_run
from maven_jax.experiments.sweep import Sweep, compile_sweep
from maven_jax.experiments.weights import read_weights
from maven_jax.training.train import make_trainer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
CONFIG = small_config("qmix")
ENV = make_env(CONFIG)
LANES = make_lanes(CONFIG.hyperparameters, [0, 1])
EACH_SIGNAL = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


class Reference(NamedTuple):
    """A run that no signal came to, and its program."""

    path: Path
    sweep: Sweep


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "run"
    sweep = compile_sweep(make_trainer(CONFIG, ENV), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "compile_run", lambda *_: sweep)
        train_run(CONFIG, ENV, path, LANES, quiet())
    return Reference(path, sweep)


@pytest.fixture(autouse=True)
def default_handlers():
    """A suite started in the background ignores SIGINT; and no test leaves a handler behind."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def quiet(updates: int = 10) -> Options:
    return Options(False, Checkpointing(updates=updates), Console(quiet=True))


def same(one: Path, other: Path) -> None:
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    mine, theirs = read_weights(one).arrays, read_weights(other).arrays
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(mine[name], array)


def status(path: Path) -> str:
    return json.loads((path / "run.json").read_text())["status"]


def disturbed(patch, owner, name, disturb, call):
    """Calls `disturb` just before one of the calls of a function."""
    work, calls = getattr(owner, name), []

    def at_work(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            disturb()
        return work(*arguments)

    patch.setattr(owner, name, at_work)


def signalled(patch, owner, name, numbers, call=2):
    """Sends this process signals just before one of the calls of a function."""
    disturbed(patch, owner, name, lambda: [signal.raise_signal(x) for x in numbers], call)


@EACH_SIGNAL
def test_a_signal_while_jax_is_imported_ends_quietly(number, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="qmix"))
    command = [sys.executable, "-X", "importtime", "-m", "maven_jax", "train", "small.yaml"]
    process = subprocess.Popen(
        [*command, "--out", "run"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        for line in process.stderr:
            if " jax._src" in line:
                break
        process.send_signal(number)
        said = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.returncode == 130
    assert said == ["maven-jax: interrupted\n"]
    assert not (tmp_path / "run").exists()


@EACH_SIGNAL
def test_a_signal_while_compiling_leaves_nothing(number, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "compile_run", lambda *_: signal.raise_signal(number))
    with (
        interrupted_by_signals(),
        pytest.raises(InterruptedRunError, match="nothing was saved yet"),
    ):
        train_run(CONFIG, ENV, tmp_path / "run", LANES, quiet())
    assert not list(tmp_path.iterdir())


POINTS = {
    "training": (MetricsWriter, "write", 2),
    "saving a checkpoint": (CheckpointWriter, "save", 1),
    "loading": (runner, "load_checkpoint", 1),
}


@EACH_SIGNAL
@pytest.mark.parametrize("point", POINTS)
def test_a_signal_saves_what_was_learned(number, point, reference, tmp_path, monkeypatch):
    """Twice the same, as from the shell and from the kernel when a terminal closes."""
    path = tmp_path / "run"
    numbers = [number] if number == signal.SIGINT else [number, number]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "compile_run", lambda *_: reference.sweep)
        signalled(patch, POINTS[point][0], POINTS[point][1], numbers, POINTS[point][2])
        with pytest.raises(InterruptedRunError):
            train_run(CONFIG, ENV, path, LANES, quiet())
    if point == "loading":
        assert not path.exists()
        return
    assert status(path) == "interrupted"
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


ENDS = {
    "sealing the last checkpoint": (CheckpointWriter, "_seal"),
    "saving the weights": (loop, "save_weights"),
    "removing checkpoints": (runner, "remove_checkpoints"),
}


@EACH_SIGNAL
@pytest.mark.parametrize("point", ENDS)
def test_a_signal_at_the_end_lets_the_run_finish(number, point, reference, tmp_path, monkeypatch):
    path = tmp_path / "run"
    monkeypatch.setattr(runner, "compile_run", lambda *_: reference.sweep)
    signalled(monkeypatch, *ENDS[point], [number], 1)
    train_run(CONFIG, ENV, path, LANES, quiet())
    assert status(path) == "finished"
    same(path, reference.path)
    assert not (path / "checkpoints").exists()


def test_a_second_ctrl_c_stops_at_once(reference, tmp_path, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(runner, "compile_run", lambda *_: reference.sweep)
        signalled(patch, MetricsWriter, "write", [signal.SIGTERM, signal.SIGINT], 3)
        with pytest.raises(InterruptedRunError):
            train_run(CONFIG, ENV, path, LANES, quiet())
    assert len((path / "metrics.csv").read_text().splitlines()) == 1 + 2 * 2
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_what_is_ignored_or_handled_otherwise_stays_so():
    """`nohup` ignores SIGHUP; a program that trains may use SIGUSR1 itself."""
    heard = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: heard.append("own"))
    with interrupted_by_signals(), StopRequest(heard.append) as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        assert heard == ["own"]
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert len(heard) == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    exit_on_signals()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_terminal_that_is_gone_does_not_keep_a_run_from_stopping():
    def fail(line):
        raise OSError(5, "Input/output error")

    with StopRequest(fail) as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.requested


@pytest.mark.parametrize("point", ["start", "compiling", *POINTS, *ENDS])
def test_standard_error_that_closes_ends_nothing(point, reference, tmp_path, monkeypatch):
    """The other end of its pipe goes away, be it before what is printed first or last."""
    path, (reads, writes) = tmp_path / "run", os.pipe()
    stream = os.fdopen(writes, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(runner, "compile_run", lambda *_: reference.sweep)
    moments = (
        {"compiling": (runner, "compile_run", 1)} | POINTS | {k: (*v, 1) for k, v in ENDS.items()}
    )
    closed = []

    def close():
        os.close(reads)
        closed.append(True)

    if point == "start":
        close()
    else:
        owner, name, call = moments[point]
        disturbed(monkeypatch, owner, name, close, call)
    shown = Options(False, Checkpointing(updates=10), plain_console(stderr=True))
    train_run(CONFIG, ENV, path, LANES, shown)
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    assert closed
    assert status(path) == "finished"
    same(path, reference.path)


def test_with_standard_error_closed_a_signal_saves(tmp_path):
    """What would be printed reaches no file of the run, which would have got its number."""
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="qmix"))
    train = "-m maven_jax train small.yaml --seeds 2 --no-tensorboard --out run"
    steps = "--training.total-env-steps 100000000"
    process = subprocess.Popen(
        ["bash", "-c", f"exec '{sys.executable}' {train} {steps} <&- 2>&-"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    metrics = tmp_path / "run" / "metrics.csv"
    with process:
        while process.poll() is None and (
            not metrics.exists() or metrics.read_bytes().count(b"\n") < 4
        ):
            pass
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 130
    assert status(tmp_path / "run") == "interrupted"
    header, *rows = metrics.read_text().splitlines()
    assert header.startswith("seed,env_steps,num_updates,")
    assert {row.count(",") for row in rows} == {header.count(",")}
