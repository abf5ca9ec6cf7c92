from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params

from maven_jax.episodes import last_step
from maven_jax.networks.discriminators import (
    FeedForwardDiscriminator,
    GaussianHead,
    RecurrentDiscriminator,
    feature_size,
    trajectory_features,
)
from maven_jax.types import EnvSpec

SPEC = EnvSpec(num_agents=2, num_actions=3, view_size=4, state_size=5, time_limit=6)
LATENT_SIZE, TIME = 4, 6
LENGTHS = np.array([6, 2, 4, 1])
MASK = np.arange(TIME)[:, None] < LENGTHS
BATCH = len(LENGTHS)
LATENT = np.eye(LATENT_SIZE, dtype=np.float32)[[3, 0, 0, 1]]
FEATURES = np.float32(np.random.default_rng(0).normal(size=(TIME, BATCH, feature_size(SPEC))))


class Compiled:
    """A discriminator with random weights, compiled: features, mask and z to its `Posterior`."""

    def __init__(self, discriminator):
        self.params = random_params(lambda key: discriminator.init_params(key, SPEC, LATENT_SIZE))
        self.apply = jax.jit(discriminator.apply)

    def __call__(self, features, mask=MASK, latent=LATENT):
        return jax.device_get(self.apply(self.params, features, mask, latent))

    def spoken(self, features, mask=MASK, latent=LATENT):
        """The one log-probability of each episode of a recurrent discriminator."""
        posterior = self(features, mask, latent)
        np.testing.assert_array_equal(posterior.weight.sum(0), 1)
        return posterior.log_prob.sum(0)

    def read(self, features):
        """Which features [T, B] move the expected log-probability."""

        def expected_log_prob(features):
            log_prob, weight = self.apply(self.params, features, MASK, LATENT)
            return (log_prob * weight).sum()

        return np.any(jax.jit(jax.grad(expected_log_prob))(features), axis=-1)


@cache
def compiled(kind):
    return Compiled(
        {
            "feed_forward": FeedForwardDiscriminator(hidden_size=7, hidden_layers=2),
            "recurrent": RecurrentDiscriminator(7, hidden_layers=1, recurrent_size=6),
            "reference": RecurrentDiscriminator(7, 0, recurrent_size=6, reference=True),
        }[kind]
    )


def test_trajectory_features_by_hand():
    policies = jnp.array([0.25, 0.75, 1.0, 0.0]).reshape(1, 1, 2, 2)
    features = trajectory_features(policies, jnp.array([[[7.0, 8.0, 9.0]]]))
    np.testing.assert_array_equal(features, [[[0.25, 0.75, 1, 0, 7, 8, 9]]])
    assert feature_size(EnvSpec(2, 2, view_size=4, state_size=3, time_limit=6)) == 7


def test_last_step():
    mask = np.arange(3)[:, None] < np.array([3, 1, 2, 0])
    expected = [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(last_step(jnp.asarray(mask)), np.array(expected, bool))


@pytest.mark.parametrize("kind", ["feed_forward", "recurrent", "reference"])
def test_probabilities_of_all_latents_sum_to_one(kind):
    alike, mask = (np.repeat(x[:, 2:3], LATENT_SIZE, axis=1) for x in (FEATURES, MASK))
    log_prob, weight = compiled(kind)(alike, mask, np.eye(LATENT_SIZE, dtype=np.float32))
    log_prob = log_prob[weight[:, 0] > 0]
    np.testing.assert_allclose(np.exp(log_prob).sum(-1), 1, rtol=1e-5)
    assert (np.ptp(log_prob, axis=-1) > 0.1).all()


def test_feed_forward_reads_each_step_alone_and_weighs_it_by_the_mask():
    feed_forward = compiled("feed_forward")
    posterior = feed_forward(FEATURES)
    assert posterior.log_prob.shape == (TIME, BATCH)
    np.testing.assert_array_equal(posterior.weight, MASK)
    changed = FEATURES.copy()
    changed[3, 2] += 1
    differs = posterior.log_prob != feed_forward(changed).log_prob
    assert np.argwhere(differs).tolist() == [[3, 2]]
    np.testing.assert_array_equal(feed_forward.read(FEATURES), MASK)


def test_recurrent_reads_up_to_the_last_step_of_each_episode_and_speaks_there():
    recurrent = compiled("recurrent")
    posterior = recurrent(FEATURES)
    assert posterior.log_prob.shape == (TIME, BATCH)
    np.testing.assert_array_equal(posterior.weight, np.arange(TIME)[:, None] == LENGTHS - 1)
    assert not posterior.log_prob[posterior.weight == 0].any()
    before = recurrent.spoken(FEATURES)
    padding = np.where(MASK[..., None], FEATURES, 99.0)
    np.testing.assert_array_equal(recurrent.spoken(padding), before)
    np.testing.assert_array_equal(recurrent.read(FEATURES), MASK)
    part = np.s_[: LENGTHS[2], 2:3]
    alone = recurrent.spoken(FEATURES[part], MASK[part], LATENT[2:3])
    np.testing.assert_allclose(alone[0], before[2], rtol=1e-5)


def test_reference_reads_every_episode_at_the_end_of_the_longest():
    reference = compiled("reference")
    mask = MASK & (np.arange(TIME)[:, None] < 4)
    before = reference.spoken(FEATURES, mask)
    for t, is_read in [(3, True), (4, False)]:
        changed = FEATURES.copy()
        changed[t] += 1
        differs = reference.spoken(changed, mask) != before
        np.testing.assert_array_equal(differs, [is_read] * BATCH)
    assert reference.read(FEATURES).all()  # padding too


@pytest.mark.parametrize(
    "discriminator",
    [
        FeedForwardDiscriminator(7, 1, discrete=False),
        RecurrentDiscriminator(7, 1, recurrent_size=6, discrete=False),
    ],
    ids=["feed_forward", "recurrent"],
)
def test_gaussian_heads_are_densities(discriminator):
    """Of a one-dimensional z: integrated on a fine grid, the density is 1."""
    params = random_params(lambda key: discriminator.init_params(key, SPEC, 1))
    params = jax.tree.map(lambda x: 0.1 * x, params)
    grid = np.linspace(-30, 30, 6001, dtype=np.float32)
    episode = jnp.asarray(FEATURES[:, :1]), jnp.asarray(MASK[:, :1])

    @jax.jit
    @jax.vmap
    def log_prob(z):
        posterior = discriminator.apply(params, *episode, z[None, None])
        return posterior.log_prob[LENGTHS[0] - 1, 0]

    np.testing.assert_allclose(np.exp(log_prob(grid)).sum() * (grid[1] - grid[0]), 1, rtol=1e-3)


def test_gaussian_head_by_hand(variant):
    """Features 2 and -1: location 2, log scale -1; log N(3; 2, 1/e)."""
    linear = {"kernel": jnp.array([[1.0], [0.0]]), "bias": jnp.zeros(1)}
    log_scale = {"kernel": jnp.array([[0.0], [1.0]]), "bias": jnp.zeros(1)}
    params = {"params": {"location": linear, "log_scale": log_scale}}
    head = variant(lambda f, z: GaussianHead(1, 0).apply(params, f, z))
    expected = -0.5 * np.e**2 + 1 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(head(jnp.array([2.0, -1.0]), jnp.array([3.0])), expected, rtol=1e-5)
