"""What adapters change of views and states so that they stay within a few units."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from maven_jax.envs.adapters import LevelBasedForaging, MpeSpread, Smax

BOUND = 10
SMAX_STOP = 4
SMAX_UNIT = ("health", "x", "y", "cooldown", *["type"] * 6)
"""Features of a unit in JaxMARL's world state; a team and a type of each unit follow them all."""


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

    state, _ = env.reset(jax.random.key(0))
    _, seen = jax.jit(lambda state: jax.lax.scan(step, state, length=150))(state)
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

    state, _ = env.reset(jax.random.key(0))
    _, rows = jax.jit(lambda state: jax.lax.scan(step, state, length=60))(state)
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
