"""Random play: an episode of uniform legal actions, and what a caller reads of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maven_jax.acting.rollout import env_sizes
from maven_jax.functional.exploration import epsilon_greedy
from maven_jax.types import ScalarKey


class RandomStep(NamedTuple):
    """One step of an environment."""

    state: Any
    observation: Any
    """What the agents saw before they acted."""
    active: jax.Array
    """Whether the episode had not ended before."""
    actions: jax.Array
    """`N`, legal wherever one is."""
    next_state: Any
    timestep: Any


def random_episode(
    env: Any,
    key: ScalarKey,
    begin: Callable[[ScalarKey, Any, Any], Any],
    read: Callable[[Any, RandomStep], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """Plays an episode of random legal actions, to the time limit, and reads every step.

    Args:
        env: follows `maven_jax.types.MarlEnv`; it is stepped on after its end.
        key: of the reset and of all actions.
        begin: from the reset's key, the first state and the first timestep to what is carried.
        read: from what is carried and a step to what is carried on, and a row.

    Returns:
        What was carried last, and the rows, with a leading axis of steps.
    """
    reset_key, act_key = jax.random.split(key)
    state, first = env.reset(reset_key)

    def step(carry: Any, key: ScalarKey) -> Any:
        state, observation, active, carried = carry
        mask = observation.action_mask
        actions = epsilon_greedy(key, jnp.zeros(mask.shape), mask, 1.0)
        next_state, timestep = env.step(state, actions)
        seen = RandomStep(state, observation, active, actions, next_state, timestep)
        carried, row = read(carried, seen)
        return (next_state, timestep.observation, active & ~timestep.last(), carried), row

    carry = (state, first.observation, jnp.array(True), begin(reset_key, state, first))
    keys = jax.random.split(act_key, env_sizes(env)[2])
    (*_, carried), rows = jax.lax.scan(step, carry, keys)
    return carried, rows
