"""Normalised targets: running moments, and what is learnt in units of them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jumanji.types import restart, transition, truncation
from small_experiments import small_config

from maven_jax.algorithms.objectives import Networks, q_learning
from maven_jax.config import Config, Hyperparameters, override
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters.types import Observation
from maven_jax.functional.target_moments import (
    denormalize,
    fresh_moments,
    standard_deviation,
    update_moments,
)
from maven_jax.networks.mixers import IndependentMixer, SumMixer
from maven_jax.training.rounds import gradient_step, make_parts, play_round
from maven_jax.training.train import in_single_precision, init_state, make_trainer
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
    one = jnp.float32(1.0)
    moments = variant(lambda m: update_moments(m, jnp.int32(10_000), one, 0 * one))(
        moments_of(0.0, 0.0)
    )
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
    np.testing.assert_allclose(met.mean, 1 / 18, rtol=1e-5)
    np.testing.assert_allclose(met.variance, 1 / 18 - 1 / 18**2, rtol=1e-5)


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


def test_the_loss_is_in_units_of_the_targets_and_metrics_in_the_reward_s():
    """Values of 5 and 6 stand for 1 + 2 * 5 and 1 + 2 * 6; the next one, 10, for 21."""
    loss, metrics = loss_of(SumMixer(), BATCH.reward, moments_of(1.0, 4.0))
    targets = np.array([10 + 0.5 * 21, 2.0])
    errors = np.array([11.0, 13.0]) - targets
    np.testing.assert_allclose(loss, (errors**2).mean() / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["td_loss"], (errors**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q_taken"], 12.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target"], targets.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target_variance"], targets.var(), rtol=1e-6)


def test_the_target_network_s_values_are_in_units_of_its_own_moments():
    """The next value, 10, stands for -1 + 3 * 10 where the target network's moments are older."""
    loss, metrics = loss_of(
        SumMixer(), BATCH.reward, moments_of(1.0, 4.0), old=moments_of(-1.0, 9.0)
    )
    targets = np.array([10 + 0.5 * 29, 2.0])
    errors = np.array([11.0, 13.0]) - targets
    np.testing.assert_allclose(loss, (errors**2).mean() / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target"], targets.mean(), rtol=1e-6)


def test_what_is_masked_counts_for_nothing():
    """Whatever it holds: the second step is none, and nothing of it is finite."""
    reward, mask = BATCH.reward.at[1].set(jnp.nan), jnp.array([[True], [False]])
    moments = moments_of(1.0, 4.0)
    loss, metrics = loss_of(SumMixer(), reward, moments, mask=mask)
    np.testing.assert_allclose(loss, (11 - 20.5) ** 2 / 4, rtol=1e-6)
    assert metrics["q_target_variance"] == 0


@pytest.mark.parametrize("mixer", [SumMixer(), IndependentMixer()], ids=["vdn", "iql"])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1e4])
def test_whatever_the_reward_s_scale_the_gradient_is_the_same(mixer, scale):
    @jax.jit
    def gradient(reward, moments):
        def loss(values):
            return loss_of(mixer, reward, moments, Networks(values, {}), td_lambda=0.6)[0]

        return jax.grad(loss)(NETWORKS.q_values)

    expected = gradient(BATCH.reward, moments_of(1.0, 4.0))
    found = gradient(scale * BATCH.reward, moments_of(scale * 1.0, scale**2 * 4.0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_in_units_of_0_and_1_nothing_is_different():
    plain, told = loss_of(SumMixer(), BATCH.reward, None)
    same, more = loss_of(SumMixer(), BATCH.reward, fresh_moments())
    np.testing.assert_allclose(plain, same, rtol=1e-6)
    assert set(more) - set(told) == {"q_target_variance"}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["vdn", "qtran"])
def test_a_gradient_step_follows_its_batch(algorithm):
    """Where nothing is discounted to, targets are rewards."""
    config = small_config(algorithm, normalize_targets=True)
    env, numbers = MStepMatrixGame(m=3), config.hyperparameters._replace(gamma=0.0)
    parts, trainer = make_parts(config, env), make_trainer(config, env)
    state = jax.jit(trainer.init)(jax.random.key(0), numbers)
    assert state.moments == state.target_moments == fresh_moments()
    step = jax.jit(lambda state, key: gradient_step(parts, state, key, numbers))

    def rewards(key):
        batch = parts.replay.sample(state.replay, key).experience
        return np.asarray(batch.reward)[np.asarray(batch.mask)]

    first, second = (rewards(jax.random.key(seed)) for seed in (1, 2))
    after_one, _ = step(state, jax.random.key(1))
    np.testing.assert_allclose(after_one.moments.mean, first.mean(), rtol=1e-5)
    np.testing.assert_allclose(after_one.moments.variance, first.var(), rtol=1e-5)
    after_two, _ = step(after_one, jax.random.key(2))
    between = (first.mean() + second.mean()) / 2
    np.testing.assert_allclose(after_two.moments.mean, between, rtol=1e-5)


class Paid(NamedTuple):
    """Views drawn anew at each of 5 steps, each of which pays 1."""

    num_agents: int = 2
    num_actions: int = 2
    time_limit: int = 5

    def observe(self, key):
        view = jax.random.normal(key, (2, 4))
        return Observation(view, jnp.ones((2, 2), bool), view.ravel())

    def reset(self, key):
        return (key, jnp.int32(0)), restart(self.observe(key))

    def step(self, state, action):
        key, steps = jax.random.fold_in(state[0], 1), state[1] + 1
        cut, going = truncation(1.0, self.observe(key)), transition(1.0, self.observe(key))
        over = steps >= self.time_limit
        return (key, steps), jax.tree.map(lambda a, b: jnp.where(over, a, b), cut, going)


@pytest.mark.slow
def test_the_target_network_keeps_the_moments_that_it_was_copied_with():
    """Copied every third step: until then they are the fresh ones, then those of that step."""
    config = small_config("vdn", normalize_targets=True, target_update_interval=3)
    parts = make_parts(config, Paid())
    state = init_state(parts, jax.random.key(0), config.hyperparameters)
    step = jax.jit(lambda state, key: gradient_step(parts, state, key, config.hyperparameters)[0])
    after = [state := step(state, key) for key in jax.random.split(jax.random.key(1), 5)]
    assert [state.target_moments == fresh_moments() for state in after[:2]] == [True, True]
    assert all(state.target_moments == after[2].moments for state in after[2:])
    assert after[4].moments != after[2].moments


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_where_nothing_is_learnt_or_copied_targets_stand_still(scale):
    """A target network that feeds on moments of its own outputs grows by a factor a step."""
    found = []
    for normalize in (False, True):
        config = small_config("qmix", normalize_targets=normalize, target_update_interval=10**6)
        config = override(config, {"network": {"mixer_init_scale": scale}})
        config = override(config, {"hyperparameters": {"learning_rate": 0.0}})
        parts, numbers = make_parts(config, Paid()), in_single_precision(config.hyperparameters)

        @jax.jit
        def train(key, parts=parts, numbers=numbers):
            def body(state, _):
                state, metrics = play_round(parts, state, numbers, jnp.array(False))
                return state, metrics["q_target"]

            return jax.lax.scan(body, init_state(parts, key, numbers), length=300)[1]

        found.append(train(jax.random.key(0)))
    np.testing.assert_allclose(*found, rtol=1e-5)
