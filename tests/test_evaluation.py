"""Evaluation of hand-made weights whose every z plays a known joint action."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.algorithms import Algorithm, make_algorithm
from maven_jax.config import Config, from_dict
from maven_jax.envs import MStepMatrixGame
from maven_jax.evaluation import evaluate, latent_behaviour
from maven_jax.rollout import env_spec
from maven_jax.types import NetworkParams, Params

HIDDEN, ACTIONS, LATENTS = 2, 2, 3
PROBS = np.array([0.5, 0.25, 0.25])


def hand_made_agent(view_size):
    """The hidden state is 1 whatever is seen; utilities depend on z, and on the agent if z = 2.

    z = 0 plays (0, 0) and z = 1 plays (1, 1) throughout, z = 2 plays (0, 1).
    """
    inputs = view_size + ACTIONS + 2
    gates = np.concatenate([np.zeros(HIDDEN), np.full(HIDDEN, -50.0), np.full(HIDDEN, 50.0)])
    preferences = np.array([[1, 0], [0, 1], [0, 0], [0.1, 0], [0, 0.1]])  # of z, then of the agent
    return {
        "params": {
            "input_layer": {"kernel": np.zeros((inputs, HIDDEN)), "bias": np.zeros(HIDDEN)},
            "gru": {
                "input_kernel": np.zeros((HIDDEN, 3 * HIDDEN)),
                "input_bias": gates,
                "hidden_kernel": np.zeros((HIDDEN, 3 * HIDDEN)),
                "hidden_bias": np.zeros(3 * HIDDEN),
            },
            "head": {
                "hypernetwork": {
                    "kernel": np.repeat(preferences, HIDDEN, axis=1),
                    "bias": np.zeros(ACTIONS * HIDDEN),
                }
            },
        }
    }


class Made(NamedTuple):
    """Hand-made weights and what they belong to."""

    config: Config
    env: MStepMatrixGame
    algorithm: Algorithm
    params: Params
    latent_params: NetworkParams


@pytest.fixture(scope="module", params=["recurrent", "feed_forward"])
def made(request):
    config = from_dict(
        {
            "network": {"hidden_size": HIDDEN},
            "latent": {"size": LATENTS, "hidden_size": 2},
            "discriminator": {"kind": request.param, "hidden_size": 4, "recurrent_size": 4},
            "evaluation": {"episodes": 400, "episodes_per_latent": 2},
        }
    )
    env = MStepMatrixGame(m=2)
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    params = Params(
        agent=jax.tree.map(jnp.float32, hand_made_agent(spec.view_size)),
        mixer={},
        discriminator=algorithm.discriminator.init_params(jax.random.key(1), spec, LATENTS),
    )
    latent_params = jax.tree.map(
        jnp.zeros_like, algorithm.latent.init_params(jax.random.key(2), spec.state_size)
    )
    latent_params["params"]["output"]["bias"] = jnp.log(jnp.float32(PROBS))
    return Made(config, env, algorithm, params, latent_params)


@pytest.fixture(scope="module")
def metrics(made):
    @jax.jit
    def run(params, latent_params, key):
        return evaluate(params, latent_params, key, 1.0, made.env, made.algorithm, made.config)

    return run(made.params, made.latent_params, jax.random.key(0))


def test_what_each_z_does(made):
    """z 0 plays (0, 0), z 1 plays (1, 1), z 2 plays (0, 1), which ends at once."""
    seen = jax.jit(
        lambda params, latent_params, key: latent_behaviour(
            params, latent_params, key, made.env, made.algorithm, made.config, 3
        )
    )(made.params, made.latent_params, jax.random.key(0))
    np.testing.assert_allclose(seen.probs, PROBS, rtol=1e-5)
    np.testing.assert_array_equal(seen.returns, [2.0, 2.0, 0.0])
    plays = [[[1, 0], [1, 0]], [[0, 1], [0, 1]], [[1, 0], [0, 1]]]
    np.testing.assert_array_equal(seen.action_share, plays)


def test_the_return_of_each_z(metrics):
    np.testing.assert_array_equal(metrics["return_z"], [2.0, 2.0, 0.0])
    np.testing.assert_allclose(metrics["return_uniform"], 4 / 3, rtol=1e-6)


def test_z_is_drawn_from_the_latent_policy(metrics):
    """400 episodes: a share is within four standard deviations, 0.1, of its probability."""
    np.testing.assert_allclose(metrics["latent_probs"], PROBS, rtol=1e-5)
    np.testing.assert_allclose(metrics["extras/branch_0"], PROBS[0], atol=0.1)
    np.testing.assert_allclose(metrics["extras/branch_3"], PROBS[1], atol=0.1)
    shares = metrics["extras/branch_0"] + metrics["extras/branch_3"]
    np.testing.assert_allclose(metrics["return"], 2 * shares, rtol=1e-5)


def test_information_is_the_entropy_where_every_z_acts_on_its_own(metrics):
    entropy = -(PROBS * np.log(PROBS)).sum()
    np.testing.assert_allclose(metrics["latent_entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["action_information"], entropy, rtol=1e-5)


def test_the_bound_of_an_untrained_discriminator_is_below(metrics):
    assert np.isfinite(metrics["mi_bound_test"])
    assert metrics["mi_bound_test"] < metrics["action_information"] - 0.1
