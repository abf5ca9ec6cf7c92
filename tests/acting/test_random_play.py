"""Random play, read step by step."""

import jax
import jax.numpy as jnp
import numpy as np

from maven_jax.acting.random_play import random_episode
from maven_jax.envs import MatrixGame, MStepMatrixGame


def test_an_episode_is_read_from_its_first_step_to_the_time_limit():
    env = MStepMatrixGame(m=4)

    def begin(reset_key, state, first):
        same = jax.random.key_data(state.key) == jax.random.key_data(reset_key)
        return jnp.where(same.all(), 0.0, jnp.nan)

    def read(total, step):
        legal = jnp.take_along_axis(step.observation.action_mask, step.actions[:, None], 1).all()
        reward = step.active * step.timestep.reward
        return total + reward, (step.active, legal, reward, step.timestep.last())

    play = jax.jit(jax.vmap(lambda key: random_episode(env, key, begin, read)))
    total, (active, legal, reward, last) = play(jax.random.split(jax.random.key(0), 200))
    assert active.shape == (200, 4)
    assert legal.all()
    np.testing.assert_allclose(total, reward.sum(1))
    lengths = np.asarray(active).sum(1)
    assert set(lengths) == {1, 2, 3, 4}, "half of the joint actions end the game at once"
    assert np.asarray(last)[np.arange(200), lengths - 1].all()
    assert not np.asarray(last)[lengths > 1, 0].any()


def test_each_joint_action_comes_as_often_as_another():
    env = MatrixGame("qtran")

    def read(carry, step):
        return carry, step.actions

    keys = jax.random.split(jax.random.key(1), 3600)
    play = jax.vmap(lambda key: random_episode(env, key, lambda *_: None, read))
    _, actions = jax.jit(play)(keys)
    counts = np.bincount(np.asarray(actions)[:, 0] @ np.array([3, 1]), minlength=9)
    assert counts.sum() == 3600
    assert abs(counts - 400).max() < 80  # four standard deviations
