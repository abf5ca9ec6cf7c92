"""What is suggested for names that do not exist."""

import pytest
from small_experiments import refused

from maven_jax.config import Config, from_dict, override
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import parse_grid
from maven_jax.suggestions import nearest

RATE = "hyperparameters.learning_rate"
MEANT = {
    "lr": RATE,
    "LR": RATE,
    "learning-rate": RATE,
    "learning_rate": RATE,
    "learnin_rate": RATE,
    "hyperparameters.learning-rat": RATE,
    "training.lr": RATE,
    "training.learning_rate": RATE,
    "batch-size": "training.batch_size",
    "batchsize": "training.batch_size",
    "bs": "training.batch_size",
    "hidden_size": "network.hidden_size",
    "hidden_dim": "network.hidden_size",
    "num_envs": "training.num_envs",
    "n_envs": "training.num_envs",
    "eps": "hyperparameters.epsilon_finish",
    "epsilon-strt": "hyperparameters.epsilon_start",
    "steps": "training.total_env_steps",
    "total-steps": "training.total_env_steps",
    "total_timesteps": "training.total_env_steps",
    "algo": "algorithm",
    "map": "env.name",
    "m": "env.options.m",
    "gama": "hyperparameters.gamma",
    "discount": "hyperparameters.gamma",
    "buffer_size": "training.replay_size",
    "optimiser": "training.optimizer",
    "double": "training.double_q",
    "eval_episodes": "evaluation.episodes",
    "target-update-interval": "training.target_update_interval",
}
WITH_OPTIONS = {"env": {"options": {"m": 10}}}


@pytest.mark.parametrize("algorithm", ["qmix", "maven"])
@pytest.mark.parametrize(("written", "field"), MEANT.items())
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
        ("--lr", "--hyperparameters.learning-rate"),
        ("--lr=1e-3", "--hyperparameters.learning-rate"),
        ("--learning-rate", "--hyperparameters.learning-rate"),
        ("--hyperparameters.learning-rat", "--hyperparameters.learning-rate"),
        ("--hidden_size", "--network.hidden-size"),
        ("--num-seeds", "--seeds"),
        ("--n-seeds", "--seeds"),
        ("--seeeds", "--seeds"),
        ("--output", "--out"),
        ("--env", "--env.name"),
        ("--map", "--env.name"),
        ("--algo", "--algorithm"),
        ("--tensorbord", "--tensorboard"),
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


def test_an_option_of_the_environment_is_suggested(capsys):
    assert refused(capsys, "train", "smax_3m", "--map", "3m").endswith(
        "did you mean --env.options.scenario?"
    )


def test_options_of_other_commands_are_suggested(capsys):
    assert refused(capsys, "evaluate", "run", "--episode", "3").endswith("mean --episodes?")
    assert refused(capsys, "plot", "run", "--metrics", "loss").endswith("did you mean --metric?")


@pytest.mark.parametrize("written", ["gpu", "z", "", "-", "qqqqqq", "."])
def test_nothing_is_suggested_where_nothing_is_near(written):
    assert nearest(written, ["training.batch_size", "gamma", "seeds", "env.options.m"]) is None


def test_what_the_algorithm_does_not_read_is_not_suggested(capsys):
    message = refused(capsys, "train", "qmix", "--mi-weight", "1")
    assert message.startswith("Unrecognized options: --mi-weight, 1")
    assert not message.endswith("mi-weight?")
