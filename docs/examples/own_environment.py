"""A custom environment: two agents on a row of cells, who are paid 1 when they meet."""

from collections import namedtuple

import jax
import jax.numpy as jnp
from jumanji.types import StepType, TimeStep

import maven_jax

Observation = namedtuple("Observation", "agents_view action_mask global_state")  # [N O] [N A] [S]


class Rendezvous:
    """Ends when the agents meet (discount 0), or at the time limit (discount 1)."""

    num_agents, num_actions, time_limit, length = 2, 3, 8, 7  # actions: left, stay, right

    def reset(self, key):
        state = jax.random.randint(key, (2,), 0, self.length), jnp.int32(0)
        return state, self._timestep(state, jnp.array(False))

    def step(self, state, action):
        cells = jnp.clip(state[0] + action - 1, 0, self.length - 1)
        return (cells, state[1] + 1), self._timestep((cells, state[1] + 1), cells[0] == cells[1])

    def _timestep(self, state, met):
        cells, steps = state
        views = jax.nn.one_hot(cells, self.length, dtype=jnp.int8)  # each agent sees its own cell
        mask = jnp.stack([cells > 0, jnp.ones(2, bool), cells < self.length - 1], axis=1)
        last = jnp.where(met | (steps == self.time_limit), StepType.LAST, StepType.MID)
        kind, pay = jnp.where(steps == 0, StepType.FIRST, last), jnp.float32(met)
        seen, info = Observation(views, mask, views.ravel()), {"met": pay}
        return TimeStep(step_type=kind, reward=pay, discount=1 - pay, observation=seen, extras=info)


if __name__ == "__main__":
    assert maven_jax.check_env(Rendezvous()) == []
    print(maven_jax.train("vdn", env=Rendezvous(), seeds=2, overrides="smoke").frame().tail())
