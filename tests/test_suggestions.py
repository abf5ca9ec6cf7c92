"""What is suggested for names that do not exist."""

import pytest
from small_experiments import refused

from maven_jax.config import Config, from_dict, override
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import parse_grid
from maven_jax.suggestions import nearest

RATE = "hyperparameters.learning_rate"
MEANT = {
    RATE: "lr LR learning-rate learning_rate learnin_rate hyperparameters.learning-rat "
    "training.lr training.learning_rate",
    "training.batch_size": "batch-size batchsize bs",
    "network.hidden_size": "hidden_size hidden_dim",
    "training.num_envs": "num_envs n_envs",
    "hyperparameters.epsilon_finish": "eps",
    "hyperparameters.epsilon_start": "epsilon-strt",
    "training.total_env_steps": "steps total-steps total_timesteps",
    "algorithm": "algo",
    "env.name": "map",
    "env.options.m": "m",
    "hyperparameters.gamma": "gama discount",
    "training.replay_size": "buffer_size",
    "training.optimizer": "optimiser",
    "training.double_q": "double",
    "evaluation.episodes": "eval_episodes",
    "training.target_update_interval": "target-update-interval",
}
"""What is written for a field."""
WRITTEN = [(word, field) for field, words in MEANT.items() for word in words.split()]
WITH_OPTIONS = {"env": {"options": {"m": 10}}}


@pytest.mark.parametrize("algorithm", ["qmix", "maven"])
@pytest.mark.parametrize(("written", "field"), WRITTEN)
def test_a_key_is_suggested(written, field, algorithm):
    config = override(Config(algorithm=algorithm), WITH_OPTIONS)
    *sections, last = written.split(".")
    overrides = {last: 1}
    for section in sections:
        overrides = {section: overrides}
    message = f"did you mean '{field}'"
    with pytest.raises(ConfigError, match=message):
        override(config, overrides)
    with pytest.raises(ConfigError, match=message):
        parse_grid([f"{written}=1,2"], config)


@pytest.mark.parametrize(
    ("written", "algorithm", "meant"),
    [
        ("lambda", "maven", "hyperparameters.mi_weight"),
        ("mi_weight", "maven", "hyperparameters.mi_weight"),
        ("latent-learning-rat", "maven", "hyperparameters.latent_learning_rate"),
        ("latent_size", "maven", "latent.size"),
    ],
)
def test_fields_of_a_latent_are_suggested(written, algorithm, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        from_dict({"algorithm": algorithm, written: 1})


@pytest.mark.parametrize(
    ("written", "option"),
    [
        *((written, "--hyperparameters.learning-rate") for written in ("--lr", "--lr=1e-3")),
        ("--hyperparameters.learning-rat", "--hyperparameters.learning-rate"),
        ("--hidden_size", "--network.hidden-size"),
        *((written, "--seeds") for written in ("--num-seeds", "--n-seeds", "--seeeds")),
        ("--output", "--out"),
        ("--map", "--env.name"),
        ("--checkpoint.minuts", "--checkpoint.minutes"),
    ],
)
def test_an_option_is_suggested_that_the_algorithm_reads(capsys, written, option):
    message = refused(capsys, "train", "maven", "--algorithm", "qmix", written, "1")
    assert message.startswith(f"Unrecognized options: {written}")
    assert message.endswith(f"; did you mean {option}?")


@pytest.mark.parametrize(
    ("written", "option"),
    [
        ("--exploration.kind boltzmann --exploration-temperature", "hyperparameters.exploration-"),
        ("--latent.kind bandit --bandit-epsilon", "latent.bandit-epsilon"),
        ("--latent.kind gaussian --latent-draws", "evaluation.latent-draws"),
        ("--discriminator.signal reward --intrinsic-weight", "hyperparameters.intrinsic-weight"),
        ("--num-steps", "training.total-env-steps"),
        ("--t-max", "training.total-env-steps"),  # PyMARL's, as those below
        ("--optim-eps", "hyperparameters.rms-epsilon"),
        ("--epsilon-anneal-time", "hyperparameters.epsilon-steps"),
    ],
)
def test_an_option_is_suggested_that_the_other_options_let_be_read(capsys, written, option):
    message = refused(capsys, "train", "maven", *written.split(), "0.5")
    assert f"; did you mean --{option}" in message


def test_a_key_is_suggested_that_the_keys_beside_it_let_be_read():
    with pytest.raises(ConfigError, match=r"did you mean 'latent\.bandit_temperature'"):
        from_dict({"latent": {"kind": "bandit", "bandit_temperatur": 2}})
    with pytest.raises(ConfigError, match=r"mean 'hyperparameters\.exploration_temperature'"):
        from_dict({"exploration": {"kind": "boltzmann"}, "exploration_temperatur": 2})


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("train smax_3m --map 3m", "--env.options.scenario"),
        ("evaluate run --episode 3", "--episodes"),
        ("plot run --metrics loss", "--metric"),
    ],
)
def test_options_of_environments_and_of_other_commands_are_suggested(capsys, command, meant):
    assert refused(capsys, *command.split()).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("written", ["gpu", "z", "", "-", "qqqqqq", "."])
def test_nothing_is_suggested_where_nothing_is_near(written):
    assert nearest(written, ["training.batch_size", "gamma", "seeds", "env.options.m"]) is None


def test_what_the_algorithm_does_not_read_is_not_suggested(capsys):
    message = refused(capsys, "train", "qmix", "--mi-weight", "1")
    assert message.startswith("Unrecognized options: --mi-weight, 1")
    assert not message.endswith("mi-weight?")
