"""What JAX traces where it refuses to mix types or ranks that the code does not name.

`test_every_form_trains` does so with every algorithm.
"""

import chex
import jax
import pytest
from small_envs import small_env
from small_experiments import form_config

from maven_jax.envs import MStepMatrixGame
from maven_jax.functional.exploration import boltzmann_policy, epsilon_greedy
from maven_jax.training.train import make_train

ROWS = {"row_slots": 8, "num_envs": 2}
EVERY_LAYER = {
    "latent_head": "residual",
    "layer_norm": True,
    "hidden_layers": 2,
    "mixer_hypernet_size": 3,
    "mixer_skip_connections": True,
}
FORMS = {
    "qmix": {
        "algorithm": "qmix",
        "training": {"normalize_targets": True, "updates_per_round": 5} | ROWS,
        "network": {"mixer_hypernet_size": 3},
    },
    "maven": {"network": EVERY_LAYER, "training": {"bootstrap_at_limit": False} | ROWS},
    "maven_qtran": {
        "algorithm": "maven_qtran",
        "latent": {"kind": "logistic"},
        "training": {"bootstrap_at_limit": False},
        "exploration": {"kind": "boltzmann"},
    },
}
"""Rows, layers and settings that no other form has."""


@pytest.fixture(autouse=True)
def refused():
    """JAX refuses to promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_training_names_every_promotion(form):
    config = form_config(form)
    train = make_train(config, MStepMatrixGame(m=2))
    state, metrics = jax.eval_shape(train, jax.random.key(0), config.hyperparameters)
    assert state.env_steps.dtype == "int32"
    assert metrics["return"].dtype == "float32"
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jax.numpy.dtype("float32")}


@pytest.mark.parametrize("name", ["connector", "cleaner", "level_based_foraging", "mpe_spread"])
def test_adapters_are_traced_whatever_the_environments_promote(name):
    env = small_env(name)
    state, timestep = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.num_agents,), "int32")
    after, following = jax.eval_shape(env.step, state, action)
    chex.assert_trees_all_equal_shapes_and_dtypes((after, following), (state, timestep))


def test_exploration_of_half_precision_names_every_promotion():
    q_values, mask = jax.numpy.zeros((2, 3), "bfloat16"), jax.numpy.ones((2, 3), bool)
    temperature = jax.numpy.float32(0.1)
    policy = jax.eval_shape(boltzmann_policy, q_values, mask, temperature)
    assert policy.dtype == "bfloat16"
    actions = jax.eval_shape(epsilon_greedy, jax.random.key(0), q_values, mask, temperature)
    assert actions.shape == (2,)
