"""Runs whose rows hold several episodes: stopped and resumed, and on other devices.

Their targets are normalised, whose moments are then a part of what goes on.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from maven_jax.cli.main import run
from maven_jax.experiments.checkpoint import CheckpointWriter
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


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """Three seeds that never stopped, on two devices."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.yaml").write_text(CONFIG)
    assert run(["train", str(folder / "rows.yaml"), *arguments(folder / "unbroken")]) == 0
    return folder / "unbroken"


def arguments(out: Path) -> list[str]:
    return ["--seeds", "3", "--no-tensorboard", "--checkpoint.updates", "1", "--out", str(out)]


def test_a_run_that_was_stopped_resumes_bit_for_bit(unbroken, tmp_path, monkeypatch, capsys):
    save, saved = CheckpointWriter.save, []

    def fail(self, *arguments):
        saved.append(arguments)
        if len(saved) == 3:
            raise RuntimeError("pulled the plug")
        save(self, *arguments)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "save", fail)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            run(["train", str(unbroken.parent / "rows.yaml"), *arguments(out)])
    assert run(["resume", str(out), "--no-tensorboard"]) == 0
    assert "resuming after 2 evaluations" in " ".join(capsys.readouterr().err.split())
    assert (out / "metrics.csv").read_bytes() == (unbroken / "metrics.csv").read_bytes()


def test_four_devices_give_the_metrics_of_two(unbroken, tmp_path):
    out = tmp_path / "four"
    command = ["train", str(unbroken.parent / "rows.yaml"), *arguments(out)]
    subprocess.run(
        [sys.executable, "-m", "maven_jax", *command],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        check=True,
        capture_output=True,
        timeout=240,
    )
    two, four = load_run(unbroken).metrics, load_run(out).metrics
    assert list(two) == list(four)
    for name, values in two.items():
        tolerance = {} if name in (*COUNTERS, "seed") else {"rtol": 2e-3, "atol": 2e-4}
        np.testing.assert_allclose(values, four[name], err_msg=name, **tolerance)


def test_a_run_says_how_learning_compares_with_acting(unbroken):
    """4 gradient steps, 20 steps over 5, follow each round of 2 rows; 3 rows are a batch."""
    info = json.loads((unbroken / "run.json").read_text())
    metrics = load_run(unbroken).metrics
    updates, steps = (
        np.array([metrics[name][metrics["seed"] == seed].max() for seed in range(3)])
        for name in ("num_updates", "env_steps")
    )
    assert (updates % 4 == 0).all()
    assert info["updates_per_env_step"] == pytest.approx(updates.sum() / steps.sum(), abs=1e-6)
    rounds = updates / 4 + 2  # two rounds fill the first batch
    replayed = (updates * 3).sum() / (rounds * 2).sum()
    assert info["replays_per_step"] == pytest.approx(replayed, abs=1e-3)


def test_rows_that_cannot_hold_an_episode_are_refused(tmp_path, capsys):
    plain = yaml.safe_load(CONFIG)
    plain["training"] |= {"row_slots": 3, "env_steps_per_update": 4}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(plain))
    out = tmp_path / "short"
    assert run(["train", str(tmp_path / "short.yaml"), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        "maven-jax: error: training.row_slots is 3; allowed: 0, or more than the environment's "
        "time limit, 3, so that an episode fits\n"
    )
    assert not out.exists()
