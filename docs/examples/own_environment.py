"""A custom environment: two agents on a row of cells, who are paid 1 when they meet."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jumanji.types import StepType, TimeStep

import maven_jax


class Observation(NamedTuple):
    """What the agents and the mixer see."""

    agents_view: jax.Array  # [N, O]: each agent sees its own cell
    action_mask: jax.Array  # bool [N, A]: left, stay, right
    global_state: jax.Array  # [S]: the cells of both


class Rendezvous:
    """An episode ends when both agents are in one cell, or after 8 steps."""

    num_agents, num_actions, time_limit = 2, 3, 8

    def __init__(self, length: int = 7):
        self.length = length

    def reset(self, key):
        state = (jax.random.randint(key, (2,), 0, self.length), jnp.int32(0))
        return state, self._timestep(state, jnp.array(False))

    def step(self, state, action):
        cells = jnp.clip(state[0] + action - 1, 0, self.length - 1)
        state = (cells, state[1] + 1)
        return state, self._timestep(state, cells[0] == cells[1])

    def _timestep(self, state, met):
        cells, steps = state
        views = jax.nn.one_hot(cells, self.length, dtype=jnp.int8)
        mask = jnp.stack([cells > 0, jnp.ones(2, bool), cells < self.length - 1], axis=1)
        last = jnp.where(met | (steps == self.time_limit), StepType.LAST, StepType.MID)
        return TimeStep(
            step_type=jnp.where(steps == 0, StepType.FIRST, last),
            reward=jnp.float32(met),
            discount=1 - jnp.float32(met),  # 0 where the episode terminates, 1 at the time limit
            observation=Observation(views, mask, views.ravel()),
            extras={"met": jnp.float32(met)},
        )


if __name__ == "__main__":
    assert maven_jax.check_env(Rendezvous()) == []
    results = maven_jax.train("vdn", env=Rendezvous(), seeds=2, overrides="smoke")
    print(results.frame()[["seed", "env_steps", "extras/met"]].tail())
