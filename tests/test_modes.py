"""JAX's modes: 64-bit types change no type of a run, and NaN checking stops no healthy one."""

from functools import partial

import chex
import jax
import numpy as np
import pytest
from experiments import FORMS, form_config, small_config
from small_envs import OPTIONS

from maven_jax.environments import ENVIRONMENTS
from maven_jax.envs import MStepMatrixGame
from maven_jax.train import make_trainer


def wide_leaves(config, make_env):
    """What of state and metrics has 64 bits in 64-bit mode, by tracing alone."""
    with jax.enable_x64(True):
        trainer = make_trainer(config, make_env())
        hyperparameters = jax.tree.map(np.float64, config.hyperparameters)
        state = jax.eval_shape(trainer.init, jax.random.key(0), hyperparameters)
        after, metrics = jax.eval_shape(trainer.chunk, state, hyperparameters)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    leaves = jax.tree_util.tree_leaves_with_path((after, metrics))
    names = [jax.tree_util.keystr(path) for path, x in leaves if x.dtype.itemsize == 8]
    return [name for name in names if "current_index" not in name and not name.endswith(".key")]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_type_is_wider_in_64_bit_mode(form):
    config = form_config(form, updates_per_evaluation=1)
    assert wide_leaves(config, partial(MStepMatrixGame, m=2)) == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_environment_widens_a_type_in_64_bit_mode(name):
    config = small_config("maven", total_env_steps=1000, updates_per_evaluation=1)
    assert wide_leaves(config, partial(ENVIRONMENTS[name], **OPTIONS.get(name, {}))) == []
