"""Fields that a configuration ignores: named, and no grid is over them."""

import pytest
from small_experiments import SMALL, refused

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.cli import shared, training
from maven_jax.cli.main import run
from maven_jax.config import Config, from_dict, to_dict
from maven_jax.config.fields import read_field
from maven_jax.configs import packaged_configs
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import expand
from maven_jax.validation.files import load_config
from maven_jax.validation.ignored_fields import ignored_fields, remarks


@pytest.mark.parametrize(
    ("overrides", "field", "reason"),
    [
        ({"algorithm": "qmix"}, "hyperparameters.mi_weight", "which has no latent"),
        ({"algorithm": "qmix"}, "latent.size", "which has no latent"),
        ({"algorithm": "iql"}, "discriminator.reads", "which has no latent"),
        ({"algorithm": "vdn"}, "network.latent_head_scale", "which has no latent"),
        ({"algorithm": "vdn"}, "fidelity", "which has no latent"),
        ({"algorithm": "vdn"}, "network.mixer_embed_size", "algorithm is vdn"),
        ({"algorithm": "qtran"}, "network.mixer_skip_connections", "algorithm is qtran"),
        ({"algorithm": "iql"}, "network.mixer_hypernet_size", "algorithm is iql"),
        ({"algorithm": "qtran"}, "network.mixer_init_scale", "algorithm is qtran"),
        ({}, "hyperparameters.monotonicity_weight", "algorithm is maven"),
        ({}, "hyperparameters.optimum_weight", "algorithm is maven"),
        (
            {"algorithm": "qtran", "fidelity": "reference"},
            "training.double_q",
            "algorithm is qtran and fidelity reference",
        ),
        ({}, "latent.bandit_scale", "latent.kind is categorical"),
        ({"latent": {"kind": "bandit"}}, "hyperparameters.latent_entropy_weight", "is bandit"),
        ({"latent": {"kind": "uniform"}}, "latent.updates", "latent.kind is uniform"),
        (
            {"latent": {"kind": "uniform"}},
            "hyperparameters.latent_learning_rate",
            "latent.kind is uniform",
        ),
        ({}, "evaluation.latent_draws", "latent.kind is categorical"),
        ({}, "hyperparameters.intrinsic_weight", "discriminator.signal is gradient"),
        (
            {"discriminator": {"kind": "feed_forward"}},
            "discriminator.recurrent_size",
            "discriminator.kind is feed_forward",
        ),
        (
            {"discriminator": {"reads": "taken_actions"}},
            "hyperparameters.temperature",
            "discriminator.reads is taken_actions",
        ),
        (
            {"training": {"optimizer": "adam"}},
            "hyperparameters.rms_decay",
            "training.optimizer is adam",
        ),
        ({}, "hyperparameters.exploration_temperature", "exploration.kind is epsilon_greedy"),
        (
            {"exploration": {"kind": "boltzmann"}},
            "hyperparameters.epsilon_steps",
            "exploration.kind is boltzmann",
        ),
    ],
)
def test_what_nothing_reads(overrides, field, reason):
    config = from_dict(overrides)
    assert ignored_fields(config)[field].endswith(reason)
    with pytest.raises(ConfigError, match=f"grid of {field} has no effect, since "):
        expand(config, {field: [read_field(config, field)]}, [0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_name_is_a_field_and_some_configuration_reads_each(algorithm):
    plain = to_dict(Config())
    fields = {"algorithm", "fidelity"}
    for section in plain.keys() - fields - {"env"}:
        fields |= {f"{section}.{name}" for name in plain[section]}
    config = from_dict({"algorithm": algorithm})
    assert set(ignored_fields(config)) < fields
    assert not {field for field in ignored_fields(config) if field.startswith("training.")}
    assert remarks(config, config) == []


def test_defaults_are_not_remarked_upon_and_packaged_configurations_neither():
    for name in packaged_configs():
        assert remarks(load_config(name), load_config(name)) == []
    assert remarks(from_dict({"algorithm": "qmix"}), Config()) == []


END = "the discriminator is trained but does not affect the utilities"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"algorithm": "qmix", "latent": {"size": 3}, "hyperparameters": {"mi_weight": 0.5}},
            [
                "ignored because algorithm is qmix, which has no latent: latent.size, "
                "hyperparameters.mi_weight"
            ],
        ),
        (
            {"discriminator": {"signal": "reward"}},
            [f"{END}: discriminator.signal is reward, and hyperparameters.intrinsic_weight is 0"],
        ),
        (
            {"discriminator": {"signal": "reward"}, "hyperparameters": {"intrinsic_weight": 0.1}},
            [],
        ),
        (
            {"discriminator": {"reads": "taken_actions"}},
            [f"{END}: discriminator.signal is gradient, but taken_actions have none"],
        ),
        (
            {
                "discriminator": {"reads": "greedy_actions", "signal": "reward"},
                "hyperparameters": {"intrinsic_weight": 0.1},
            },
            [],
        ),
    ],
)
def test_what_a_user_hears(overrides, said):
    assert remarks(from_dict(overrides), Config()) == said


def test_a_grid_needs_one_point_that_reads_its_field(capsys, tmp_path):
    grid = {"hyperparameters.mi_weight": [0.1, 0.2], "algorithm": ["qmix", "maven"]}
    assert len(expand(Config(), grid, [0])) == 2
    arguments = ["sweep", "qmix", "--grid", "hyperparameters.mi_weight=0,0.1"]
    assert refused(capsys, *arguments, "--out", tmp_path / "x") == (
        "grid of hyperparameters.mi_weight has no effect, since algorithm is qmix, which has no "
        "latent"
    )
    arguments = ["sweep", "maven", "--grid", "latent.bandit_scale=1,2", "--out", tmp_path / "x"]
    assert "since latent.kind is categorical" in refused(capsys, *arguments)
    assert not (tmp_path / "x").exists()


def test_the_command_line_says_it_before_training(capsys, tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(
        shared, "train_plan", lambda plan, out, options, **_: heard.append(options.remarks) or []
    )
    monkeypatch.setattr(training, "_print_end", lambda *rest: None)
    reward = ["--discriminator.signal", "reward"]
    assert run(["train", "maven", *reward]) == 0
    assert run(["train", "foraging"]) == 0
    assert run(["train", "foraging", "--latent.size", "3"]) == 0
    assert run(["sweep", "maven", *reward, "--grid", "hyperparameters.intrinsic_weight=0,1"]) == 0
    (rewards,), packaged, (size,), swept = heard
    assert rewards.startswith(END)
    assert size.endswith("which has no latent: latent.size")
    assert packaged == swept == []


def test_a_remark_is_one_line_of_the_progress(capsys, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    out = ["--out", str(tmp_path / "run"), "--no-tensorboard", "--seeds", "1"]
    assert run(["train", str(tmp_path / "small.yaml"), *out]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "ignored because" in line]
    first, second = said
    assert first == ("maven-jax: ignored because algorithm is vdn: network.mixer_embed_size")
    assert second.startswith(
        "maven-jax: ignored because algorithm is vdn, which has no latent: latent.size"
    )
