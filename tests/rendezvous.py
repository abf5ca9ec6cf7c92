"""A small environment that the tests change: two agents on a line who must meet."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jumanji.types import StepType, TimeStep

LENGTH = 7


class State(NamedTuple):
    """Where both agents are, int32 `[2]`, and how many steps they have taken."""

    position: jax.Array
    step_count: jax.Array


class Observation(NamedTuple):
    """What `maven_jax.types.Observation` asks for."""

    agents_view: jax.Array  # int8 [2, LENGTH]: each sees where it is itself
    action_mask: jax.Array  # bool [2, 3]: left, stay, right
    global_state: jax.Array  # int8 [2 * LENGTH]: where both are


class Rendezvous:
    """Both agents on one cell pay 1 and end the episode; the time limit only cuts it."""

    num_agents = 2
    num_actions = 3
    time_limit = 8

    def reset(self, key):
        """Both start anywhere."""
        state = State(jax.random.randint(key, (2,), 0, LENGTH), jnp.int32(0))
        return state, self._timestep(state, StepType.FIRST, reward=0.0, met=False)

    def step(self, state, action):
        """Moves both by -1, 0 or 1."""
        position = jnp.clip(state.position + action - 1, 0, LENGTH - 1)
        state = State(position, state.step_count + 1)
        met = position[0] == position[1]
        last = met | (state.step_count >= self.time_limit)
        step_type = jnp.where(last, StepType.LAST, StepType.MID)
        return state, self._timestep(state, step_type, reward=met, met=met)

    def _timestep(self, state, step_type, reward, met):
        view = jax.nn.one_hot(state.position, LENGTH, dtype=jnp.int8)
        at_edge = jnp.stack([state.position == 0, state.position == LENGTH - 1])
        mask = jnp.stack([~at_edge[0], jnp.ones(2, bool), ~at_edge[1]], axis=1)
        return TimeStep(
            step_type=step_type,
            reward=jnp.asarray(reward, jnp.float32),
            discount=1.0 - jnp.asarray(met, jnp.float32),  # 0 at a true end alone
            observation=Observation(view, mask, view.ravel()),
            extras={"met": jnp.asarray(met, jnp.float32)},
        )
