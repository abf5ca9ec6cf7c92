"""Fields that a configuration ignores: named, and no grid is over them."""

import pytest
from small_experiments import SMALL, refused

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.cli.main import run
from maven_jax.config import Config, from_dict, to_dict
from maven_jax.config.fields import flatten, read_field
from maven_jax.configs import packaged_configs
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import expand
from maven_jax.validation.files import load_config
from maven_jax.validation.ignored_fields import ignored_fields, remarks

NO_LATENT = "which has no latent"
BANDIT, UNIFORM = ({"latent": {"kind": kind}} for kind in ("bandit", "uniform"))
OF_ACTIONS = {"discriminator": {"kind": "feed_forward", "reads": "taken_actions"}}


@pytest.mark.parametrize(
    ("overrides", "reason", "fields"),
    [
        ({"algorithm": "qmix"}, NO_LATENT, ["hyperparameters.mi_weight", "latent.size"]),
        ({"algorithm": "iql"}, NO_LATENT, ["discriminator.reads"]),
        ({"algorithm": "iql"}, "algorithm is iql", ["network.mixer_hypernet_size"]),
        ({"algorithm": "vdn"}, NO_LATENT, ["network.latent_head_scale", "fidelity"]),
        ({"algorithm": "vdn"}, "algorithm is vdn", ["network.mixer_embed_size"]),
        (
            {"algorithm": "qtran"},
            "algorithm is qtran",
            ["network.mixer_skip_connections", "network.mixer_init_scale"],
        ),
        (
            {"algorithm": "qtran", "fidelity": "reference"},
            "algorithm is qtran and fidelity reference",
            ["training.double_q"],
        ),
        (
            {},
            "algorithm is maven",
            ["hyperparameters.monotonicity_weight", "hyperparameters.optimum_weight"],
        ),
        ({}, "latent.kind is categorical", ["latent.bandit_scale", "evaluation.latent_draws"]),
        (BANDIT, "latent.kind is bandit", ["hyperparameters.latent_entropy_weight"]),
        (
            UNIFORM,
            "latent.kind is uniform",
            ["latent.updates", "hyperparameters.latent_learning_rate"],
        ),
        ({}, "discriminator.signal is gradient", ["hyperparameters.intrinsic_weight"]),
        (OF_ACTIONS, "discriminator.kind is feed_forward", ["discriminator.recurrent_size"]),
        (OF_ACTIONS, "discriminator.reads is taken_actions", ["hyperparameters.temperature"]),
        ({"training": {"optimizer": "adam"}}, "optimizer is adam", ["hyperparameters.rms_decay"]),
        ({}, "shaping_weight is 0", ["hyperparameters.shaping_steps"]),
        ({}, "kind is epsilon_greedy", ["hyperparameters.exploration_temperature"]),
        (
            {"exploration": {"kind": "boltzmann"}},
            "exploration.kind is boltzmann",
            ["hyperparameters.epsilon_steps"],
        ),
    ],
)
def test_what_nothing_reads(overrides, reason, fields):
    config = from_dict(overrides)
    for field in fields:
        assert ignored_fields(config)[field].endswith(reason)
        with pytest.raises(ConfigError, match=f"grid of {field} has no effect, since "):
            expand(config, {field: [read_field(config, field)]}, [0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_name_is_a_field_and_defaults_are_not_remarked_upon(algorithm):
    config = from_dict({"algorithm": algorithm})
    ignored = set(ignored_fields(config))
    assert ignored < set(flatten(to_dict(Config())))
    assert not [field for field in ignored if field.startswith("training.")]
    assert remarks(config, config) == remarks(config, Config()) == []


def test_packaged_configurations_are_not_remarked_upon():
    for config in map(load_config, packaged_configs()):
        assert remarks(config, config) == []


END = "the discriminator is trained but does not affect the utilities"
REWARD = {"discriminator": {"signal": "reward"}}
WEIGHT = {"hyperparameters": {"intrinsic_weight": 0.1}}


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
            REWARD,
            [f"{END}: discriminator.signal is reward, and hyperparameters.intrinsic_weight is 0"],
        ),
        (REWARD | WEIGHT, []),
        (
            {"discriminator": {"reads": "taken_actions"}},
            [f"{END}: discriminator.signal is gradient, but taken_actions have none"],
        ),
        ({"discriminator": {"reads": "greedy_actions", "signal": "reward"}} | WEIGHT, []),
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
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_command_says_in_a_line_what_no_point_of_its_grid_reads(capsys, tmp_path):
    """The temperature is read at the other of two points; what the file sets counts."""
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    words = ["--seeds", "1", "--no-tensorboard", "--out", str(tmp_path / "runs")]
    words += ["--hyperparameters.exploration-temperature", "2"]
    grid = ["--grid", "exploration.kind=epsilon_greedy,boltzmann", "--part-index", "0"]
    assert run(["sweep", str(tmp_path / "small.yaml"), *words, *grid]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "ignored because" in line]
    width, latent = said
    assert width == "maven-jax: ignored because algorithm is vdn: network.mixer_embed_size"
    assert latent.startswith(
        "maven-jax: ignored because algorithm is vdn, which has no latent: latent.size, "
    )
