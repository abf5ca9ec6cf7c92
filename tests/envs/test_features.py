"""What networks read stays within a few units for whole episodes: views and states."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_envs import OPTIONS, small_env

from maven_jax.acting.random_play import random_episode
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.envs.adapters import LevelBasedForaging, MpeSpread, Smax

BOUND = 10
SMAX_STOP = 4
SMAX_UNIT = ("health", "x", "y", "cooldown", *["type"] * 6)
"""Features of a unit in JaxMARL's world state; a team and a type of each unit follow them all."""


def every_observation(env, num_episodes):
    """Views and states that random play sees, `[E T ...]`; zeros after an episode's end."""

    def read(carried, step):
        after = step.timestep.observation
        seen = step.observation.global_state, after.global_state, after.agents_view
        return carried, jax.tree.map(lambda x: jnp.where(step.active, x, 0), seen)

    def play(key):
        return random_episode(env, key, lambda *_: 0, read)[1]

    keys = jax.random.split(jax.random.key(7), num_episodes)
    return jax.device_get(jax.jit(jax.vmap(play))(keys))


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        pytest.param(MStepMatrixGame(m=5), id="m_step_matrix"),
        pytest.param(MatrixGame("climbing"), id="matrix_game"),
        *[pytest.param(name, id=name) for name in sorted(OPTIONS)],
    ],
)
def test_views_and_states_of_random_play_are_within_a_few_units(env):
    env = small_env(env) if isinstance(env, str) else env
    for features in every_observation(env, num_episodes=4):
        assert np.isfinite(features).all()
        assert np.abs(features.astype(float)).max() <= BOUND


def test_high_levels_of_foraging_are_tens_and_ones():
    """Three agents of up to 33: food of up to 99."""
    env = LevelBasedForaging(num_agents=3, num_food=2, max_agent_level=33)
    plain = LevelBasedForaging(num_agents=3, num_food=2, max_agent_level=3)
    for seed in range(5):
        state, timestep = env.reset(jax.random.key(seed))
        food, agents = state.env_state.food_items, state.env_state.agents
        seen = np.asarray(timestep.observation.global_state)
        assert seen.max() <= 9
        of_food, of_agents = seen[2 * 16 :], seen[2 * 19 + 3 * 16 :]
        np.testing.assert_array_equal(10 * of_food[:2] + of_food[2:4], food.level)
        np.testing.assert_array_equal(10 * of_agents[:3] + of_agents[3:6], agents.level)
    assert plain.reset(jax.random.key(0))[1].observation.global_state.shape == (5 * 18,)


def test_positions_of_agents_that_fly_on_are_bounded_in_the_state():
    env = MpeSpread(num_agents=2, time_limit=150)

    def step(state, _):
        state, timestep = env.step(state, jnp.array([1, 2]))
        return state, timestep.observation

    _, seen = jax.jit(lambda key: jax.lax.scan(step, env.reset(key)[0], length=150))(
        jax.random.key(0)
    )
    assert np.abs(seen.agents_view).max() > 2 * BOUND
    assert np.abs(seen.global_state).max() == BOUND
    views = seen.agents_view.reshape(seen.global_state.shape)
    np.testing.assert_array_equal(seen.global_state, views.clip(-BOUND, BOUND))


def test_cooldowns_of_smax_are_clipped_and_nothing_else_is_changed():
    """3s_vs_5z, where units that stop do not shoot: JaxMARL's cooldowns fall by 0.5 a step."""
    env = Smax("3s_vs_5z", time_limit=60)

    def step(state, _):
        state, timestep = env.step(state, jnp.full(3, SMAX_STOP))
        world = env.env.get_world_state(state.env_state)
        seen = timestep.observation
        return state, (timestep.last(), world, seen.global_state, seen.agents_view)

    _, rows = jax.jit(lambda key: jax.lax.scan(step, env.reset(key)[0], length=60))(
        jax.random.key(0)
    )
    last, world, ours, views = jax.device_get(rows)
    steps = 1 + last.argmax()
    world, ours, views = world[:steps], ours[:steps], views[:steps]
    assert world.min() < -BOUND
    assert np.abs(views).max() <= 1
    units, rest = np.split(world, [8 * len(SMAX_UNIT)], axis=1)
    units = units.reshape(steps, 8, len(SMAX_UNIT)).copy()
    units[..., SMAX_UNIT.index("x")] /= 32
    units[..., SMAX_UNIT.index("y")] /= 32
    cooldowns = units[..., SMAX_UNIT.index("cooldown")]
    assert ((cooldowns > 0) & (cooldowns < 2)).any()
    units[..., SMAX_UNIT.index("cooldown")] = np.clip(cooldowns, 0, 2)
    chex.assert_trees_all_close(ours, np.concatenate([units.reshape(steps, -1), rest], 1))
    assert ours.min() >= 0
    assert ours.max() <= 5
