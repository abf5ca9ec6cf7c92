"""Rounds, environment steps and gradient steps: hand-computed."""

import dataclasses

import numpy as np
import pytest

from maven_jax.config import TrainingConfig
from maven_jax.errors import ConfigError
from maven_jax.training import budget

ALONE = TrainingConfig(batch_size=10, num_envs=4, updates_per_round=2, updates_per_evaluation=6)
ROWS = TrainingConfig(
    batch_size=10,
    num_envs=4,
    row_slots=26,
    env_steps_per_update=30.0,
    updates_per_evaluation=7,
    total_env_steps=1200,
)


def test_one_episode_a_row():
    assert budget.steps_of_row(ALONE, 9) == 9
    assert budget.updates_per_round(ALONE) == 2
    assert budget.rounds_per_chunk(ALONE) == 3
    assert budget.first_batch_steps(ALONE, 9) == 3 * 4 * 9
    assert budget.max_chunks(ALONE) == -(-100_000 // 12)


def test_rows_of_several():
    """A round of 4 x 25 steps has 3 updates, the nearest to 100 / 30; three of them are 9."""
    assert budget.steps_of_row(ROWS, 9) == 25
    assert budget.updates_per_round(ROWS) == 3
    assert budget.rounds_per_chunk(ROWS) == 3
    assert budget.updates_per_chunk(ROWS) == 9
    assert budget.first_batch_steps(ROWS, 9) == 3 * 4 * 25
    assert budget.max_chunks(ROWS) == 8, "12 rows of at least 13 steps a chunk"


def test_how_often_a_step_is_learnt_from():
    """6 updates of 10 rows, on 4 rows of each of 2 + 3 rounds; no update, no replay."""
    assert budget.replays_per_step(ROWS, np.array([6])) == pytest.approx(60 / 20)
    assert budget.replays_per_step(ROWS, np.array([0, 6])) == pytest.approx(60 / 32)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"row_slots": 1}, "row_slots is 1; allowed: 0, or more than .* 9"),
        ({"row_slots": 9}, "row_slots is 9; allowed: 0, or more than .* 9"),
        (
            {"batch_size": 4, "row_slots": 26, "total_env_steps": 100},
            "more than 100: before the first update 4 sequences of up to 25 steps",
        ),
    ],
)
def test_rows_must_hold_an_episode_and_leave_steps_after_the_first_batch(sizes, message):
    with pytest.raises(ConfigError, match=message):
        budget.check_steps(TrainingConfig(**sizes), 9)


def test_a_first_evaluation_beyond_the_last_step_is_announced():
    """32 episodes fill the batch, 100 more an evaluation; each has at most 7 steps."""
    line = budget.late_evaluation(TrainingConfig(total_env_steps=923), 7)
    assert line.startswith(
        "the first evaluation comes after 100 updates, up to 924 environment steps, which may "
        "exceed the 923 of training.total_env_steps"
    )
    assert budget.late_evaluation(TrainingConfig(total_env_steps=924), 7) is None
    short = dataclasses.replace(ROWS, total_env_steps=599)
    assert "after 9 updates, up to 600 environment" in budget.late_evaluation(short, 9)
