"""Normalised targets: running moments, and what is learnt in units of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments import small_config
from hypothesis import given, settings
from hypothesis import strategies as st

from maven_jax.config import Config, Hyperparameters
from maven_jax.envs import MStepMatrixGame
from maven_jax.mixers import IndependentMixer, SumMixer
from maven_jax.objectives import Networks, q_learning
from maven_jax.rounds import gradient_step, make_parts
from maven_jax.target_units import SLOWEST, follow, fresh_units, in_reward_units, spread_of
from maven_jax.train import make_trainer
from maven_jax.types import Episodes, TargetUnits

batches = st.lists(
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=6
)


def units_of(mean, variance):
    return TargetUnits(*map(jnp.float32, (10.0, mean, variance)))


def after(batches):
    units = fresh_units()
    for batch in np.asarray(batches, np.float32):
        units = follow(units, jnp.asarray(batch.mean()), jnp.asarray(batch.var()))
    return units


@given(batches)
@settings(deadline=None, max_examples=30)
def test_the_moments_of_few_batches_are_those_of_all_their_targets(batches):
    units, every = after(batches), np.asarray(batches)
    assert units.num_batches == len(batches)
    np.testing.assert_allclose(units.mean, every.mean(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(units.variance, every.var(), rtol=1e-3, atol=1e-2)


def test_of_many_batches_the_last_ones_count(variant):
    """Between equal batches of 0 and of 1 the mean moves by `SLOWEST` of what is left."""
    many = TargetUnits(*map(jnp.float32, (1e4, 0.0, 0.0)))
    units = variant(lambda u: follow(u, jnp.float32(1.0), jnp.float32(0.0)))(many)
    np.testing.assert_allclose(units.mean, SLOWEST)
    np.testing.assert_allclose(units.variance, SLOWEST * (1 - SLOWEST), rtol=1e-5)


def test_values_stand_for_mean_and_spread(variant):
    units = units_of(5.0, 4.0)
    found = variant(in_reward_units)(units, jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(found, [3.0, 5.0, 9.0])
    assert spread_of(units_of(5.0, 0.0)) > 0, "of targets that are all alike, too"


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


def loss_of(mixer, reward, units, networks=NETWORKS):
    numbers = Hyperparameters(gamma=0.5)
    return q_learning.loss(mixer, networks, NETWORKS, reward, BATCH, numbers, Config(), units)


def test_the_loss_is_in_the_targets_units_and_metrics_in_the_reward_s():
    """Values of 5 and 6 stand for 1 + 2 * 5 and 1 + 2 * 6; the next one, 10, for 21."""
    loss, metrics = loss_of(SumMixer(), BATCH.reward, units_of(1.0, 4.0))
    targets = np.array([10 + 0.5 * 21, 2.0])
    errors = np.array([11.0, 13.0]) - targets
    np.testing.assert_allclose(loss, (errors**2).mean() / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["td_loss"], (errors**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q_taken"], 12.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target"], targets.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q_target_variance"], targets.var(), rtol=1e-6)


@pytest.mark.parametrize("mixer", [SumMixer(), IndependentMixer()], ids=["vdn", "iql"])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1e4])
def test_whatever_the_reward_s_scale_the_gradient_is_the_same(mixer, scale):
    def gradient(reward, units):
        def loss(values):
            return loss_of(mixer, reward, units, Networks(values, {}))[0]

        return jax.grad(loss)(NETWORKS.q_values)

    expected = gradient(BATCH.reward, units_of(1.0, 4.0))
    found = gradient(scale * BATCH.reward, units_of(scale * 1.0, scale**2 * 4.0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_in_units_of_0_and_1_nothing_is_different():
    plain, told = loss_of(SumMixer(), BATCH.reward, None)
    same, more = loss_of(SumMixer(), BATCH.reward, fresh_units())
    np.testing.assert_allclose(plain, same, rtol=1e-6)
    assert set(more) - set(told) == {"q_target_variance"}


def test_a_gradient_step_follows_its_batch():
    config = small_config("vdn", normalize_targets=True)
    env = MStepMatrixGame(m=3)
    parts, trainer = make_parts(config, env), make_trainer(config, env)
    state = jax.jit(trainer.init)(jax.random.key(0), config.hyperparameters)
    assert state.target_units == fresh_units()
    step = jax.jit(lambda state, key: gradient_step(parts, state, key, config.hyperparameters))
    after_one, metrics = step(state, jax.random.key(1))
    np.testing.assert_allclose(after_one.target_units.num_batches, 1)
    np.testing.assert_allclose(after_one.target_units.mean, metrics["q_target"], rtol=1e-6)
    variance = metrics["q_target_variance"]
    np.testing.assert_allclose(after_one.target_units.variance, variance, rtol=1e-5)
    after_two, second = step(after_one, jax.random.key(2))
    between = (metrics["q_target"] + second["q_target"]) / 2
    np.testing.assert_allclose(after_two.target_units.mean, between, rtol=1e-5)
