"""Wraps JAX environments that have a dictionary entry for each agent, such as JaxMARL's.

    env = Wrapped(jaxmarl.make("MPE_simple_speaker_listener_v4"), time_limit=25)
    env = Wrapped(jaxmarl.make("overcooked", max_steps=401), time_limit=400)
    hanabi = jaxmarl.make("hanabi")
    env = Wrapped(hanabi, time_limit=80, legal_actions=hanabi.get_legal_moves)

If the environment has a time limit of its own, it must be longer than `time_limit`: the wrapper
cannot tell it from a termination.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jumanji.types import StepType, TimeStep


class State(NamedTuple):
    """The wrapped environment's state, the key of its draws, and the steps taken."""

    env_state: Any
    key: jax.Array
    step_count: jax.Array


class Observation(NamedTuple):
    """What `maven_jax.types.Observation` asks for; the global state is all views side by side."""

    agents_view: jax.Array
    action_mask: jax.Array
    global_state: jax.Array


class Wrapped:
    """Pads agents of different sizes: observations with zeros, actions with illegal ones."""

    def __init__(self, env, time_limit, legal_actions=None):
        self.env, self.time_limit, self.legal_actions = env, time_limit, legal_actions
        self.num_agents = len(env.agents)
        sizes = jnp.array([env.action_space(agent).n for agent in env.agents])
        self.num_actions = int(sizes.max())
        self.allowed = jnp.arange(self.num_actions) < sizes[:, None]

    def reset(self, key):
        """Starts an episode; all its random numbers derive from `key`."""
        key, reset_key = jax.random.split(key)
        views, env_state = self.env.reset(reset_key)
        state = State(_strong(env_state), key, jnp.int32(0))
        return state, self._timestep(state, views, StepType.FIRST, 0.0, False)

    def step(self, state, action):
        """The team's reward is the sum of the agents'."""
        key, step_key = jax.random.split(state.key)
        actions = dict(zip(self.env.agents, action, strict=True))
        views, env_state, rewards, dones, _ = self.env.step_env(step_key, state.env_state, actions)
        state = State(_strong(env_state), key, state.step_count + 1)
        last = dones["__all__"] | (state.step_count >= self.time_limit)
        step_type = jnp.where(last, StepType.LAST, StepType.MID)
        reward = sum(rewards[agent] for agent in self.env.agents)
        return state, self._timestep(state, views, step_type, reward, dones["__all__"])

    def _timestep(self, state, views, step_type, reward, ended):
        views = self._stacked(views)
        legal = self.allowed
        if self.legal_actions is not None:
            legal = self._stacked(self.legal_actions(state.env_state)).astype(bool)
        return TimeStep(
            step_type=step_type,
            reward=jnp.asarray(reward, jnp.float32),
            discount=1.0 - jnp.asarray(ended, jnp.float32),  # 0 at a true end alone
            observation=Observation(views, legal, views.ravel()),
            extras={},
        )

    def _stacked(self, of_agents):
        flat = [of_agents[agent].ravel() for agent in self.env.agents]
        longest = max(len(x) for x in flat)
        return jnp.stack([jnp.pad(x, (0, longest - len(x))) for x in flat])


def _strong(tree):
    """Removes weak types, which Python numbers cause and which make JAX trace `step` twice."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), tree)
