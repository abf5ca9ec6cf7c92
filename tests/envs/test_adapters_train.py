"""Every environment trains, each in one compiled program; with other parts it is traced."""

import chex
import jax
import jax.numpy as jnp
import pytest
from small_envs import OPTIONS

from maven_jax import from_dict, make_train, make_trainer, override
from maven_jax.environments.registry import make_env
from maven_jax.envs.adapters import MpeSpread

pytestmark = pytest.mark.slow

NAMES = sorted(OPTIONS)


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


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run(name):
    config = config_of(name, "qmix")
    chex.clear_trace_counter()
    train = jax.jit(chex.assert_max_traces(make_train(config, make_env(config)), 1))
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    for seed in range(2):
        state, metrics = train(jax.random.key(seed), hyperparameters)
        assert metrics["env_steps"][-1] >= 60
        chex.assert_tree_all_finite(metrics)
        chex.assert_tree_all_finite(state.params)
        assert not state.diverged


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_critic_and_a_latent_is_traced(name):
    """What differs between environments is shapes and types, and those are settled here."""
    config = config_of(name, "maven_qtran")
    trainer = make_trainer(config, make_env(config))
    numbers = jax.tree.map(jnp.float32, config.hyperparameters)
    state = jax.eval_shape(trainer.init, jax.random.key(0), numbers)
    after, metrics = jax.eval_shape(trainer.chunk, state, numbers)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert metrics["loss"].shape == metrics["return"].shape == metrics["env_steps"].shape
    assert state.params.agent


class Counting(MpeSpread):
    """Counts how often its steps are traced."""

    traced = 0

    def _advance(self, *rest):
        self.traced += 1
        return super()._advance(*rest)


def test_a_step_is_traced_once_for_all_that_play():
    """Training and test episodes, before and after the first update, of all trainers."""
    configs = [config_of("mpe_spread", algorithm, num_envs=3) for algorithm in ("vdn", "qmix")]
    assert make_env(configs[0]) is make_env(configs[1])
    longer = override(configs[0], {"env": {"options": {"time_limit": 9}}})
    assert make_env(longer) is not make_env(configs[0])
    env = Counting(num_agents=2, time_limit=9)
    for config in configs:
        trainer = make_trainer(config, env)
        numbers = jax.tree.map(jnp.float32, config.hyperparameters)
        state = jax.eval_shape(trainer.init, jax.random.key(0), numbers)
        jax.eval_shape(trainer.chunk, state, numbers)
    assert env.traced == 1
