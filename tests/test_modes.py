"""JAX's modes: 64-bit types change no type of a run, and NaN checking stops no healthy one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments import FORMS, form_config, small_config
from small_envs import OPTIONS

from maven_jax.config import from_dict
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.environments import ENVIRONMENTS
from maven_jax.sweep import compile_sweep, run_sweep, seed_keys
from maven_jax.train import make_train, make_trainer


def types(config, env, hyperparameters=None):
    """What a chunk leaves of state and metrics: shapes and types, by tracing alone."""
    trainer = make_trainer(config, env)
    hyperparameters = hyperparameters or config.hyperparameters
    state = jax.eval_shape(trainer.init, jax.random.key(0), hyperparameters)
    after, metrics = jax.eval_shape(trainer.chunk, state, hyperparameters)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    without_rings = after._replace(replay=after.replay.experience, latent_replay=None)
    return jax.tree.map(lambda x: (x.shape, x.dtype), (without_rings, metrics))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_type_is_wider_in_64_bit_mode(form):
    config, env = form_config(form), MStepMatrixGame(m=3)
    usual = types(config, env)
    with jax.enable_x64(True):
        assert types(config, env) == usual
        for wide in (np.float64, jnp.asarray):  # numbers of NumPy, and arrays of 64 bits
            assert types(config, env, jax.tree.map(wide, config.hyperparameters)) == usual


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_environment_widens_a_type_in_64_bit_mode(name):
    config = small_config("maven", total_env_steps=1000)
    env = ENVIRONMENTS[name](**OPTIONS.get(name, {}))
    usual = types(config, env)
    with jax.enable_x64(True):
        assert types(config, env) == usual
