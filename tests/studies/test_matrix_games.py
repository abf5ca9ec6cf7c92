"""The study of payoff tables: what each mixer holds is known."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.envs import MatrixGame
from maven_jax.studies.matrix_games import every_joint_action, fit_games

pytestmark = pytest.mark.slow

TABLES = np.float32([[[4, 1], [1, 0]], [[0, 1], [1, 4]]])
"""The best joint action of the first is (A, A), of the second (B, B); neither is additive."""


def fits_of(algorithm):
    """Two tables, both behaviours, two seeds."""
    return fit_games(algorithm, MatrixGame(payoff=TABLES[0]), TABLES, num_seeds=2, num_steps=800)


learnt_by = functools.cache(fits_of)


def test_every_joint_action_in_the_order_of_a_table():
    table = jnp.arange(8).reshape(2, 2, 2)
    np.testing.assert_array_equal(table[tuple(every_joint_action(3, 2).T)], np.arange(8))


@pytest.mark.parametrize("algorithm", ["iql", "vdn", "qmix", "qtran"])
def test_the_best_joint_action_of_a_monotone_game_is_found(algorithm):
    learnt = learnt_by(algorithm)
    assert learnt.joint_values.shape == (2, 2, 2, 2, 2)
    np.testing.assert_array_equal(learnt.greedy[0], np.zeros((2, 2, 2)))
    np.testing.assert_array_equal(learnt.greedy[1], np.ones((2, 2, 2)))


def test_vdn_lands_on_the_additive_optimum_under_uniform_behaviour():
    additive = (
        TABLES.mean(2)[:, :, None] + TABLES.mean(1)[:, None] - TABLES.mean((1, 2), keepdims=True)
    )
    values = learnt_by("vdn").joint_values[:, 0]
    np.testing.assert_allclose(values, np.broadcast_to(additive[:, None], values.shape), atol=0.05)


def test_iql_values_an_action_by_its_mean_payoff_under_uniform_behaviour():
    mean = TABLES[0].mean(1)
    expected = (mean[:, None] + mean[None]) / 2
    values = learnt_by("iql").joint_values[0, 0]
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), atol=0.05)


@pytest.mark.parametrize("algorithm", ["qmix", "qtran"])
def test_a_monotone_table_is_held(algorithm):
    values = learnt_by(algorithm).joint_values[:, 0]
    np.testing.assert_allclose(values, np.broadcast_to(TABLES[:, None], values.shape), atol=0.25)


def test_behaviour_decides_what_a_mixer_that_cannot_hold_the_table_learns():
    """Additive values under epsilon-greedy play weigh what is played: the best payoff is nearer."""
    values = learnt_by("vdn").joint_values[0]
    assert (np.abs(values[1, :, 0, 0] - 4) < np.abs(values[0, :, 0, 0] - 4)).all()


def test_the_same_study_twice_agrees_bit_for_bit():
    values = learnt_by("vdn").joint_values
    np.testing.assert_array_equal(values, fits_of("vdn").joint_values)
    assert (values[:, :, 0] != values[:, :, 1]).any()
