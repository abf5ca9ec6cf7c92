"""The same sweep on one device, on four, and moved from one to another."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from maven_jax.cli.main import run
from maven_jax.experiments.metrics import COUNTERS
from maven_jax.experiments.run import load_run

pytestmark = pytest.mark.slow

CONFIG = """
algorithm: vdn
env: {options: {m: 3}}
network: {hidden_size: 8}
training: {total_env_steps: 60, batch_size: 4, replay_size: 16, updates_per_evaluation: 5}
evaluation: {episodes: 4}
"""
"""VDN, since processes of their own compile it five times; test_row_runs has all of MAVEN."""
SWEEP = ("--seeds", "3", "--grid", "hyperparameters.learning_rate=5e-4,1e-3", "--no-tensorboard")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "small.yaml").write_text(CONFIG)
    return folder


def start(*arguments, **environment) -> subprocess.Popen:
    command = [sys.executable, "-m", "maven_jax", *map(str, arguments)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


def finish(*processes: subprocess.Popen) -> str:
    """What the last of them said; all have succeeded."""
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return errors


def sweep_on(workspace: Path, devices: int) -> Path:
    out = workspace / f"devices_{devices}"
    arguments = ["sweep", workspace / "small.yaml", *SWEEP, "--out", out]
    finish(start(*arguments, JAX_NUM_CPU_DEVICES=str(devices)))
    return out


@pytest.fixture(scope="module")
def on_four(workspace) -> Path:
    return sweep_on(workspace, 4)


def assert_same_metrics(one: Path, other: Path) -> None:
    """Lane by lane and row by row, to rounding."""
    one, other = load_run(one).metrics, load_run(other).metrics
    assert list(one) == list(other)
    for name, values in one.items():
        exact = name in COUNTERS or name == "seed"
        tolerance = {} if exact else {"rtol": 2e-3, "atol": 2e-4}
        (np.testing.assert_array_equal if exact else np.testing.assert_allclose)(
            values, other[name], err_msg=name, **tolerance
        )


def test_four_devices_give_the_metrics_of_one(workspace, on_four):
    """Six lanes on four devices: two are padding, and no row tells of them."""
    assert_same_metrics(on_four, sweep_on(workspace, 1))
    assert len(np.unique(load_run(on_four).metrics["seed"])) == 3


LONG = (
    "--training.total-env-steps",
    "1200",
    "--no-tensorboard",
    "--checkpoint.updates",
    "25",
)


@pytest.fixture(scope="module")
def unbroken(workspace) -> Path:
    arguments = ["train", workspace / "small.yaml", "--seeds", "3", *LONG]
    out = workspace / "unbroken"
    assert run([*map(str, arguments), "--out", str(out)]) == 0
    return out


def test_a_run_goes_on_where_there_are_other_devices(workspace, unbroken):
    """From the checkpoint of two devices, on one: the rows before it stay, and all seeds end."""
    out = workspace / "moved"
    arguments = ["train", workspace / "small.yaml", "--seeds", "3", *LONG, "--out", out]
    process = start(*arguments, JAX_NUM_CPU_DEVICES="2")
    wait_for_rows(out / "metrics.csv", process, 60)
    process.kill()
    process.communicate(timeout=60)
    said = finish(start("resume", out, "--no-tensorboard", JAX_NUM_CPU_DEVICES="1"))
    assert re.search(r"resuming after \d+ evaluations", said)
    moved, whole = load_run(out), load_run(unbroken)
    assert moved.info["status"] == "finished"
    assert moved.last_step == whole.last_step
    for (_, one), (_, other) in zip(moved.curves("loss"), whole.curves("loss"), strict=True):
        np.testing.assert_array_equal(one[:3], other[:3])


def wait_for_rows(path: Path, process: subprocess.Popen, rows: int, limit: float = 180.0) -> None:
    deadline = time.monotonic() + limit
    while not path.exists() or path.read_bytes().count(b"\n") < rows:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
