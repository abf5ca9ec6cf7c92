"""`MAVEN_JAX_SMOKE=1`: any command, small; what is refused without it is refused with it."""

import json

import pandas as pd
import pytest
from small_experiments import refused

from maven_jax.cli import smoke
from maven_jax.cli.main import run
from maven_jax.config.fields import with_field
from maven_jax.environments.registry import complete, make_env
from maven_jax.experiments.run import load_run
from maven_jax.training.train import make_trainer
from maven_jax.validation.files import load_config


@pytest.fixture(autouse=True)
def smoke_test(monkeypatch, tmp_path):
    monkeypatch.setenv(smoke.SMOKE_TEST, "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_training_and_training_on(capsys, smoke_test):
    """The run's folder holds the cut sizes, which all that reads it goes by."""
    keeping = ["--seed", "3", "--checkpoint.keep-final", "--no-tensorboard"]
    assert run(["train", "qmix", *keeping]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == smoke.SAID
    trained = load_run(smoke_test / "runs" / "qmix")
    assert trained.info["lanes"] == {"seed": [3, 4]}
    assert trained.config.network.hidden_size == 4
    assert trained.config.training.total_env_steps == 100
    assert trained.config.hyperparameters == load_config("qmix").hyperparameters
    assert run(["table", "runs/qmix"]) == 0
    assert smoke.SAID not in capsys.readouterr().out
    resume = ["resume", "runs/qmix", "--no-tensorboard", "--training.total-env-steps"]
    assert refused(capsys, *resume, 100).startswith("training.total_env_steps is 100; allowed")
    assert run([*resume, "200000"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == smoke.SAID
    assert load_run(smoke_test / "runs" / "qmix").config.training.total_env_steps == 200
    rows = pd.read_csv(smoke_test / "runs" / "qmix" / "metrics.csv")
    assert (rows.groupby("seed")["env_steps"].max() >= 200).all()


def test_a_sweep_keeps_what_its_grid_varies(capsys, smoke_test):
    grid = ["--grid", "network.hidden-size=6,7", "--grid", "hyperparameters.gamma=0.9,1"]
    arguments = ["qmix", "--seeds", "5", *grid, "--group-size", "4", "--no-tensorboard"]
    assert run(["sweep", *arguments, "--out", "swept"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == smoke.SAID
    folders = json.loads((smoke_test / "swept" / "sweep.json").read_text())
    parts = [path for path in (smoke_test / "swept").iterdir() if (path / "run.json").is_file()]
    assert len(parts) == 2, folders
    assert {load_run(part).config.network.hidden_size for part in parts} == {6, 7}
    assert {load_run(part).config.network.mixer_embed_size for part in parts} == {4}
    assert {load_run(part).num_lanes for part in parts} == {4}


@pytest.mark.parametrize("name", ["foraging", "maven_team"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("env.options.good_branches", None),
        ("training.batch_size", 30),
        ("training.num_envs", 31),
        ("training.updates_per_round", 100),
        ("training.updates_per_evaluation", 400),
        ("training.replay_size", 10**5),
        ("latent.batch_size", 300),
        ("latent.size", 3),
        ("training.total_env_steps", 10**6),
    ],
)
def test_a_cut_configuration_works_whatever_a_grid_varies(name, field, value):
    config = complete(load_config(name))
    if value is not None:
        config = with_field(config, field, value)
    cut = smoke.cut_config(config, [field])
    make_trainer(cut, make_env(cut))
    assert cut.training.total_env_steps <= config.training.total_env_steps
    assert cut.hyperparameters == config.hyperparameters
    assert cut.env == config.env


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "maven", "--seeds", "0"], "seeds is 0; allowed"),
        (["train", "maven", "--seeds", "70000"], "seeds is 70000; allowed"),
        (
            ["train", "maven", "--training.total-env-steps", "320"],
            "training.total_env_steps is 320",
        ),
        (["train", "maven", "--training.replay-size", "31"], "training.replay_size is 31; allowed"),
        (
            ["sweep", "maven", "--seeds", "40000", "--grid", "hyperparameters.gamma=0.9,1"],
            "seeds ti",
        ),
        (
            ["sweep", "maven", "--grid", "training.total-env-steps=100,900"],
            "training.total_env_ste",
        ),
        (["figure3", "--steps", "320"], "training.total_env_steps is 320; allowed"),
        (["figure3", "--seeds", "70000"], "seeds is 70000; allowed"),
        (["matrix-games", "--seeds", "10001"], "seeds is 10001; allowed"),
        (["matrix-games", "--steps", "1000001"], "steps is 1000001; allowed"),
        (["resume", "nowhere", "--training.total-env-steps", "9"], "run 'nowhere' is not a folder"),
    ],
)
def test_what_is_refused_without_is_refused_with(arguments, message, capsys, smoke_test):
    assert refused(capsys, *arguments).startswith(message)
    assert list(smoke_test.iterdir()) == []


@pytest.mark.parametrize("value", ["2", "", "yes", "-1"])
def test_another_value_is_refused(value, capsys, monkeypatch):
    monkeypatch.setenv(smoke.SMOKE_TEST, value)
    message = f"{smoke.SMOKE_TEST} is '{value}'; allowed: 0 or 1"
    for arguments in (["train", "maven"], ["table", "nowhere"], ["matrix-games"]):
        assert refused(capsys, *arguments) == message
    assert run(["train", "--help"]) == 0


@pytest.mark.parametrize("value", ["0", None])
def test_without_it_nothing_is_cut(value, monkeypatch):
    monkeypatch.delenv(smoke.SMOKE_TEST)
    if value is not None:
        monkeypatch.setenv(smoke.SMOKE_TEST, value)
    config = load_config("maven")
    assert smoke.cut_config(config) is config
    assert smoke.cut_test(config) is config
    assert (smoke.cut(9, 2), smoke.cut_steps(5000, 1)) == (9, 5000)
