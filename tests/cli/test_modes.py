"""JAX's modes: 64-bit types change no type of a run, and NaN checking stops no healthy one."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_envs import OPTIONS
from small_experiments import FORMS, form_config, small_config

from maven_jax.environments.registry import ENVIRONMENTS
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.experiments.sweep import compile_sweep, run_sweep, seed_keys
from maven_jax.studies.matrix_games import Lane, make_fit
from maven_jax.training.train import make_train, make_trainer

pytestmark = pytest.mark.slow


def wide_leaves(tree):
    """The names of those of 64 bits, apart from keys and the replay's own counters."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path) for path, x in leaves if x.dtype.itemsize == 8]
    return [name for name in names if "current_index" not in name and not name.endswith(".key")]


def traced(config, make_env):
    """State and metrics after a chunk in 64-bit mode, by tracing alone."""
    with jax.enable_x64(True):
        trainer = make_trainer(config, make_env())
        hyperparameters = jax.tree.map(np.float64, config.hyperparameters)
        state = jax.eval_shape(trainer.init, jax.random.key(0), hyperparameters)
        after, metrics = jax.eval_shape(trainer.chunk, state, hyperparameters)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    return after, metrics


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_form_widens_a_type_in_64_bit_mode(form):
    config = form_config(form, updates_per_evaluation=1)
    assert wide_leaves(traced(config, partial(MStepMatrixGame, m=2))) == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_environment_widens_a_type_in_64_bit_mode(name):
    """With VDN: what an environment's types reach is acting and the replay."""
    config = small_config("vdn", total_env_steps=1000, updates_per_evaluation=1)
    make_env = partial(ENVIRONMENTS[name], **OPTIONS.get(name, {}))
    assert wide_leaves(traced(config, make_env)) == []


@pytest.mark.parametrize("algorithm", ["qmix", "qtran"])
def test_fits_of_one_step_games_stay_narrow_in_64_bit_mode(algorithm):
    config = small_config(algorithm)
    with jax.enable_x64(True):
        fit = make_fit(config, MatrixGame(), num_steps=2)
        lane = Lane(jax.random.key(0), jnp.zeros((3, 3), jnp.float32), jnp.array(True))
        hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
        learnt = jax.eval_shape(fit, lane, hyperparameters)
    assert learnt.joint_values.dtype == jnp.float32


@pytest.fixture
def strict():
    """64-bit types, and an error at the first NaN that a compiled function returns."""
    with jax.enable_x64(True), jax.debug_nans(True):
        yield


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("algorithm", ["qmix", "maven_qtran"])
def test_a_whole_run(algorithm):
    """One that ends before its last row."""
    config = small_config(algorithm, total_env_steps=20, updates_per_evaluation=3)
    train = jax.jit(make_train(config, MStepMatrixGame(m=2)))
    state, metrics = train(jax.random.key(0), config.hyperparameters)
    assert metrics["env_steps"][-1] == metrics["env_steps"][-2] == state.env_steps >= 20
    assert not state.diverged
    assert wide_leaves((state, metrics)) == []
    chex.assert_tree_all_finite((state.params, metrics))


@pytest.mark.usefixtures("strict")
def test_a_sweep():
    """Of MAVEN, whose state and metrics stay narrow, too."""
    config = small_config("maven", total_env_steps=20, updates_per_evaluation=3)
    sweep = compile_sweep(make_trainer(config, MStepMatrixGame(m=2)), 2)
    *_, last = run_sweep(sweep, seed_keys(0, 2), config.hyperparameters)
    assert (last.metrics["env_steps"] >= 20).all()
    assert not last.diverged.any()
    assert wide_leaves((last.state, last.metrics)) == []
    chex.assert_tree_all_finite((last.state.params, last.metrics))
