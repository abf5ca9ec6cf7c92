"""Losses on hand-computed arrays: as they are, compiled and vmapped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.functional import losses

# [T, B]: the second episode ends by a time limit after one step, the first truly after two.
Q_TAKEN = jnp.array([[1.0, 2.0], [3.0, 9.0]])
Q_NEXT = jnp.array([[2.0, 5.0], [7.0, 8.0]])
REWARD = jnp.array([[1.0, -1.0], [0.5, 6.0]])
DISCOUNT = jnp.array([[0.5, 1.0], [0.0, 1.0]])
MASK = jnp.array([[True, True], [True, False]])
TARGET = np.array([[2.0, 4.0], [0.5, 14.0]])

LOG_PROB = jnp.array([-1.0, -2.0])
RETURN = jnp.array([3.0, 1.0])
ENTROPY = jnp.array([0.5, 0.2])

LOG_Q, LOG_P = jnp.array([[-1.0, -2.0], [-0.5, -3.0]]), jnp.array([-1.5, -2.5])


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (losses.weighted_mean, ([[1.0, 4.0], [-2.0, 7.0]], [[1, 2], [1, 0]]), 7 / 4),
        # falls of 2 and 0.5 among four slopes of two steps; the third step does not count
        (
            losses.monotonicity_penalty,
            ([[1.0, -2.0], [-0.5, 3.0], [-9.0, -9.0]], [True, True, False]),
            2.5 / 4,
        ),
        (
            losses.mi_lower_bound,
            ([-1.0, -2.0, -4.0], [1.0, 0.0, 3.0], np.log(16)),
            np.log(16) - 13 / 4,
        ),
        (losses.intrinsic_reward, (LOG_Q, LOG_P), [[0.5, 0.5], [1.0, -0.5]]),
        (partial(losses.intrinsic_reward, reference=True), (LOG_Q, LOG_P), -LOG_Q),
        (losses.latent_policy_loss, (LOG_PROB, RETURN, ENTROPY, 2.0), 5 - 1.4),
        (
            partial(losses.latent_policy_loss, reference=True),
            (LOG_PROB, RETURN, ENTROPY, 2.0),
            5 - 6.0,
        ),
    ],
)
def test_by_hand(variant, function, arguments, expected):
    actual = variant(function)(*map(jnp.asarray, arguments))
    exact = function in (losses.monotonicity_penalty, losses.intrinsic_reward)
    np.testing.assert_allclose(actual, expected, rtol=1e-7 if exact else 1e-6)


def test_td_loss(variant):
    loss, metrics = variant(losses.td_loss)(Q_TAKEN, Q_NEXT, REWARD, DISCOUNT, MASK)
    expected = {"td_loss": 11.25, "td_error_abs": 5.5, "q_taken": 6.0, "q_target": 6.5}
    assert metrics.keys() == expected.keys()
    for name, total in expected.items():
        np.testing.assert_allclose(metrics[name], total / 3, rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(loss, metrics["td_loss"])


def test_td_loss_of_no_step_is_zero(variant):
    nothing = jnp.zeros_like(MASK)
    loss, metrics = variant(losses.td_loss)(Q_TAKEN, Q_NEXT, REWARD, DISCOUNT, nothing)
    assert loss == 0
    assert not any(metrics.values())
    grad = jax.grad(lambda q: losses.td_loss(q, Q_NEXT, REWARD, DISCOUNT, nothing)[0])
    np.testing.assert_array_equal(variant(grad)(Q_TAKEN), 0)


def test_td_gradient_flows_through_taken_values_alone():
    grad = jax.grad(losses.td_loss, argnums=(0, 1, 2, 3), has_aux=True)
    grads, _ = grad(Q_TAKEN, Q_NEXT, REWARD, DISCOUNT, MASK)
    np.testing.assert_allclose(grads[0], 2 / 3 * (Q_TAKEN - TARGET) * MASK, rtol=1e-6)
    for through_target in grads[1:]:
        np.testing.assert_array_equal(through_target, 0)


@pytest.mark.parametrize("padding", [-1234.0, np.nan])
def test_padded_steps_count_for_nothing(padding):
    arrays = Q_TAKEN, Q_NEXT, REWARD, DISCOUNT
    value_and_grad = jax.jit(jax.value_and_grad(losses.td_loss, has_aux=True))
    padded = [jnp.where(MASK, x, padding) for x in arrays]
    after, before = value_and_grad(*padded, MASK), value_and_grad(*arrays, MASK)
    jax.tree.map(np.testing.assert_array_equal, after, before)


# [T, B]: one episode of three steps cut by a time limit, one of two that truly ends.
THREE_STEPS = (
    jnp.array([[2.0, 4.0], [6.0, 7.0], [10.0, 8.0]]),
    jnp.array([[1.0, 1.0], [3.0, 5.0], [2.0, 9.0]]),
    jnp.array([[0.5, 0.5], [0.5, 0.0], [0.5, 9.0]]),
)
OF_THREE = jnp.array([[True, True], [True, True], [True, False]])


@pytest.mark.parametrize(
    ("td_lambda", "first", "second"),
    [
        (0.0, [2, 6, 10], [4, 7]),
        (1.0, [3 + 0.5 * (2 + 0.5 * 10), 2 + 0.5 * 10, 10], [5, 7]),
        (0.5, [0.5 * 2 + 0.5 * (3 + 0.5 * 6.5), 0.5 * 6 + 0.5 * 7, 10], [0.5 * 4 + 0.5 * 5, 7]),
    ],
)
def test_lambda_next_values(variant, td_lambda, first, second):
    values = variant(losses.lambda_next_values)(*THREE_STEPS, OF_THREE, jnp.float32(td_lambda))
    np.testing.assert_allclose(values[:, 0], first, rtol=1e-6)
    np.testing.assert_allclose(values[:2, 1], second, rtol=1e-6)
    padded = [jnp.where(OF_THREE, x, np.nan) for x in THREE_STEPS]
    after = variant(losses.lambda_next_values)(*padded, OF_THREE, jnp.float32(td_lambda))
    np.testing.assert_array_equal(after, values)


@pytest.mark.parametrize("reference", [False, True])
def test_intrinsic_reward_has_no_gradient(reference):
    def total(log_q, log_p):
        return losses.intrinsic_reward(log_q, log_p, reference=reference).sum()

    for grad in jax.grad(total, argnums=(0, 1))(LOG_Q, LOG_P):
        np.testing.assert_array_equal(grad, 0)


def test_latent_policy_gradients_by_argument():
    """The reference only shifts the return by the entropy's weight."""
    grad = jax.grad(losses.latent_policy_loss, argnums=(0, 1, 2))
    log_prob, episode_return, entropy = grad(LOG_PROB, RETURN, ENTROPY, 2.0)
    np.testing.assert_array_equal(log_prob, -RETURN)
    np.testing.assert_array_equal(episode_return, 0)
    np.testing.assert_array_equal(entropy, [-2.0, -2.0])
    log_prob, *others = grad(LOG_PROB, RETURN, ENTROPY, 2.0, reference=True)
    np.testing.assert_allclose(log_prob, [-(3.0 - 2.0), -(1.0 - 2.0)])
    np.testing.assert_array_equal(others, np.zeros((2, 2)))
