"""Curves in the form that marl-eval reads."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_experiments import refused

from maven_jax.cli.main import run
from maven_jax.config import Config, EnvConfig
from maven_jax.errors import ConfigError
from maven_jax.experiments.metrics import MetricsWriter
from maven_jax.experiments.new_folder import create_run_folder
from maven_jax.experiments.points import points_of
from maven_jax.experiments.run import load_run
from maven_jax.reports.marl_eval import marl_eval_data

MARINES = {"scenario": "3m"}


def write(path, algorithm, seeds, options=MARINES, rates=None):
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


def of_3m(points):
    """What is exported of the algorithms on the task `3m`."""
    return marl_eval_data(points, 2)["smax"]["3m"]


def test_its_form(tmp_path):
    """Environment, task, algorithm, seed, steps that all have, and each seed's own last ones."""
    options = {"scenario": "3m", "time_limit": 50}
    runs = [write(tmp_path / name, name, [4, 5], options) for name in ("qmix", "maven")]
    data = marl_eval_data([point for r in runs for point in points_of([r])], 3)
    json.dumps(data)
    assert data.keys() == {"smax"}
    assert data["smax"].keys() == {"3m,time_limit=50"}
    task = data["smax"]["3m,time_limit=50"]
    assert task.keys() == {"qmix", "maven"}
    for seeds in task.values():
        assert list(seeds) == ["seed_4", "seed_5"]
        for index, steps in enumerate(seeds.values()):
            assert list(steps) == ["step_0", "step_1", "step_2", "absolute_metrics"]
            first, middle, last, absolute = steps.values()
            assert [s["step_count"] for s in (first, middle, last)] == [110, 30_105, 60_100]
            assert first["mean_episode_return"] == middle["mean_episode_return"] == [index]
            assert last["mean_episode_return"] == [10 * (index == 0) + index]
            assert last["win_rate"] == [0.5 * (index == 0)]
            assert absolute == {"mean_episode_return": [10 + index], "win_rate": [0.5]}


def test_points_of_a_grid_are_algorithms_of_their_own(tmp_path):
    """Coordinates that are the task or the algorithm are told once."""
    grid = write(tmp_path / "grid", "qmix", [0, 0], rates=[1e-3, 5e-4])
    assert set(of_3m(points_of([grid]))) == {
        "qmix,learning_rate=0.001",
        "qmix,learning_rate=0.0005",
    }
    coordinates = {"env.options.scenario": "3m", "algorithm": "qmix", "training.batch_size": 4}
    assert set(of_3m([(coordinates, grid)])) == {"qmix,batch_size=4"}


def test_experiments_of_one_name_are_named_by_what_they_differ_in(tmp_path):
    """Two runs of qmix differ in three fields; vdn, of which there is one, has its plain name."""
    one, two = (write(tmp_path / name, "qmix", [0]) for name in ("one", "two"))
    training = replace(two.config.training, batch_size=4)
    latent = replace(two.config.latent, batch_size=8, size=2)
    two = replace(two, config=replace(two.config, training=training, latent=latent))
    vdn = write(tmp_path / "three", "vdn", [0])
    assert set(of_3m(points_of([one, two, vdn]))) == {
        "qmix,size=16,latent.batch_size=64,training.batch_size=32",
        "qmix,size=2,latent.batch_size=8,training.batch_size=4",
        "vdn",
    }


def test_each_task_has_its_own_steps_and_runs_without_common_ones_are_refused(tmp_path):
    whole = write(tmp_path / "whole", "qmix", [0])
    other, short = (  # stopped after their first evaluation
        replace(stopped, metrics={name: x[:1] for name, x in stopped.metrics.items()})
        for stopped in (
            write(tmp_path / "other", "qmix", [0], {"scenario": "2s3z"}),
            write(tmp_path / "short", "maven", [0]),
        )
    )
    data = marl_eval_data([({}, whole), ({}, other)], 2)["smax"]
    assert data["3m"]["qmix"]["seed_0"]["step_1"]["step_count"] == 60_100
    assert data["2s3z"]["qmix"]["seed_0"]["step_1"]["step_count"] == 100
    with pytest.raises(ConfigError, match="short' ends at 100 steps, before others of its task"):
        marl_eval_data([({}, whole), ({}, short)], 2)


def test_seeds_in_folders_of_their_own_are_one_algorithm(tmp_path, capsys):
    """`table`, `export` and `plot` alike; the same seed twice is refused by all three."""
    folders = [str(write(tmp_path / f"s{seed}", "qmix", [seed]).path) for seed in (0, 1, 2)]
    assert run(["table", *folders]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("return: each seed's last evaluation, after 60,100 steps")
    assert printed.count("10.00 10.00 10.00 10.00 (10.00, 10.00)") == 1
    out = tmp_path / "new" / "x.json"
    assert run(["export", *folders, "--out", str(out), "--evaluations", "4"]) == 0
    seeds = json.loads(out.read_text())["smax"]["3m"]["qmix"]
    assert list(seeds) == ["seed_0", "seed_1", "seed_2"]
    assert len(seeds["seed_0"]) == 5
    said = "absolute_metrics: each seed's last evaluation, after 60,100 steps"
    assert said in capsys.readouterr().out
    assert run(["plot", *folders, "--out", str(tmp_path / "x.svg")]) == 0
    capsys.readouterr()
    write(tmp_path / "again", "qmix", [1])
    for command in ("table", "export", "plot"):
        more = () if command == "table" else ("--out", tmp_path / "y.svg")
        assert refused(capsys, command, *folders, tmp_path / "again", *more).startswith(
            f"seed 1 of one configuration is in both '{folders[1]}' and '{tmp_path / 'again'}'; "
        )
    assert not (tmp_path / "y.svg").exists()
    export = ["export", *folders, "--out"]
    assert "already exists; choose" in refused(capsys, *export, out)
    few = refused(capsys, *export, tmp_path / "y.json", "--evaluations", "0")
    assert "evaluations is 0; allowed" in few
    assert "no run given" in refused(capsys, "export")
