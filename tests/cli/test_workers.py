"""Parts of one plan, trained by several workers: tasks of Ray, and jobs of a Slurm array."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_experiments import SMALL, refused

from maven_jax.cli.main import run
from maven_jax.experiments.folder import load_setup, parts_of
from maven_jax.experiments.lock import LOCK, is_locked
from maven_jax.experiments.run import load_run
from maven_jax.experiments.weights import read_weights

ROOT = Path(__file__).parent.parent.parent
OPTIONS = ("--group-size", "1", "--no-tensorboard", "--checkpoint.updates", "10")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    return tmp_path


def assert_same_parts(one: Path, other: Path) -> None:
    """Bit for bit."""
    assert [part.name for part in parts_of(one)] == [part.name for part in parts_of(other)]
    for mine, theirs in zip(parts_of(one), parts_of(other), strict=True):
        assert (mine / "metrics.csv").read_bytes() == (theirs / "metrics.csv").read_bytes()
        expected = read_weights(theirs).arrays
        for name, array in read_weights(mine).arrays.items():
            np.testing.assert_array_equal(array, expected[name])


def worker_that_trains(process: subprocess.Popen) -> psutil.Process:
    """A worker of Ray whose part has a checkpoint and is not at its end."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        begun = {file.parents[1] for file in Path("on_ray").glob("*/checkpoints/*.npz")}
        locks = {str((part / LOCK).absolute()) for part in begun if is_locked(part)}
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if locks & {file.path for file in child.open_files()}:
                    return child
        time.sleep(0.05)
    raise AssertionError("no worker trains")


WATCH = """
from maven_jax import callbacks

class Watch(callbacks.Callback):
    def on_end(self, run):
        (run.path / "ended").touch()
"""
"""A module of the reader's own, which workers import as the command does."""

AS_IN_A_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "maven_jax", *sys.argv[1:]])
"""
"""Starts the command as a shell in the foreground does: in the background SIGINT is ignored."""


def start_on_ray(*arguments: str) -> subprocess.Popen:
    """A command on a local Ray of two workers."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}
    environment |= {"RAY_OVERRIDE_RESOURCES": '{"CPU": 2}', "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, *arguments, "--ray", "local", "--ray-cpus", "1"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is an extra that only `dev` installs"
)


@pytest.mark.slow
@needs_ray
def test_eight_parts_on_two_workers_of_which_one_is_killed(here):
    command = ["train", "small.yaml", "--seeds", "8", "--training.total-env-steps", "800"]
    command += ["--callback", "json_lines", "--callback", "watch:Watch"]
    (here / "watch.py").write_text(WATCH)
    process = start_on_ray(*command, *OPTIONS, "--out", "on_ray")
    try:
        worker_that_trains(process).kill()  # SIGKILL
        printed, said = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "8 seeds" in printed
    starts = [len(load_setup(part)[1]["history"]) for part in parts_of(here / "on_ray")]
    assert sorted(starts) == [1] * 7 + [2]
    assert "resuming after" in said, "the worker that was killed had a checkpoint"
    assert run([*command, *OPTIONS, "--out", "in_turn"]) == 0
    assert_same_parts(here / "on_ray", here / "in_turn")
    sys.modules.pop("watch")
    for part in parts_of(here / "on_ray"):
        log = (here / "in_turn" / part.name / "log.jsonl").read_bytes()
        assert (part / "log.jsonl").read_bytes() == log
        assert (part / "ended").exists()


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_workers_which_save(here, number):
    command = ["train", "small.yaml", "--seeds", "2", "--training.total-env-steps", "10000000"]
    process = start_on_ray(*command, *OPTIONS, "--out", "on_ray")
    try:
        worker_that_trains(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "resume it with: maven-jax resume 'on_ray'" in said
    statuses = [load_setup(part)[1]["status"] for part in parts_of(here / "on_ray")]
    assert "interrupted" in statuses
    assert set(statuses) <= {"interrupted", "waiting"}


@pytest.mark.slow
@needs_ray
def test_a_cluster_that_is_not_there_is_refused_and_leaves_no_folder(here, capfd):
    command = ["train", "small.yaml", "--seeds", "2", *OPTIONS, "--out", "out", "--ray", "nowhere"]
    assert run(command) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("maven-jax: error: ray is 'nowhere': ")
    assert not (here / "out").exists()


@pytest.mark.slow
def test_an_array_of_four_jobs_trains_a_part_each(here, monkeypatch):
    command = ["train", "small.yaml", "--seeds", "4", *OPTIONS, "--out"]
    for index in range(4):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
        assert run([*command, "array"]) == 0
        statuses = [load_setup(part)[1]["status"] for part in parts_of(here / "array")]
        assert statuses == ["finished"] * (index + 1) + ["waiting"] * (3 - index)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert run([*command, "in_turn"]) == 0
    assert_same_parts(here / "array", here / "in_turn")


@pytest.mark.slow
def test_what_a_job_trains_alone_is_no_part_of_an_array(here, monkeypatch):
    """As of jobs that each train another seed."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    assert run(["train", "small.yaml", "--seed", "7", "--seeds", "1", "--no-tensorboard"]) == 0
    assert load_run(here / "runs" / "small").lanes == {"seed": [7]}


@pytest.mark.parametrize(
    ("words", "task", "message"),
    [
        ("--part-index 2", None, "part_index is 2; allowed: a whole number from 0 to 1"),
        ("", "2", "SLURM_ARRAY_TASK_ID is 2; allowed: a whole number from 0 to 1; unset it to"),
        ("", "x", "SLURM_ARRAY_TASK_ID is 'x'; allowed: a whole number"),
        ("--ray-cpus 1", None, "ray_cpus is 1.0; allowed: with --ray only"),
        ("--ray local --ray-cpus 1.5", None, "ray_cpus is 1.5; allowed: a number from"),
        ("--ray local --ray-gpus -1", None, "ray_gpus is -1.0; allowed: a number from"),
        ("--init-from runs/x", None, "group_size is 1; allowed: at least 2, the number"),
    ],
)
def test_what_is_refused_of_them(words, task, message, here, monkeypatch, capsys):
    if task is not None:
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
    command = ["train", "small.yaml", "--seeds", "2", "--group-size", "1", "--out", "out"]
    assert refused(capsys, *command, *words.split()).startswith(message)
    assert not (here / "out").exists()
