"""The study of payoff tables: what each mixer holds is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.envs import MatrixGame
from maven_jax.studies.matrix_games import every_joint_action, fit_games

pytestmark = pytest.mark.slow

TABLES = np.float32([[[4, 1], [1, 0]], [[0, 1], [1, 4]]])
"""The best joint action of the first is (A, A), of the second (B, B); neither is additive."""


def test_every_joint_action_in_the_order_of_a_table():
    expected = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    actions = every_joint_action(3, 2)
    np.testing.assert_array_equal(actions[:4], expected)
    table = jnp.arange(8).reshape(2, 2, 2)
    np.testing.assert_array_equal(table[tuple(actions.T)], np.arange(8))


@pytest.fixture(scope="module")
def studies():
    """Two tables, both behaviours, two seeds, for a mixer of each kind."""
    env = MatrixGame(payoff=TABLES[0])
    return {
        name: fit_games(name, env, TABLES, num_seeds=2, num_steps=800)
        for name in ("iql", "vdn", "qmix", "qtran")
    }


@pytest.mark.parametrize("algorithm", ["iql", "vdn", "qmix", "qtran"])
def test_the_best_joint_action_of_a_monotone_game_is_found(studies, algorithm):
    learnt = studies[algorithm]
    assert learnt.joint_values.shape == (2, 2, 2, 2, 2)
    np.testing.assert_array_equal(learnt.greedy[0], np.zeros((2, 2, 2)))
    np.testing.assert_array_equal(learnt.greedy[1], np.ones((2, 2, 2)))


def test_vdn_lands_on_the_additive_optimum_under_uniform_behaviour(studies):
    for game, table in enumerate(TABLES):
        additive = table.mean(1)[:, None] + table.mean(0) - table.mean()
        expected = np.broadcast_to(additive, (2, 2, 2))
        np.testing.assert_allclose(studies["vdn"].joint_values[game, 0], expected, atol=0.05)


def test_iql_values_an_action_by_its_mean_payoff_under_uniform_behaviour(studies):
    mean = TABLES[0].mean(1)
    expected = (mean[:, None] + mean[None]) / 2
    values = studies["iql"].joint_values[0, 0]
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), atol=0.05)


@pytest.mark.parametrize("algorithm", ["qmix", "qtran"])
def test_a_monotone_table_is_held(studies, algorithm):
    for game, table in enumerate(TABLES):
        values = studies[algorithm].joint_values[game, 0]
        np.testing.assert_allclose(values, np.broadcast_to(table, values.shape), atol=0.25)


def test_behaviour_decides_what_a_mixer_that_cannot_hold_the_table_learns(studies):
    """Additive values under epsilon-greedy play weigh what is played: the best payoff is nearer."""
    values = studies["vdn"].joint_values[0]
    assert (np.abs(values[1, :, 0, 0] - 4) < np.abs(values[0, :, 0, 0] - 4)).all()


def test_the_same_study_twice_agrees_bit_for_bit():
    env = MatrixGame(payoff=TABLES[0])
    first, again = (fit_games("vdn", env, TABLES, num_seeds=2, num_steps=50) for _ in range(2))
    np.testing.assert_array_equal(first.joint_values, again.joint_values)
    assert (first.joint_values[:, :, 0] != first.joint_values[:, :, 1]).any()
