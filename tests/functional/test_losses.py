"""Losses on hand-computed arrays: as they are, compiled and vmapped; gradients in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from maven_jax.functional.losses import (
    intrinsic_reward,
    lambda_next_values,
    latent_policy_loss,
    mi_lower_bound,
    monotonicity_penalty,
    td_loss,
    weighted_mean,
)

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


def test_weighted_mean(variant):
    x, weight = jnp.array([[1.0, 4.0], [-2.0, 7.0]]), jnp.array([[1, 2], [1, 0]])
    np.testing.assert_allclose(variant(weighted_mean)(x, weight), 7 / 4, rtol=1e-6)


def test_td_loss(variant):
    loss, metrics = variant(td_loss)(Q_TAKEN, Q_NEXT, REWARD, DISCOUNT, MASK)
    expected = {"td_loss": 11.25, "td_error_abs": 5.5, "q_taken": 6.0, "q_target": 6.5}
    assert metrics.keys() == expected.keys()
    for name, total in expected.items():
        np.testing.assert_allclose(metrics[name], total / 3, rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(loss, metrics["td_loss"])


def episodes_of_three_steps():
    """[T, B]: one of three steps cut by a time limit, one of two that truly ends."""
    q_next = jnp.array([[2.0, 4.0], [6.0, 7.0], [10.0, 8.0]])
    reward = jnp.array([[1.0, 1.0], [3.0, 5.0], [2.0, 9.0]])
    discount = jnp.array([[0.5, 0.5], [0.5, 0.0], [0.5, 9.0]])
    mask = jnp.array([[True, True], [True, True], [True, False]])
    return q_next, reward, discount, mask


@pytest.mark.parametrize(
    ("td_lambda", "first", "second"),
    [
        (0.0, [2, 6, 10], [4, 7]),
        (1.0, [3 + 0.5 * (2 + 0.5 * 10), 2 + 0.5 * 10, 10], [5, 7]),
        (0.5, [0.5 * 2 + 0.5 * (3 + 0.5 * 6.5), 0.5 * 6 + 0.5 * 7, 10], [0.5 * 4 + 0.5 * 5, 7]),
    ],
)
def test_lambda_next_values(variant, td_lambda, first, second):
    values = variant(lambda_next_values)(*episodes_of_three_steps(), jnp.float32(td_lambda))
    np.testing.assert_allclose(values[:, 0], first, rtol=1e-6)
    np.testing.assert_allclose(values[:2, 1], second, rtol=1e-6)


@pytest.mark.parametrize("changed", range(3))
def test_padded_steps_do_not_reach_lambda_next_values(changed):
    *arrays, mask = episodes_of_three_steps()
    before = lambda_next_values(*arrays, mask, 0.7)
    arrays[changed] = jnp.where(mask, arrays[changed], np.nan)
    np.testing.assert_array_equal(lambda_next_values(*arrays, mask, 0.7), before)


def test_monotonicity_penalty(variant):
    """Falls of 2 and 0.5 among four slopes of two steps; the third step does not count."""
    slopes = jnp.array([[1.0, -2.0], [-0.5, 3.0], [-9.0, -9.0]])
    penalty = variant(monotonicity_penalty)(slopes, jnp.array([True, True, False]))
    np.testing.assert_allclose(penalty, 2.5 / 4)


def test_td_loss_of_no_step_is_zero(variant):
    nothing = jnp.zeros_like(MASK)
    loss, metrics = variant(td_loss)(Q_TAKEN, Q_NEXT, REWARD, DISCOUNT, nothing)
    assert loss == 0
    assert not any(metrics.values())
    grad = jax.grad(lambda q: td_loss(q, Q_NEXT, REWARD, DISCOUNT, nothing)[0])
    np.testing.assert_array_equal(variant(grad)(Q_TAKEN), 0)


def test_td_gradient_flows_through_taken_values_alone():
    grad = jax.grad(td_loss, argnums=(0, 1, 2, 3), has_aux=True)
    grads, _ = grad(Q_TAKEN, Q_NEXT, REWARD, DISCOUNT, MASK)
    np.testing.assert_allclose(grads[0], 2 / 3 * (Q_TAKEN - TARGET) * MASK, rtol=1e-6)
    for through_target in grads[1:]:
        np.testing.assert_array_equal(through_target, 0)


@pytest.mark.parametrize("changed", range(4))
@pytest.mark.parametrize("padding", [-1234.0, np.nan])
def test_padded_steps_count_for_nothing(changed, padding):
    arrays = [Q_TAKEN, Q_NEXT, REWARD, DISCOUNT]
    value_and_grad = jax.value_and_grad(td_loss, has_aux=True)
    before = value_and_grad(*arrays, MASK)
    arrays[changed] = jnp.where(MASK, arrays[changed], padding)
    after = value_and_grad(*arrays, MASK)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_discount_zero_cuts_bootstrapping():
    def loss(q_next):
        return td_loss(Q_TAKEN, q_next, REWARD, DISCOUNT, MASK)[0]

    assert loss(Q_NEXT.at[1, 0].add(100.0)) == loss(Q_NEXT)
    assert loss(Q_NEXT.at[0, 1].add(100.0)) > loss(Q_NEXT)


def test_mi_lower_bound(variant):
    log_q, weight = jnp.array([-1.0, -2.0, -4.0]), jnp.array([1.0, 0.0, 3.0])
    bound = variant(mi_lower_bound)(log_q, weight, jnp.log(16.0))
    np.testing.assert_allclose(bound, np.log(16) - 13 / 4, rtol=1e-6)


def test_intrinsic_reward(variant):
    log_q = jnp.array([[-1.0, -2.0], [-0.5, -3.0]])
    log_p = jnp.array([-1.5, -2.5])
    auxiliary = variant(intrinsic_reward)(log_q, log_p)
    np.testing.assert_allclose(auxiliary, [[0.5, 0.5], [1.0, -0.5]])
    reference = variant(lambda *args: intrinsic_reward(*args, reference=True))(log_q, log_p)
    np.testing.assert_allclose(reference, -log_q)


@pytest.mark.parametrize("reference", [False, True])
def test_intrinsic_reward_has_no_gradient(reference):
    def total(log_q, log_p):
        return intrinsic_reward(log_q, log_p, reference=reference).sum()

    for grad in jax.grad(total, argnums=(0, 1))(-jnp.ones((3, 2)), -jnp.ones(2)):
        np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize(("reference", "expected"), [(False, 5 - 1.4), (True, 5 - 6.0)])
def test_latent_policy_loss(variant, reference, expected):
    def loss(*args):
        return latent_policy_loss(*args, reference=reference)

    actual = variant(loss)(LOG_PROB, RETURN, ENTROPY, jnp.array(2.0))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_latent_policy_gradient_is_that_of_the_expected_return():
    logits, returns = jnp.array([0.3, -1.0, 0.8]), jnp.array([2.0, 5.0, -1.0])

    def one_episode(log_prob, episode_return):
        zero = jnp.zeros(1)
        return latent_policy_loss(log_prob[None], episode_return[None], zero, 0.0)

    @jax.jit
    def expected_loss(logits):
        losses = jax.vmap(one_episode)(jax.nn.log_softmax(logits), returns)
        return (jax.lax.stop_gradient(jax.nn.softmax(logits)) * losses).sum()

    expected_return = jax.jit(lambda logits: jax.nn.softmax(logits) @ returns)
    gain = jax.grad(expected_return)(logits)
    np.testing.assert_allclose(jax.grad(expected_loss)(logits), -gain, rtol=1e-5)


def test_latent_policy_gradients_by_argument():
    grad = jax.grad(latent_policy_loss, argnums=(0, 1, 2))
    log_prob, episode_return, entropy = grad(LOG_PROB, RETURN, ENTROPY, 2.0)
    np.testing.assert_array_equal(log_prob, -RETURN)
    np.testing.assert_array_equal(episode_return, 0)
    np.testing.assert_array_equal(entropy, [-2.0, -2.0])


def test_reference_latent_policy_only_shifts_the_return():
    grad = jax.grad(latent_policy_loss)
    reference = grad(LOG_PROB, RETURN, ENTROPY, 2.0, reference=True)
    np.testing.assert_allclose(reference, [-(3.0 - 2.0), -(1.0 - 2.0)])


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        constants = map(jnp.float64, (Q_NEXT, REWARD, DISCOUNT, RETURN))
        arguments = map(jnp.float64, (Q_TAKEN, DISCOUNT, LOG_PROB, ENTROPY))
        q_next, reward, discount, episode_return = constants

        @jax.jit
        def losses(q_taken, weight, log_prob, entropy):
            return (
                td_loss(q_taken, q_next, reward, discount, MASK)[0],
                mi_lower_bound(q_taken, weight, entropy[0]),
                latent_policy_loss(log_prob, episode_return, entropy, 0.7),
            )

        check_grads(losses, tuple(arguments), order=1)
