"""Every environment trains, each in one compiled program; with other algorithms it is traced."""

import chex
import jax
import jax.numpy as jnp
import pytest
from small_envs import OPTIONS

from maven_jax import from_dict, make_train, make_trainer, override
from maven_jax.environments.registry import ENVIRONMENTS, make_env
from maven_jax.errors import ConfigError

pytestmark = pytest.mark.slow

NAMES = sorted(OPTIONS)
OTHERS = ("vdn", "qtran", "maven")
"""Without weights of a mixer, with a critic, with a latent; what is compiled is QMIX."""


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


@pytest.mark.parametrize("algorithm", OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_traced(name, algorithm):
    """What differs between environments is shapes and types, and those are settled here."""
    config = config_of(name, algorithm)
    trainer = make_trainer(config, make_env(config))
    numbers = jax.tree.map(jnp.float32, config.hyperparameters)
    state = jax.eval_shape(trainer.init, jax.random.key(0), numbers)
    after, metrics = jax.eval_shape(trainer.chunk, state, numbers)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert metrics["loss"].shape == metrics["return"].shape == metrics["env_steps"].shape
    assert state.params.agent


def test_a_step_is_traced_once_for_all_that_play(monkeypatch):
    """Training and test episodes, before and after the first update, of all trainers."""
    first, other = (config_of("mpe_spread", algorithm, num_envs=3) for algorithm in ("vdn", "qmix"))
    first, other = (override(c, {"env": {"options": {"time_limit": 9}}}) for c in (first, other))
    env, traced = make_env(first), []
    assert make_env(other) is env
    assert make_env(config_of("mpe_spread", "vdn")) is not env
    advance = type(env)._advance
    monkeypatch.setattr(
        type(env), "_advance", lambda *rest: traced.append(rest[0]) or advance(*rest)
    )
    for config in (first, other):
        trainer = make_trainer(config, make_env(config))
        numbers = jax.tree.map(jnp.float32, config.hyperparameters)
        state = jax.eval_shape(trainer.init, jax.random.key(0), numbers)
        jax.eval_shape(trainer.chunk, state, numbers)
    assert traced == [env]


def test_options_that_have_no_hash_are_the_environment_s_to_refuse(monkeypatch):
    def make(payoff=None):
        raise ValueError(f"payoff is {payoff}; allowed: lists of numbers")

    monkeypatch.setitem(ENVIRONMENTS, "matrix_game", make)
    config = from_dict({"env": {"name": "matrix_game", "options": {"payoff": {1}}}})
    with pytest.raises(ConfigError, match=r"^env\.options: payoff is \{1\}; allowed: lists"):
        make_env(config)
