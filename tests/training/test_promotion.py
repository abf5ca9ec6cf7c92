"""Training is traced where JAX refuses to mix types or ranks that the code does not name."""

import chex
import jax
import pytest
from small_envs import small_env

from maven_jax.config import from_dict
from maven_jax.envs import MStepMatrixGame
from maven_jax.functional.exploration import boltzmann_policy, epsilon_greedy
from maven_jax.training.train import make_train

SMALL = {
    "network": {"hidden_size": 3, "mixer_embed_size": 2},
    "training": {
        "batch_size": 2,
        "replay_size": 4,
        "updates_per_evaluation": 2,
        "total_env_steps": 100,
    },
    "evaluation": {"episodes": 2, "episodes_per_latent": 2, "latent_draws": 2},
}
LATENT = {"size": 3, "hidden_size": 4, "batch_size": 2, "replay_size": 8, "updates": 1}
ROWS = {"row_slots": 8, "num_envs": 2}
EVERY_LAYER = {
    "latent_head": "residual",
    "layer_norm": True,
    "hidden_layers": 2,
    "mixer_hypernet_size": 3,
    "mixer_skip_connections": True,
}
CASES = {
    "iql": {"algorithm": "iql", "exploration": {"kind": "boltzmann"}},
    "vdn": {"algorithm": "vdn", "training": {"optimizer": "adam", "updates_per_round": 2}},
    "qtran": {"algorithm": "qtran", "fidelity": "reference"},
    "qmix": {
        "algorithm": "qmix",
        "training": {"optimizer": "radam", "normalize_targets": True} | ROWS,
        "network": {"mixer_hypernet_size": 3},
    },
    "categorical": {"network": EVERY_LAYER, "training": {"bootstrap_at_limit": False} | ROWS},
    "gaussian": {
        "latent": {"kind": "gaussian"},
        "discriminator": {"kind": "feed_forward", "reads": "greedy_actions", "signal": "reward"},
    },
    "logistic": {"algorithm": "maven_qtran", "latent": {"kind": "logistic"}, "training": ROWS},
    "bandit": {
        "algorithm": "maven_unconstrained",
        "latent": {"kind": "bandit"},
        "network": {"latent_head": "paired"},
        "exploration": {"kind": "team_epsilon_greedy"},
    },
    "uniform": {"latent": {"kind": "uniform"}, "fidelity": "reference"},
}


@pytest.fixture
def refused():
    """JAX refuses to promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def joined(base, changes):
    """The base with the changes of its sections."""
    sections = {name: base[name] | changes[name] for name in base.keys() & changes.keys()}
    return base | changes | sections


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_training_names_every_promotion(refused, changes):
    fields = joined(SMALL, changes)
    if changes.get("algorithm", "maven").startswith("maven"):
        small = {"hidden_size": 3, "recurrent_size": 3}
        fields = joined({"latent": LATENT, "discriminator": small}, fields)
    config = from_dict(fields)
    train = make_train(config, MStepMatrixGame(m=2))
    state, metrics = jax.eval_shape(train, jax.random.key(0), config.hyperparameters)
    assert state.env_steps.dtype == "int32"
    assert metrics["return"].dtype == "float32"
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jax.numpy.dtype("float32")}


@pytest.mark.parametrize("name", ["connector", "cleaner", "level_based_foraging", "mpe_spread"])
def test_adapters_are_traced_whatever_the_environments_promote(refused, name):
    env = small_env(name)
    state, timestep = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.num_agents,), "int32")
    after, following = jax.eval_shape(env.step, state, action)
    chex.assert_trees_all_equal_shapes_and_dtypes((after, following), (state, timestep))


def test_exploration_of_half_precision_names_every_promotion(refused):
    q_values, mask = jax.numpy.zeros((2, 3), "bfloat16"), jax.numpy.ones((2, 3), bool)
    temperature = jax.numpy.float32(0.1)
    policy = jax.eval_shape(boltzmann_policy, q_values, mask, temperature)
    assert policy.dtype == "bfloat16"
    actions = jax.eval_shape(epsilon_greedy, jax.random.key(0), q_values, mask, temperature)
    assert actions.shape == (2,)
