"""What a sweep holds, counted by hand, and what is free."""

import jax
import jax.numpy as jnp
import psutil

from maven_jax.config import load_config
from maven_jax.environments import complete, make_env
from maven_jax.memory import Memory, format_bytes, free_bytes, state_memory
from maven_jax.train import make_trainer
from maven_jax.types import TrainState


def test_bytes_are_counted_by_hand():
    state = TrainState(
        params={"a": jnp.zeros((2, 3))},  # 24
        target_params={"a": jnp.zeros(4, jnp.int8)},  # 4
        opt_state=(),
        latent_params={},
        latent_opt_state=(),
        replay=jnp.zeros((5, 2), bool),  # 10
        latent_replay=jnp.zeros(2),  # 8
        key=jax.random.key(0),  # 8
        num_updates=jnp.int32(0),  # 4
        env_steps=jnp.int32(0),  # 4
        diverged=jnp.array(False),  # 1
    )
    assert state_memory(state) == Memory(replay=18, weights=45)
    assert Memory(replay=18, weights=45, scratch=100, checkpoint=63).total == 226


def test_one_seed_of_the_paper_takes_less_than_four_megabytes():
    config = complete(load_config("maven"))
    trainer = make_trainer(config, make_env(config))
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    assert state_memory(state).total < 4e6
    stored = state.replay.experience
    assert (stored.actions.dtype, stored.mask.dtype, stored.action_mask.dtype) == (
        jnp.int8,
        jnp.bool_,
        jnp.bool_,
    )


def test_a_cpu_has_no_more_free_than_the_machine():
    free = free_bytes(jax.devices("cpu"))
    assert 0 < free <= psutil.virtual_memory().total


def test_bytes_as_text():
    assert format_bytes(1_500_000) == "1.5 MB"
    assert format_bytes(2_340_000_000) == "2.3 GB"
