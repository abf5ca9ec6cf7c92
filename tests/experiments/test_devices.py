"""The same run on one device, on two and on four, and moved from two to one.

It is one of MAVEN whose rows hold several episodes and whose targets are normalised: their moments
are then a part of what resumes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_experiments import assert_same_results, read_info, stop_after

from maven_jax.cli.main import run
from maven_jax.experiments.metrics import COUNTERS
from maven_jax.experiments.run import load_run

pytestmark = pytest.mark.slow

CONFIG = """
algorithm: maven
env: {options: {m: 3}}
network: {hidden_size: 8, mixer_embed_size: 4}
latent: {size: 3, hidden_size: 8, updates: 2, batch_size: 4}
discriminator: {hidden_size: 4, hidden_layers: 1, recurrent_size: 4, signal: reward}
training: {total_env_steps: 150, batch_size: 3, replay_size: 8, num_envs: 2, row_slots: 11,
  env_steps_per_update: 5, updates_per_evaluation: 4, normalize_targets: true}
evaluation: {episodes: 4, episodes_per_latent: 1}
"""
SEEDS = 5
"""So many are padded on two devices and on four."""


def arguments(folder: Path, out: str) -> list[str]:
    options = ["--seeds", str(SEEDS), "--no-tensorboard", "--checkpoint.updates", "1"]
    kept = ["--checkpoint.keep", "99", "--checkpoint.keep-final"]
    return ["train", str(folder / "rows.yaml"), *options, *kept, "--out", str(folder / out)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """On two devices."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.yaml").write_text(CONFIG)
    assert run(arguments(folder, "unbroken")) == 0
    return folder / "unbroken"


@pytest.fixture
def stopped(unbroken, tmp_path) -> Path:
    """Two evaluations of it."""
    path = shutil.copytree(unbroken, tmp_path / "stopped")
    stop_after(path, 2)
    return path


def on_devices(number: int, *command: str) -> str:
    """What a command says on so many devices."""
    done = subprocess.run(
        [sys.executable, "-m", "maven_jax", *command],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(number)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_same_metrics(one: Path, other: Path) -> None:
    """Lane by lane and row by row, to rounding."""
    one, other = load_run(one).metrics, load_run(other).metrics
    assert list(one) == list(other)
    for name, values in one.items():
        exact = name in (*COUNTERS, "seed")
        tolerance = {"rtol": 0} if exact else {"rtol": 2e-3, "atol": 2e-4}
        np.testing.assert_allclose(values, other[name], err_msg=name, **tolerance)


def test_a_run_that_was_stopped_resumes_bit_for_bit(unbroken, stopped, capsys):
    assert run(["resume", str(stopped), "--no-tensorboard"]) == 0
    assert "resuming after 2 evaluations" in capsys.readouterr().err
    assert_same_results(stopped, unbroken)


def test_four_devices_give_the_metrics_of_two(unbroken):
    on_devices(4, *arguments(unbroken.parent, "four"))
    assert_same_metrics(unbroken.parent / "four", unbroken)


def test_a_run_goes_on_on_one_device(unbroken, stopped):
    """The rows before it stay, and all seeds end; what is added is the same to rounding."""
    said = on_devices(1, "resume", str(stopped), "--no-tensorboard")
    assert "resuming after 2 evaluations" in said
    assert read_info(stopped)["status"] == "finished"
    moved, whole = ((path / "metrics.csv").read_text().splitlines() for path in (stopped, unbroken))
    assert moved[: 1 + 2 * SEEDS] == whole[: 1 + 2 * SEEDS]
    assert len(moved) > 1 + 2 * SEEDS
    assert_same_metrics(stopped, unbroken)


def test_a_run_says_how_learning_compares_with_acting(unbroken):
    """4 gradient steps, 20 steps over 5, follow each round of 2 rows; 3 rows are a batch."""
    info, metrics = read_info(unbroken), load_run(unbroken).metrics
    updates, steps = (
        np.array([metrics[name][metrics["seed"] == seed].max() for seed in range(SEEDS)])
        for name in ("num_updates", "env_steps")
    )
    assert (updates % 4 == 0).all()
    assert info["updates_per_env_step"] == pytest.approx(updates.sum() / steps.sum(), abs=1e-6)
    rounds = updates / 4 + 2  # two rounds fill the first batch
    replayed = (updates * 3).sum() / (rounds * 2).sum()
    assert info["replays_per_step"] == pytest.approx(replayed, abs=1e-3)
