"""Normalised targets: running moments, and what is learnt in units of them."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_experiments import small_config

from maven_jax.algorithms.objectives import Networks, q_learning
from maven_jax.config import Config, Hyperparameters
from maven_jax.envs import MStepMatrixGame
from maven_jax.functional.target_moments import (
    denormalize,
    fresh_moments,
    standard_deviation,
    update_moments,
)
from maven_jax.networks.mixers import IndependentMixer, SumMixer
from maven_jax.training.rounds import gradient_step, make_parts
from maven_jax.training.train import in_single_precision, init_state
from maven_jax.types import Episodes, Moments

batches = st.lists(
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=6
)


def moments_of(mean, variance):
    return Moments(jnp.float32(mean), jnp.float32(variance))


def after(batches):
    moments = fresh_moments()
    for index, batch in enumerate(np.asarray(batches, np.float32)):
        of_batch = jnp.asarray(batch.mean()), jnp.asarray(batch.var())
        moments = update_moments(moments, jnp.int32(index), *of_batch)
    return moments


@given(batches)
@settings(deadline=None, max_examples=30)
def test_the_moments_of_few_batches_are_those_of_all_their_targets(batches):
    moments, every = after(batches), np.asarray(batches)
    np.testing.assert_allclose(moments.mean, every.mean(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(moments.variance, every.var(), rtol=1e-3, atol=1e-2)


def test_of_many_batches_the_last_ones_count(variant):
    """After many of 0 one of 1 moves the mean by 0.005 of the way."""
    one, many = jnp.float32(1.0), jnp.int32(10_000)
    moments = variant(update_moments)(moments_of(0.0, 0.0), many, one, 0 * one)
    np.testing.assert_allclose(moments.mean, 0.005)
    np.testing.assert_allclose(moments.variance, 0.005 * 0.995, rtol=1e-5)


def test_values_stand_for_mean_and_deviation(variant):
    found = variant(denormalize)(moments_of(5.0, 4.0), jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(found, [3.0, 5.0, 9.0])


def test_targets_that_are_all_alike_leave_a_deviation_to_divide_by():
    """As before the first reward of an episode that seldom has one; then it is met."""
    alike = after([[0.0, 0.0, 0.0]] * 5)
    np.testing.assert_allclose(standard_deviation(alike), 1e-4)
    met = update_moments(alike, jnp.int32(5), jnp.float32(1 / 3), jnp.float32(2 / 9))
    np.testing.assert_allclose(met, [1 / 18, 1 / 18 - 1 / 18**2], rtol=1e-5)


BATCH = Episodes(
    agents_view=jnp.zeros((3, 1, 2, 1)),
    action_mask=jnp.ones((3, 1, 2, 2), bool),
    global_state=jnp.zeros((3, 1, 1)),
    actions=jnp.array([[[1, 0]], [[0, 0]]]),
    reward=jnp.array([[10.0], [2.0]]),
    discount=jnp.array([[1.0], [0.0]]),
    mask=jnp.ones((2, 1), bool),
    latent=jnp.zeros((1, 0)),
)
VALUES = jnp.array([[1.0, 3.0], [2.0, -1.0]])
NETWORKS = Networks(jnp.stack([VALUES, 2 * VALUES, 0 * VALUES])[:, None], {})


@partial(jax.jit, static_argnames="mixer")
def loss_of(mixer, reward, moments, networks=NETWORKS, mask=BATCH.mask, td_lambda=0.0, old=None):
    numbers = Hyperparameters(gamma=0.5, td_lambda=td_lambda)
    batch = BATCH._replace(mask=mask)
    online = networks._replace(moments=moments)
    target = NETWORKS._replace(moments=old or moments)
    return q_learning.loss(mixer, online, target, reward, batch, numbers, Config())


@pytest.mark.parametrize(
    ("old", "next_value"),
    [(None, 1 + 2 * 10), (moments_of(-1.0, 9.0), -1 + 3 * 10)],
    ids=["of the same moments", "of older moments"],
)
def test_the_loss_is_in_units_of_the_targets_and_metrics_in_the_reward_s(old, next_value):
    """Values of 5 and 6 stand for 1 + 2 * 5 and 1 + 2 * 6; the target network's 10 is in units of
    the moments that it was copied with."""
    loss, metrics = loss_of(SumMixer(), BATCH.reward, moments_of(1.0, 4.0), old=old)
    targets = np.array([10 + 0.5 * next_value, 2.0])
    errors = np.array([11.0, 13.0]) - targets
    np.testing.assert_allclose(loss, (errors**2).mean() / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["td_loss"], (errors**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q_taken"], 12.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target"], targets.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target_variance"], targets.var(), rtol=1e-6)


def test_what_is_masked_counts_for_nothing():
    """Whatever it holds: the second step is none, and nothing of it is finite."""
    reward, mask = BATCH.reward.at[1].set(jnp.nan), jnp.array([[True], [False]])
    loss, metrics = loss_of(SumMixer(), reward, moments_of(1.0, 4.0), mask=mask)
    np.testing.assert_allclose(loss, (11 - 20.5) ** 2 / 4, rtol=1e-6)
    assert metrics["q_target_variance"] == 0


@pytest.mark.parametrize("mixer", [SumMixer(), IndependentMixer()], ids=["vdn", "iql"])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1e4])
def test_whatever_the_reward_s_scale_the_gradient_is_the_same(mixer, scale):
    @jax.jit
    @jax.grad
    def of_values(values, reward, moments):
        return loss_of(mixer, reward, moments, Networks(values, {}), td_lambda=0.6)[0]

    gradient = partial(of_values, NETWORKS.q_values)
    expected = gradient(BATCH.reward, moments_of(1.0, 4.0))
    found = gradient(scale * BATCH.reward, moments_of(scale * 1.0, scale**2 * 4.0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_in_units_of_0_and_1_nothing_is_different():
    plain, told = loss_of(SumMixer(), BATCH.reward, None)
    same, more = loss_of(SumMixer(), BATCH.reward, fresh_moments())
    np.testing.assert_allclose(plain, same, rtol=1e-6)
    assert set(more) - set(told) == {"q_target_variance"}


@cache
def started(algorithm):
    """The first state of a run, and a compiled gradient step with other numbers as they are given.

    Every third step the target network is copied.
    """
    config = small_config(algorithm, normalize_targets=True, target_update_interval=3)
    parts = make_parts(config, MStepMatrixGame(m=3))
    state = jax.jit(partial(init_state, parts))(jax.random.key(1), config.hyperparameters)
    compiled = jax.jit(partial(gradient_step, parts))

    def step(state, key, **numbers):
        return compiled(state, key, in_single_precision(config.hyperparameters._replace(**numbers)))

    return parts.replay, state, step


of_both_objectives = pytest.mark.parametrize("algorithm", ["vdn", "qtran"])
KEYS = jax.random.split(jax.random.key(1), 5)


@pytest.mark.slow
@of_both_objectives
def test_moments_follow_the_batches_and_those_of_the_target_network_its_copies(algorithm):
    """Where nothing is discounted to, targets are rewards."""
    replay, start, step = started(algorithm)
    states = [start]
    for key in KEYS:
        states.append(step(states[-1], key, gamma=0.0)[0])
    moments, of_target = ([getattr(x, n) for x in states] for n in ("moments", "target_moments"))
    assert moments[0] == fresh_moments()
    batches = [replay.sample(start.replay, key).experience for key in KEYS[:2]]
    first, second = (np.asarray(batch.reward)[np.asarray(batch.mask)] for batch in batches)
    assert 0 < first.mean() < second.mean()
    np.testing.assert_allclose(moments[1].mean, first.mean(), rtol=1e-5)
    np.testing.assert_allclose(moments[1].variance, first.var(), rtol=1e-5)
    np.testing.assert_allclose(moments[2].mean, (first.mean() + second.mean()) / 2, rtol=1e-5)
    assert of_target == [fresh_moments()] * 3 + [moments[3]] * 3
    assert moments[5] != moments[3]


@pytest.mark.slow
@of_both_objectives
def test_where_nothing_is_learnt_or_copied_targets_stand_still(algorithm):
    """A target network that feeds on moments of its own outputs grows by a factor a step."""
    _, start, step = started(algorithm)
    after_one, first = step(start, KEYS[0], learning_rate=0.0)
    _, second = step(after_one, KEYS[0], learning_rate=0.0)
    assert after_one.moments != start.moments
    np.testing.assert_allclose(second["q_target"], first["q_target"], rtol=1e-5)
