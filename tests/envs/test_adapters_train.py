"""Every environment trains, each in one compiled program; all others of the pairs are traced."""

from itertools import product

import chex
import jax
import jax.numpy as jnp
import pytest
from small_envs import OPTIONS

from maven_jax import from_dict, make_train
from maven_jax.environments import make_env

ALGORITHMS = ("iql", "vdn", "qmix", "qmix_unconstrained", "qtran", "maven")
NAMES = sorted(OPTIONS)
COMPILED = {(name, "maven") for name in NAMES} | set(zip(NAMES, ALGORITHMS, strict=True))
"""MAVEN has all that the others have, but for their mixers, of which each is compiled once."""


def config_of(name, algorithm, **training):
    return from_dict(
        {
            "algorithm": algorithm,
            "env": {"name": name, "options": OPTIONS[name] | {"time_limit": 6}},
            "network": {"hidden_size": 8, "mixer_embed_size": 4},
            "latent": {"size": 2, "hidden_size": 8, "updates": 1, "batch_size": 2},
            "discriminator": {"hidden_size": 4, "hidden_layers": 1, "recurrent_size": 4},
            "training": {
                "total_env_steps": 60,
                "batch_size": 3,
                "replay_size": 16,
                "num_envs": 2,
                "updates_per_round": 2,
                "updates_per_evaluation": 4,
            }
            | training,
            "evaluation": {"episodes": 2, "episodes_per_latent": 1},
            "hyperparameters": {"td_lambda": 0.5},
        }
    )


@pytest.mark.parametrize(("name", "algorithm"), sorted(COMPILED))
def test_a_short_run(name, algorithm):
    config = config_of(name, algorithm)
    chex.clear_trace_counter()
    train = jax.jit(chex.assert_max_traces(make_train(config, make_env(config)), 1))
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    for seed in range(2):
        state, metrics = train(jax.random.key(seed), hyperparameters)
        assert metrics["env_steps"][-1] >= 60
        chex.assert_tree_all_finite(metrics)
        chex.assert_tree_all_finite(state.params)
        assert not state.diverged


@pytest.mark.parametrize(
    ("name", "algorithm"), [x for x in product(NAMES, ALGORITHMS) if x not in COMPILED]
)
def test_a_run_is_traced(name, algorithm):
    """What differs between environments is shapes and types, and those are settled here."""
    config = config_of(name, algorithm)
    numbers = jax.tree.map(jnp.float32, config.hyperparameters)
    train = make_train(config, make_env(config))
    state, metrics = jax.eval_shape(train, jax.random.key(0), numbers)
    assert metrics["loss"].shape == metrics["return"].shape == metrics["env_steps"].shape
    assert state.params.agent
