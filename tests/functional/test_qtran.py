"""QTRAN's two constraints: hand-computed, as they are, compiled and vmapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from maven_jax.functional.qtran import nonoptimum_loss, optimum_loss

# Two steps, the second masked; two agents, two actions.
MASK = jnp.array([True, False])
Q_VALUES = jnp.array([[[1.0, 3.0], [2.0, -1.0]], [[9.0, 9.0], [9.0, 9.0]]])
Q_JOINT = jnp.array([[[4.0, 2.0], [5.0, 1.0]], [[9.0, 9.0], [9.0, 9.0]]])
VALUE = jnp.array([0.5, 9.0])
LEGAL = jnp.ones((2, 2, 2), bool)
Q_TAKEN = jnp.array([[3.0, 2.0], [9.0, 9.0]])
"""Agent 0 took action 1, agent 1 action 0."""


@pytest.mark.parametrize("reference", [False, True])
def test_optimum_loss_by_hand(variant, reference):
    """Greedy utilities 3 + 2, V 0.5, Q_jt 5 and 4.5 in the agents' rows: errors 0.5 and 1."""
    q_joint_greedy = jnp.array([[5.0, 4.5], [0.0, 0.0]])
    loss = variant(lambda *args: optimum_loss(*args, reference=reference))
    actual = loss(Q_TAKEN, q_joint_greedy, VALUE, MASK)
    np.testing.assert_allclose(actual, (0.5**2 + 1.0**2) / 2)


def test_nonoptimum_loss_by_hand(variant):
    """Agent 0: [1, 3] + 2 + 0.5 - [4, 2], least -0.5; agent 1: [2, -1] + 3 + 0.5 - [5, 1]: 0.5."""
    loss = variant(nonoptimum_loss)(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE, LEGAL, MASK)
    np.testing.assert_allclose(loss, (0.5**2 + 0.5**2) / 2)


def test_the_reference_counts_the_own_utility_twice(variant):
    """Agent 0: [1, 3] + 5 + 0.5 - [4, 2], least 2.5; agent 1: [2, -1] + 5 + 0.5 - [5, 1]: 2.5."""
    loss = variant(lambda *args: nonoptimum_loss(*args, reference=True))
    actual = loss(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE, LEGAL, MASK)
    np.testing.assert_allclose(actual, (2.5**2 + 2.5**2) / 2)


def test_the_minimum_goes_over_legal_actions():
    """Without its action 0 agent 0 is left with 3 + 2 + 0.5 - 2 = 3.5; the reference looks on."""
    legal = LEGAL.at[0, 0, 0].set(False)
    loss = nonoptimum_loss(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE, legal, MASK)
    np.testing.assert_allclose(loss, (3.5**2 + 0.5**2) / 2)
    reference = nonoptimum_loss(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE, legal, MASK, reference=True)
    np.testing.assert_allclose(reference, 2.5**2)


def test_padding_may_hold_anything_and_no_legal_action():
    legal = LEGAL.at[1].set(False)
    loss, grads = jax.value_and_grad(nonoptimum_loss)(
        Q_VALUES.at[1].set(1e30), Q_TAKEN, Q_JOINT, VALUE, legal, MASK
    )
    np.testing.assert_allclose(loss, 0.25)
    assert np.isfinite(grads).all()
    assert not grads[1].any()


def test_only_the_joint_value_is_left_alone():
    """Both constraints move utilities and V; only the reference's optimum spares utilities."""
    grads = jax.grad(optimum_loss, argnums=(0, 1, 2))
    arguments = Q_TAKEN, jnp.array([[5.0, 4.5], [0.0, 0.0]]), VALUE, MASK
    utilities, joint, value = grads(*arguments)
    assert utilities[0].all()
    assert not joint.any()
    assert value[0]
    utilities, joint, value = grads(*arguments, reference=True)
    assert not utilities.any()
    assert not joint.any()
    assert value[0]
    grads = jax.grad(nonoptimum_loss, argnums=(0, 2, 3))
    utilities, joint, value = grads(Q_VALUES, Q_TAKEN, Q_JOINT, VALUE + 1, LEGAL, MASK)
    assert utilities[0].any()
    assert not joint.any()
    assert value[0]


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        q_values, q_taken, q_joint, value = (
            jnp.asarray(np.float64(x)) for x in (Q_VALUES, Q_TAKEN, Q_JOINT, VALUE)
        )

        @jax.jit
        def both(q_values, q_taken, value):
            optimum = optimum_loss(q_taken, q_joint[..., 0], value, MASK)
            return optimum, nonoptimum_loss(q_values, q_taken, q_joint, value, LEGAL, MASK)

        check_grads(both, (q_values, q_taken, value), order=1, modes=["rev"])
