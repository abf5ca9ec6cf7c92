"""A smoke test of a command: the same command with its sizes cut, to see that all of it works.

With `MAVEN_JAX_SMOKE=1` in the environment a command is checked as it stands, then runs with the
sizes below. It leaves a run like any other, whose `config.yaml` holds the cut sizes.
"""

import os
from collections.abc import Collection

from maven_jax.cli.commands import SMOKE_TEST
from maven_jax.config import Config
from maven_jax.config.fields import read_field, with_field
from maven_jax.environments.registry import make_env
from maven_jax.errors import check
from maven_jax.training.budget import first_batch_steps, rounds_per_chunk, updates_per_round
from maven_jax.training.train import make_trainer

SEEDS = 2
STEPS_DIVISOR = 1000
ROUNDS_PER_EVALUATION = 2
TEST_SIZES = {
    "evaluation.episodes": 2,
    "evaluation.episodes_per_latent": 1,
    "evaluation.latent_draws": 2,
}
SIZES = TEST_SIZES | {
    "network.hidden_size": 4,
    "network.mixer_embed_size": 4,
    "network.mixer_hypernet_size": 4,
    "latent.size": 2,
    "latent.hidden_size": 4,
    "latent.updates": 1,
    "latent.batch_size": 2,
    "discriminator.hidden_size": 4,
    "discriminator.hidden_layers": 1,
    "discriminator.recurrent_size": 4,
    "training.batch_size": 2,
    "training.num_envs": 2,
}
"""The largest value that is left to each field."""

SAID = (
    f"smoke test ({SMOKE_TEST}=1): {SEEDS} seeds, a thousandth of the steps, layers of "
    f"{SIZES['network.hidden_size']}, {SIZES['evaluation.episodes']} test episodes"
)
"""What a command of which something was cut says at its end."""
CUT = ("train", "sweep", "study", "figure3", "evaluate", "convert", "matrix-games")
"""The commands of which something always is; of `resume`, only further steps."""


def is_on() -> bool:
    """Whether a smoke test is asked for.

    Raises:
        ConfigError: the variable is something else than 0 or 1.
    """
    value = os.environ.get(SMOKE_TEST, "0")
    check(value in ("0", "1"), SMOKE_TEST, value, "0 or 1")
    return value == "1"


def cut(number: int, largest: int) -> int:
    """A number of seeds or episodes: in a smoke test at most `largest`."""
    return min(number, largest) if is_on() else number


def cut_steps(steps: int, least: int) -> int:
    """A number of steps: in a smoke test a thousandth, but `least` where that is fewer."""
    return max(least, steps // STEPS_DIVISOR) if is_on() else steps


def cut_test(config: Config) -> Config:
    """The configuration, in a smoke test with few test episodes and all else as it is."""
    return _cut_sizes(config, TEST_SIZES) if is_on() else config


def cut_config(config: Config, kept: Collection[str] = ()) -> Config:
    """The configuration, in a smoke test with its sizes cut.

    Args:
        config: an experiment, which is checked as it is.
        kept: dotted fields that a grid varies. They stay as they are, or points of the grid would
            be the same; of `training.total_env_steps` it takes a thousandth all the same.

    Raises:
        ConfigError: a value that could not work uncut.
    """
    if not is_on():
        return config
    env = make_env(config)
    make_trainer(config, env)
    config = _cut_sizes(config, {name: x for name, x in SIZES.items() if name not in kept})
    training = config.training
    if "training.updates_per_evaluation" not in kept:
        rounds = min(rounds_per_chunk(training), ROUNDS_PER_EVALUATION)
        updates = rounds * updates_per_round(training)
        config = with_field(config, "training.updates_per_evaluation", updates)
    least = first_batch_steps(training, env.time_limit) + 1
    steps = cut_steps(training.total_env_steps, least)
    return with_field(config, "training.total_env_steps", steps)


def _cut_sizes(config: Config, sizes: dict[str, int]) -> Config:
    for field, largest in sizes.items():
        config = with_field(config, field, min(read_field(config, field), largest))
    return config
