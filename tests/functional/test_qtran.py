"""QTRAN's two constraints: hand-computed, as they are, compiled and vmapped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.functional.qtran import nonoptimum_loss, optimum_loss

# Two steps, the second masked; two agents, two actions.
MASK = jnp.array([True, False])
Q_VALUES = jnp.array([[[1.0, 3.0], [2.0, -1.0]], [[9.0, 9.0], [9.0, 9.0]]])
Q_JOINT = jnp.array([[[4.0, 2.0], [5.0, 1.0]], [[9.0, 9.0], [9.0, 9.0]]])
VALUE = jnp.array([0.5, 9.0])
LEGAL = jnp.ones((2, 2, 2), bool)
Q_TAKEN = jnp.array([[3.0, 2.0], [9.0, 9.0]])
"""Agent 0 took action 1, agent 1 action 0."""


Q_GREEDY = jnp.array([[5.0, 4.5], [0.0, 0.0]])


@pytest.mark.parametrize("reference", [False, True])
def test_optimum_loss_by_hand(variant, reference):
    """Greedy utilities 3 + 2, V 0.5, Q_jt 5 and 4.5 in the agents' rows: errors 0.5 and 1."""
    loss = variant(partial(optimum_loss, reference=reference))
    actual = loss(Q_TAKEN, Q_GREEDY, VALUE, MASK)
    np.testing.assert_allclose(actual, (0.5**2 + 1.0**2) / 2)


WITHOUT_ACTION_0 = LEGAL.at[0, 0, 0].set(False)


@pytest.mark.parametrize(
    ("reference", "legal", "errors"),
    [
        # agent 0: [1, 3] + 2 + 0.5 - [4, 2], least -0.5; agent 1: [2, -1] + 3 + 0.5 - [5, 1]: 0.5
        (False, LEGAL, (-0.5, 0.5)),
        # the agent's own utility counts twice: + 5 + 0.5 in both rows, least 2.5
        (True, LEGAL, (2.5, 2.5)),
        # agent 0 is left with 3 + 2 + 0.5 - 2, but the reference's minimum has no mask
        (False, WITHOUT_ACTION_0, (3.5, 0.5)),
        (True, WITHOUT_ACTION_0, (2.5, 2.5)),
    ],
)
def test_nonoptimum_loss_by_hand(variant, reference, legal, errors):
    loss = variant(partial(nonoptimum_loss, reference=reference))
    actual = loss(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE, legal, MASK)
    np.testing.assert_allclose(actual, (errors[0] ** 2 + errors[1] ** 2) / 2)


def test_padding_may_hold_anything_and_no_legal_action():
    loss, grads = jax.value_and_grad(nonoptimum_loss)(
        Q_VALUES.at[1].set(1e30), Q_TAKEN, Q_JOINT, VALUE, LEGAL.at[1].set(False), MASK
    )
    np.testing.assert_allclose(loss, 0.25)
    assert np.isfinite(grads).all()
    assert not grads[1].any()


def test_only_the_joint_value_is_left_alone():
    """Both constraints move utilities and V; only the reference's optimum spares utilities."""
    of_optimum = jax.grad(optimum_loss, argnums=(0, 1, 2))
    of_nonoptimum = jax.grad(nonoptimum_loss, argnums=(0, 2, 3))
    arguments = Q_TAKEN, Q_GREEDY, VALUE, MASK
    for moves_utilities, (utilities, joint, value) in (
        (True, of_optimum(*arguments)),
        (False, of_optimum(*arguments, reference=True)),
        (True, of_nonoptimum(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE + 1, LEGAL, MASK)),
    ):
        of_agents = utilities[0].reshape(2, -1).any(-1)
        np.testing.assert_array_equal(of_agents, [moves_utilities] * 2)
        assert not joint.any()
        assert value[0]
