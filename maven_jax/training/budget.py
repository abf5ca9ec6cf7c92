"""How many rounds, environment steps and gradient steps a run is made of."""

import numpy as np

from maven_jax.config import TrainingConfig
from maven_jax.errors import check


def steps_of_row(training: TrainingConfig, time_limit: int) -> int:
    """The most steps that a row has room for: its slots but the last."""
    return training.row_slots - 1 if training.row_slots else time_limit


def updates_per_round(training: TrainingConfig) -> int:
    """Gradient steps after each round: as they are given, or as the steps of its rows ask for."""
    if not training.env_steps_per_update:
        return training.updates_per_round
    steps = training.num_envs * (training.row_slots - 1)
    return max(1, round(steps / training.env_steps_per_update))


def rounds_per_chunk(training: TrainingConfig) -> int:
    """Rounds from one evaluation to the next."""
    return -(-training.updates_per_evaluation // updates_per_round(training))


def first_rounds(training: TrainingConfig) -> int:
    """Rounds before the first update, which fill one batch."""
    return -(-training.batch_size // training.num_envs)


def first_batch_steps(training: TrainingConfig, time_limit: int) -> int:
    """Environment steps that the rounds before the first update take at most."""
    return first_rounds(training) * training.num_envs * steps_of_row(training, time_limit)


def max_chunks(training: TrainingConfig) -> int:
    """Chunks of the longest run: an episode takes at least one step, and two slots."""
    steps = training.row_slots // 2 or 1
    return -(-training.total_env_steps // (rounds_per_chunk(training) * training.num_envs * steps))


def late_evaluation(training: TrainingConfig, time_limit: int) -> str | None:
    """A line for a run whose first evaluation may lie beyond its last step; None for others.

    A run stops at an evaluation, so it then has one, and takes more steps than it is asked for.
    """
    updates = updates_per_chunk(training)
    rounds = rounds_per_chunk(training) * training.num_envs
    steps = first_batch_steps(training, time_limit) + rounds * steps_of_row(training, time_limit)
    if steps <= training.total_env_steps:
        return None
    return (
        f"the first evaluation comes after {updates:,} updates, up to {steps:,} environment steps, "
        f"which may exceed the {training.total_env_steps:,} of training.total_env_steps: the run "
        "stops at an evaluation; a lower training.updates_per_evaluation evaluates earlier"
    )


def check_steps(training: TrainingConfig, time_limit: int) -> None:
    """Refuses numbers of steps that leave nothing to learn from, or that would not be counted.

    Raises:
        ConfigError: the first of them, or rows that are too short for an episode.
    """
    check(
        training.row_slots == 0 or training.row_slots > time_limit,
        "training.row_slots",
        training.row_slots,
        f"0, or more than the environment's time limit, {time_limit}, so that an episode fits",
    )
    first_steps = first_batch_steps(training, time_limit)
    first_rows = first_rounds(training) * training.num_envs
    length = steps_of_row(training, time_limit)
    first = f"{first_rows} sequences of up to {length} steps"
    check(
        training.total_env_steps > first_steps,
        "training.total_env_steps",
        training.total_env_steps,
        f"more than {first_steps}: before the first update {first} are played",
    )
    rounds = rounds_per_chunk(training)
    longest = 2**31 - rounds * training.num_envs * length
    check(
        longest > first_steps,
        "training.num_envs",
        training.num_envs,
        f"fewer: {rounds} rounds of num_envs sequences of {length} steps must stay below 2**31",
    )
    check(
        training.total_env_steps <= longest,
        "training.total_env_steps",
        training.total_env_steps,
        f"at most {longest}, so that the chunk that passes it still counts below 2**31",
    )


def updates_per_chunk(training: TrainingConfig) -> int:
    """Gradient steps from one evaluation to the next."""
    return rounds_per_chunk(training) * updates_per_round(training)


def replays_per_step(training: TrainingConfig, num_updates: np.ndarray) -> float:
    """How often a step has been learnt from, on average over all that were played.

    Args:
        training: sizes.
        num_updates: gradient steps so far, of one run or of several alike.
    """
    rounds = num_updates / updates_per_round(training) + first_rounds(training)
    return float(num_updates.sum() * training.batch_size / (rounds.sum() * training.num_envs))
