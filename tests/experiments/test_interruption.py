"""Signals: whichever comes, and whenever, what is on disk is resumed bit for bit."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_experiments import SMALL, assert_same_results, read_info, stop_after

from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.folder import checkpoint_files
from maven_jax.experiments.interruption import (
    SIGNALS,
    StopRequest,
    exit_on_signals,
    interrupted_by_signals,
)
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.plan import train_plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent


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


class Listener(io.StringIO):
    """A stream that does something once, when certain words have been printed."""

    def __init__(self, words, act):
        super().__init__()
        self.words, self.act = words, act

    def write(self, text):
        if self.words in text:
            self.words = "\0"
            self.act()
        return super().write(text)


def options(file=None) -> Options:
    console = Console(file=file, width=1000) if file else Console(quiet=True)
    return Options(checkpoint=Checkpointing(updates=10), console=console)


def sending(*numbers):
    """Sends this process signals."""
    return lambda: [signal.raise_signal(number) for number in numbers]


def before_call(patch, owner, name, argument, act) -> None:
    """Does something just before the first call of a library's function that has an argument."""
    work, calls = getattr(owner, name), []

    def at_work(*arguments, **named):
        if argument is None or argument in named:
            calls.append(arguments)
            if len(calls) == 1:
                act()
        return work(*arguments, **named)

    patch.setattr(owner, name, at_work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
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


def test_a_signal_while_compiling_leaves_nothing(program, tmp_path):
    shown = options(Listener("compiling", sending(signal.SIGTERM)))
    with interrupted_by_signals(), pytest.raises(InterruptedRunError, match="nothing was saved"):
        train_plan(program.plan, tmp_path / "run", shown)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGHUP, signal.SIGHUP]])
def test_a_signal_saves_what_was_learned(numbers, trained, program, tmp_path):
    """Also twice the same, as from the shell and from the kernel when a terminal closes."""
    path = tmp_path / "run"
    with pytest.raises(InterruptedRunError, match=f"resume it with: maven-jax resume '{path}'"):
        program.train(path, options(Listener(" of 60 steps", sending(*numbers))))
    assert read_info(path)["status"] == "interrupted"
    assert [file.stem for file in checkpoint_files(path)] == ["1"]
    assert len((path / "metrics.csv").read_text().splitlines()) == 1 + 2
    program.train(path, options())
    assert_same_results(path, trained)


@pytest.mark.parametrize("moment", ["saving a checkpoint", "going on from one"])
def test_a_signal_at_a_checkpoint_saves(moment, trained, program, tmp_path, monkeypatch):
    path, shown, act = tmp_path / "run", options(), sending(signal.SIGTERM)
    if moment == "going on from one":
        stop_after(shutil.copytree(trained, path), 2)
        shown = options(Listener("resuming after", act))
    else:
        before_call(monkeypatch, *MOMENTS["saving a checkpoint"], act)
    with pytest.raises(InterruptedRunError):
        program.train(path, shown)
    assert read_info(path)["status"] == "interrupted"
    assert checkpoint_files(path)
    program.train(path, options())
    assert_same_results(path, trained)


def test_a_second_ctrl_c_stops_at_once(trained, program, tmp_path):
    path, act = tmp_path / "run", sending(signal.SIGTERM, signal.SIGINT)
    with pytest.raises(InterruptedRunError):
        program.train(path, options(Listener(" of 60 steps", act)))
    assert not checkpoint_files(path)
    program.train(path, options())
    assert_same_results(path, trained)


SAVING_WEIGHTS = np, "savez", "num_chunks"
ENDS = {
    "saving the weights": SAVING_WEIGHTS,
    "removing checkpoints": (shutil, "rmtree", None),
}


@pytest.mark.parametrize("moment", ENDS)
def test_a_signal_at_the_end_lets_the_run_finish(moment, trained, program, tmp_path, monkeypatch):
    path = tmp_path / "run"
    before_call(monkeypatch, *ENDS[moment], sending(signal.SIGTERM))
    program.train(path, options())
    assert read_info(path)["status"] == "finished"
    assert_same_results(path, trained)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_each_signal_is_a_request_to_stop(number):
    with StopRequest(lambda line: None) as stop:
        signal.raise_signal(number)
    assert stop.requested
    with interrupted_by_signals(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


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


MOMENTS = {
    "saving a checkpoint": (ThreadPoolExecutor, "submit", None),
    "saving the weights": SAVING_WEIGHTS,
}


@pytest.mark.parametrize("moment", ["start", *MOMENTS])
def test_standard_error_that_closes_ends_nothing(moment, trained, program, tmp_path, monkeypatch):
    """The other end of its pipe goes away, be it before what is printed first or last."""
    path, (reads, writes) = tmp_path / "run", os.pipe()
    stream = os.fdopen(writes, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    if moment == "start":
        os.close(reads)
    else:
        before_call(monkeypatch, *MOMENTS[moment], lambda: os.close(reads))
    program.train(path, Options((), Checkpointing(updates=10), plain_console(stderr=True)))
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(reads)
    assert read_info(path)["status"] == "finished"
    assert_same_results(path, trained)


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
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 130
    assert read_info(tmp_path / "run")["status"] == "interrupted"
    header, *rows = metrics.read_text().splitlines()
    assert header.startswith("seed,env_steps,num_updates,")
    assert {row.count(",") for row in rows} == {header.count(",")}
