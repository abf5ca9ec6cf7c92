"""Curves in the form that marl-eval reads."""

import json

import numpy as np
import pytest
from experiments import refused

from maven_jax.cli import run
from maven_jax.config import Config, ConfigError, EnvConfig
from maven_jax.marl_eval import marl_eval_data
from maven_jax.results import MetricsWriter, create_run_folder, load_run, points_of


def write(path, algorithm, options, seeds, rates=None):
    """A run of two evaluations of each lane; the second of later lanes comes later."""
    lanes = {"seed": seeds} | ({"hyperparameters.learning_rate": rates} if rates else {})
    config = Config(algorithm, env=EnvConfig("smax", options))
    create_run_folder(path, config, {"status": "finished", "lanes": lanes})
    writer = MetricsWriter(path, {name: np.array(column) for name, column in lanes.items()})
    lane = np.arange(len(seeds))
    for number in range(2):
        metrics = {
            "return": np.float32(10 * number + lane),
            "extras/win_rate": np.float32(0.5 * number + 0 * lane),
            "env_steps": np.int32(100 + 60_000 * number + 10 * lane),
            "num_updates": np.int32(number + 0 * lane),
        }
        writer.write(metrics, lane >= 0)
    writer.close()
    return load_run(path)


def test_its_form(tmp_path):
    """Environment, task, algorithm, seed, steps that all have, and the last ones as absolute."""
    options = {"scenario": "3m", "time_limit": 50}
    runs = [write(tmp_path / name, name, options, [4, 5]) for name in ("qmix", "maven")]
    data = marl_eval_data([point for r in runs for point in points_of([r])], 3)
    assert data.keys() == {"smax"}
    assert data["smax"].keys() == {"3m,time_limit=50"}
    task = data["smax"]["3m,time_limit=50"]
    assert task.keys() == {"qmix", "maven"}
    for seeds in task.values():
        assert list(seeds) == ["seed_4", "seed_5"]
        for index, steps in enumerate(seeds.values()):
            assert list(steps) == ["step_0", "step_1", "step_2", "absolute_metrics"]
            counts = [steps[f"step_{i}"]["step_count"] for i in range(3)]
            assert counts == [110, 30_105, 60_100]
            first, middle, last = (steps[f"step_{i}"] for i in range(3))
            assert first["mean_episode_return"] == middle["mean_episode_return"] == [index]
            assert last["mean_episode_return"] == [10 * (index == 0) + index]
            assert last["win_rate"] == [0.5 * (index == 0)]
            absolute = steps["absolute_metrics"]
            assert absolute == {k: v for k, v in last.items() if k != "step_count"}
    json.dumps(data)


def test_points_of_a_grid_are_algorithms_of_their_own(tmp_path):
    runs = [write(tmp_path / "grid", "qmix", {"scenario": "3m"}, [0, 0], [1e-3, 5e-4])]
    task = marl_eval_data(points_of(runs), 2)["smax"]["3m"]
    assert set(task) == {"qmix,learning_rate=0.001", "qmix,learning_rate=0.0005"}


def test_the_same_experiment_twice_is_refused(tmp_path):
    runs = [write(tmp_path / name, "qmix", {"scenario": "3m"}, [0]) for name in ("one", "two")]
    with pytest.raises(ConfigError, match="two runs are 'qmix' on '3m' of 'smax'; allowed: one"):
        marl_eval_data([point for r in runs for point in points_of([r])], 2)


def test_the_command(tmp_path, capsys):
    write(tmp_path / "run", "vdn", {"scenario": "3m"}, [0, 1])
    arguments = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "new" / "x.json")]
    assert run([*arguments, "--evaluations", "4"]) == 0
    data = json.loads((tmp_path / "new" / "x.json").read_text())
    assert len(data["smax"]["3m"]["vdn"]["seed_1"]) == 5
    capsys.readouterr()
    assert "exists; allowed" in refused(capsys, *arguments)
    arguments[-1] = str(tmp_path / "y.json")
    assert "evaluations is 0; allowed" in refused(capsys, *arguments, "--evaluations", "0")
    assert "no run given" in refused(capsys, "export")
