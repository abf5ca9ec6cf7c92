"""Every latent: p(z | s0), its entropy, its draws, and what is learnt of it."""

from functools import partial

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params
from jax.test_util import check_grads

from maven_jax.config import Hyperparameters
from maven_jax.latents import (
    BanditLatent,
    CategoricalLatent,
    Latent,
    LocationScaleLatent,
    NullLatent,
    UniformLatent,
)
from maven_jax.types import LatentOutcome

CATEGORICAL = CategoricalLatent(size=3, hidden_size=2)

# The hidden layer is relu(s0); each state below gives the softmax of one row of logits.
PARAMS = {
    "params": {
        "hidden_0": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
        "output": {
            "kernel": jnp.array(np.log([[1.0, 2.0, 5.0], [3.0, 1.0, 4.0]]), jnp.float32),
            "bias": jnp.zeros(3),
        },
    }
}
STATES = jnp.array([[1, 0], [0, 1], [-1, -1]], jnp.float32)
PROBS = np.array([[1 / 8, 2 / 8, 5 / 8], [3 / 8, 1 / 8, 4 / 8], [1 / 3, 1 / 3, 1 / 3]])


def log_probs(latent, params, states):
    """log p(z | s0) of every one-hot z, for every state: `B Z`."""
    states = jnp.repeat(states[:, None], latent.size, axis=1)
    every_latent = jnp.broadcast_to(jnp.eye(latent.size), (*states.shape[:2], latent.size))
    return latent.log_prob(params, states, every_latent)


GAUSSIAN = LocationScaleLatent(size=2, hidden_size=2, base=distrax.Normal)
LOGISTIC = LocationScaleLatent(size=2, hidden_size=2, base=distrax.Logistic)
# Locations are the first two outputs, log scales the others: at state [1, 0], [1, -2] and [0, 1].
CONTINUOUS_PARAMS = {
    "params": {
        "hidden_0": PARAMS["params"]["hidden_0"],
        "output": {
            "kernel": jnp.array([[1.0, -2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]),
            "bias": jnp.zeros(4),
        },
    }
}
ENTROPIES = -(PROBS * np.log(PROBS)).sum(-1)
EVERY_STATE = jnp.repeat(STATES[:, None], 3, axis=1)
EVERY_LATENT = jnp.tile(jnp.eye(3), (3, 1, 1))
UNIFORM = UniformLatent(4), {}, jnp.ones((2, 5, 3)), jnp.eye(4)[jnp.arange(10).reshape(2, 5) % 4]
BY_HAND = {
    "categorical": (CATEGORICAL, PARAMS, EVERY_STATE, EVERY_LATENT, np.log(PROBS), ENTROPIES),
    "uniform": (*UNIFORM, np.log(1 / 4), np.full(2, np.log(4))),
    "gaussian": (
        *(GAUSSIAN, CONTINUOUS_PARAMS, STATES[:1], jnp.array([[2.0, -2.0]])),
        -0.5 - 1 - np.log(2 * np.pi),
        [1 + np.log(2 * np.pi * np.e)],
    ),
    # At its location the density is 1 / 4s; the entropy is log s + 2.
    "logistic": (
        *(LOGISTIC, CONTINUOUS_PARAMS, STATES[:1], jnp.array([[1.0, -2.0]])),
        -2 * np.log(4) - 1,
        [5.0],
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_log_prob_and_entropy_by_hand(case, variant):
    latent, params, states, z, log_prob, entropies = BY_HAND[case]
    found = variant(lambda states, z: latent.log_prob(params, states, z))(states, z)
    np.testing.assert_allclose(found, np.broadcast_to(log_prob, found.shape), rtol=1e-5)
    found = variant(lambda states: latent.entropy(params, states))(states)
    expected = np.reshape(entropies, (-1, *[1] * (found.ndim - 1)))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-5)


class Policy:
    """A latent with random weights, and its compiled functions."""

    def __init__(self, latent):
        self.latent = latent
        self.params = jax.jit(lambda key: latent.init_params(key, 2))(jax.random.key(0))
        self.sample = jax.jit(latent.sample)
        self.log_probs = jax.jit(partial(log_probs, latent))


@pytest.fixture(
    scope="module",
    params=[CategoricalLatent(5, 7), UniformLatent(5), BanditLatent(5, 7, 2.0, 0.5, 0.1)],
    ids=lambda x: type(x).__name__,
)
def policy(request):
    return Policy(request.param)


def probs_in_numpy(policy) -> np.ndarray:
    """p(z | s0) of the three states, by the weights of the network."""
    if isinstance(policy.latent, UniformLatent):
        return np.full((3, 5), 0.2)
    weights, layer = jax.tree.map(np.asarray, policy.params["params"]), np.asarray(STATES)
    for name in sorted(set(weights) - {"output"}):
        layer = np.maximum(layer @ weights[name]["kernel"] + weights[name]["bias"], 0)
    output = layer @ weights["output"]["kernel"] + weights["output"]["bias"]
    is_bandit = isinstance(policy.latent, BanditLatent)
    exp = np.exp(output * (2.0 / 0.5 if is_bandit else 1))
    p = exp / exp.sum(-1, keepdims=True)
    return 0.9 * p + 0.1 / 5 if is_bandit else p


def test_probabilities_and_entropy_are_those_of_the_network(policy):
    p = probs_in_numpy(policy)
    np.testing.assert_allclose(policy.log_probs(policy.params, STATES), np.log(p), rtol=1e-4)
    entropy = jax.jit(policy.latent.entropy)(policy.params, STATES)
    np.testing.assert_allclose(entropy, -(p * np.log(p)).sum(-1), rtol=1e-5)


NUM_SAMPLES = 9_000
MANY_STATES = np.repeat(STATES, NUM_SAMPLES // 3, axis=0)


def test_samples_are_one_hot_and_as_frequent_as_probable(policy):
    samples = np.asarray(policy.sample(policy.params, jax.random.key(1), MANY_STATES))
    np.testing.assert_array_equal((samples == 1).sum(-1), 1)
    np.testing.assert_array_equal((samples == 0).sum(-1), 4)
    frequency = samples.reshape(3, -1, 5).mean(1)
    p = probs_in_numpy(policy)
    assert (np.abs(frequency - p) < 4 * np.sqrt(p * (1 - p) / (NUM_SAMPLES // 3))).all()


def test_the_key_decides_the_sample_also_under_vmap(policy):
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.tree.map(lambda x: jnp.stack([x, 3 * x, -x]), policy.params)
    batched = jax.vmap(policy.sample, in_axes=(0, 0, None))(params, keys, MANY_STATES)
    for i, key in enumerate(keys):
        own = jax.tree.map(lambda x, i=i: x[i], params)
        np.testing.assert_array_equal(batched[i], policy.sample(own, key, MANY_STATES))
    assert (policy.sample(policy.params, keys[1], MANY_STATES) != batched[0]).any()


@pytest.mark.parametrize(
    ("latent", "params", "z"),
    [
        (CATEGORICAL, PARAMS, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
        (GAUSSIAN, CONTINUOUS_PARAMS, [[0.5, -1.0], [2.0, 0.1]]),
        (LOGISTIC, CONTINUOUS_PARAMS, [[0.5, -1.0], [2.0, 0.1]]),
    ],
    ids=["categorical", "gaussian", "logistic"],
)
def test_gradients_agree_with_finite_differences(latent, params, z):
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.float64, params)
        states, z = jnp.array([[0.7, 0.2], [-0.3, 1.1]]), jnp.array(z)

        @jax.jit
        def both(params):
            return latent.log_prob(params, states, z), latent.entropy(params, states)

        check_grads(both, (params,), order=1, modes=["rev"])


def test_null_latent_is_empty_and_certain():
    latent, states = NullLatent(), jnp.ones((6, 3))
    sample = latent.sample({}, jax.random.key(0), states)
    assert sample.shape == (6, latent.size) == (6, 0)
    np.testing.assert_array_equal(latent.log_prob({}, states, sample), np.zeros(6))
    np.testing.assert_array_equal(latent.entropy({}, states), np.zeros(6))


@pytest.mark.parametrize(
    ("latent", "deviation"),
    [(GAUSSIAN, 1.0), (LOGISTIC, np.pi / np.sqrt(3))],
    ids=["gaussian", "logistic"],
)
def test_continuous_samples_have_the_location_and_the_scale(latent, deviation):
    states = jnp.repeat(STATES[:1], NUM_SAMPLES, axis=0)
    samples = np.asarray(jax.jit(latent.sample)(CONTINUOUS_PARAMS, jax.random.key(0), states))
    np.testing.assert_allclose(samples.mean(0), [1, -2], atol=0.2)
    np.testing.assert_allclose(samples.std(0), deviation * np.array([1, np.e]), rtol=0.05)


def test_support_of_a_discrete_z_is_every_value():
    support = CATEGORICAL.support(PARAMS, jax.random.key(0), STATES, num_draws=99)
    np.testing.assert_array_equal(support.latent, np.eye(3)[:, None].repeat(3, axis=1))
    np.testing.assert_allclose(support.probs, PROBS.T, rtol=1e-5)


@pytest.mark.parametrize(
    ("latent", "variance"), [(GAUSSIAN, 1), (LOGISTIC, np.pi**2 / 3)], ids=["gaussian", "logistic"]
)
def test_support_of_a_continuous_z_is_draws_from_the_policy_of_each_start(latent, variance):
    """At the three states the location is (1, -2), 0 and 0, the scale (1, e), 1 and 1."""
    support = latent.support(CONTINUOUS_PARAMS, jax.random.key(0), STATES, num_draws=4_000)
    assert support.latent.shape == (4_000, 3, 2)
    np.testing.assert_allclose(support.probs, np.full((4_000, 3), 1 / 4_000), rtol=1e-6)
    location = np.array([[1.0, -2.0], [0.0, 0.0], [0.0, 0.0]])
    scale = np.array([[1.0, np.e], [1.0, 1.0], [1.0, 1.0]])
    noise = (np.asarray(support.latent) - location) / scale
    np.testing.assert_allclose(noise, noise[:, :1].repeat(3, axis=1), atol=1e-4)
    np.testing.assert_allclose(noise.mean((0, 1)), 0, atol=4 * (variance / 4_000) ** 0.5)
    np.testing.assert_allclose(noise.var((0, 1)), variance, rtol=0.12)
    assert np.unique(noise[:, 0]).size > 7_900


BANDIT = BanditLatent(size=3, hidden_size=2, scale=10.0, temperature=2.0, epsilon=0.3)
BANDIT_PARAMS = {
    "params": {
        "hidden_0": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
        "hidden_1": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
        "output": {
            "kernel": jnp.array([[0.1, 0.5, -0.2], [0.0, 0.0, 0.0]]),
            "bias": jnp.array([0.0, 0.0, 0.2]),
        },
    }
}


def test_bandit_by_hand(variant):
    """At state [1, 0] the estimates are 1, 5 and 0."""
    estimates = variant(lambda s: BANDIT.estimates(BANDIT_PARAMS, s))(STATES[0])
    np.testing.assert_allclose(estimates, [1, 5, 0], atol=1e-5)
    softmax = np.exp([0.5, 2.5, 0.0]) / np.exp([0.5, 2.5, 0.0]).sum()
    log_prob = variant(lambda s: log_probs(BANDIT, BANDIT_PARAMS, s))(STATES[:1])
    np.testing.assert_allclose(np.exp(log_prob[0]), 0.7 * softmax + 0.1, rtol=1e-4)
    batch = LatentOutcome(STATES[jnp.array([0, 0])], jnp.eye(3)[:2], jnp.array([3.0, 4.0]))
    loss = variant(partial(BANDIT.loss, hyperparameters=Hyperparameters(), reference=False))
    np.testing.assert_allclose(loss(BANDIT_PARAMS, batch), (2**2 + 1**2) / 2, rtol=1e-5)


def test_bandit_loss_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        params = random_params(lambda key: BANDIT.init_params(key, 2))
        params = jax.tree.map(jnp.float64, params)
        batch = LatentOutcome(
            jnp.float64(STATES) + 0.1, jnp.eye(3, dtype=jnp.float64), jnp.array([3.0, 4.0, 5.0])
        )
        loss = jax.jit(lambda p: BANDIT.loss(p, batch, Hyperparameters(), reference=False))
        check_grads(loss, (params,), order=1, modes=["rev"])


@pytest.mark.parametrize(
    ("latent", "learnt", "discrete"),
    [
        (CATEGORICAL, True, True),
        (BANDIT, True, True),
        (GAUSSIAN, True, False),
        (UniformLatent(3), False, True),
        (NullLatent(), False, True),
    ],
    ids=lambda x: type(x).__name__,
)
def test_protocol(latent, learnt, discrete):
    assert isinstance(latent, Latent)
    assert (latent.learnt, latent.discrete) == (learnt, discrete)
    if not learnt:
        assert not jax.tree.leaves(latent.init_params(jax.random.key(0), 2))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_bandit_far_apart_leaves_no_z_impossible(epsilon):
    """Estimates of 0 and 13 at temperature 0.1: log p(z = 0) is -130, or that of epsilon."""
    bandit = BanditLatent(2, 2, 1.0, 0.1, epsilon)
    params = jax.tree.map(jnp.zeros_like, random_params(lambda key: bandit.init_params(key, 1)))
    params["params"]["output"]["bias"] = jnp.array([0.0, 13.0])
    log_prob = jax.jit(lambda params: bandit.log_prob(params, jnp.zeros((2, 1)), jnp.eye(2)))
    with np.errstate(divide="ignore"):
        expected = np.logaddexp(np.log1p(-epsilon) + np.array([-130, 0]), np.log(epsilon / 2))
    np.testing.assert_allclose(log_prob(params), expected, rtol=1e-6, atol=1e-6)
    gradients = jax.jit(jax.grad(lambda params: log_prob(params).sum()))(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
