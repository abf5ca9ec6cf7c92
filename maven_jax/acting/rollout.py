"""Whole episodes in parallel environments: one function for training and evaluation."""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from maven_jax.episodes import last_step, smallest_index
from maven_jax.errors import ConfigError
from maven_jax.functional.exploration import Behaviour
from maven_jax.functional.loops import pack, scan, scan_until
from maven_jax.networks.agents import RecurrentAgent, agent_inputs
from maven_jax.networks.layers import apply
from maven_jax.types import EnvSpec, Episodes, MarlEnv, Metrics, NetworkParams, ScalarKey


class Start(NamedTuple):
    """Environments at their first observation; every leaf has a leading axis `E`."""

    env_state: Any
    timestep: Any

    @property
    def initial_state(self) -> Float[Array, "E S"]:
        """s0, which the latent policy reads."""
        return self.timestep.observation.global_state.astype(jnp.float32)


class Rollout(NamedTuple):
    """Episodes as they were played; XLA drops what the caller does not use."""

    episodes: Episodes
    """Time-major: `T E ...`, the latent `E Z`."""
    q_values: Float[Array, "T E N A"]
    env_states: Any
    """The environments' states before every step and after the last: `T+1 E ...`; or None."""
    extras: Metrics
    """The value that each entry of `timestep.extras` had at every episode's last step: `E`."""


def env_sizes(env: Any) -> tuple[int, int, int]:
    """`num_agents`, `num_actions` and `time_limit` as Python numbers: they become shapes.

    Raises:
        ConfigError: one is missing, or no whole number of at least 1, of Python, NumPy or JAX.
    """
    if isinstance(env, type):
        raise ConfigError(
            f"environment is the class {env.__name__}; allowed: an object, {env.__name__}(...)"
        )

    def whole(attribute: str) -> int:
        name = type(env).__name__
        if not hasattr(env, attribute):
            raise ConfigError(f"environment {name} has no {attribute}; see maven_jax.types.MarlEnv")
        value = getattr(env, attribute)
        try:
            size = 0 if np.asarray(value).dtype == bool else operator.index(value)
        except TypeError:
            size = 0
        if size < 1:
            raise ConfigError(
                f"{attribute} of environment {name} is {value!r}; allowed: a whole number of at "
                "least 1"
            )
        return size

    return whole("num_agents"), whole("num_actions"), whole("time_limit")


def env_spec(env: Any) -> EnvSpec:
    """The environment's sizes, read off its first steps without running them.

    Raises:
        ConfigError: the environment does not follow `MarlEnv`.
    """
    num_agents, num_actions, time_limit = env_sizes(env)

    def first_steps(key: ScalarKey) -> tuple[Any, Any]:
        state, first = env.reset(key)
        return first, env.step(state, jnp.zeros(num_agents, jnp.int32))[1]

    name = type(env).__name__
    first, second = jax.eval_shape(first_steps, jax.eval_shape(lambda: jax.random.key(0)))
    observation = first.observation
    for field, axes in (("agents_view", 2), ("action_mask", 2), ("global_state", 1)):
        if not hasattr(observation, field):
            raise ConfigError(f"observations of environment {name} have no {field}")
        if getattr(observation, field).ndim != axes:
            shape = getattr(observation, field).shape
            raise ConfigError(
                f"{field} of environment {name} has shape {shape}; allowed: {axes} axes"
            )
    for field, shape, allowed in (
        ("reward", second.reward.shape, ()),
        ("discount", second.discount.shape, ()),
        ("action_mask", observation.action_mask.shape, (num_agents, num_actions)),
    ):
        if shape != allowed:
            raise ConfigError(
                f"{field} of environment {name} has shape {shape}; allowed: {allowed}"
            )
    return EnvSpec(
        num_agents=num_agents,
        num_actions=num_actions,
        view_size=observation.agents_view.shape[-1],
        state_size=observation.global_state.shape[-1],
        time_limit=time_limit,
    )


def start_episodes(env: MarlEnv, key: ScalarKey, num_envs: int) -> Start:
    """Resets `num_envs` environments."""
    return Start(*jax.vmap(env.reset)(jax.random.split(key, num_envs)))


class _Slot(NamedTuple):
    """What is recorded of one step; every leaf has a leading axis `E`, and `T E` of an episode."""

    agents_view: Array
    action_mask: Array
    """Zeros once what follows an episode's end has been shown."""
    global_state: Array
    actions: Array
    reward: Array
    discount: Array
    mask: Array


class Acting(NamedTuple):
    """What agents carry from step to step."""

    hidden: Float[Array, "E N H"]
    last_action: Int[Array, "E N"]
    """`NO_ACTION` before the first."""


NO_ACTION = -1
"""Its one-hot form is zeros."""


def initial_acting(agent: RecurrentAgent, num_envs: int, num_agents: int) -> Acting:
    """What agents carry into an episode's first step."""
    return Acting(
        agent.initial_carry(num_envs, num_agents),
        jnp.full((num_envs, num_agents), NO_ACTION, jnp.int32),
    )


def act(
    agent: RecurrentAgent,
    params: NetworkParams,
    key: ScalarKey,
    carried: Acting,
    observation: Any,
    head_weights: Float[Array, "E N A H"] | None,
    behaviour: Behaviour,
) -> tuple[Acting, Float[Array, "E N A"], Int[Array, "E N"]]:
    """One decision of all agents: what they carry on, their utilities, and their actions.

    `head_weights` are those of their z, from `RecurrentAgent.head_weights`.
    """
    view = observation.agents_view.astype(jnp.float32)
    last_action = jax.nn.one_hot(carried.last_action, agent.num_actions, dtype=view.dtype)
    inputs = agent_inputs(view, last_action)
    hidden, q_values = apply(agent, params, carried.hidden, inputs, head_weights, method="step")
    actions = behaviour(key, q_values, observation.action_mask).astype(jnp.int32)
    return Acting(hidden, actions), q_values, actions


def rollout(
    env: MarlEnv,
    agent: RecurrentAgent,
    params: NetworkParams,
    key: ScalarKey,
    start: Start,
    latent: Float[Array, "E Z"],
    behaviour: Behaviour,
    *,
    stop_early: bool = False,
) -> Rollout:
    """Plays every started environment to its end, or to the time limit.

    Args:
        env: its `step` is vmapped; it may be stepped on after its end, which is masked away.
        agent: the utility network of `params`.
        params: the agent's weights.
        key: for the behaviour's draws.
        start: from `start_episodes`.
        latent: z of each environment, fixed for the episode.
        behaviour: how utilities become actions.
        stop_early: compute no step after the last of all episodes, those of other lanes of a `vmap`
            included, has ended. The same episodes; utilities after that are zeros, and there are no
            `env_states`. Without reverse-mode gradients.

    Returns:
        Time-major episodes, with the utilities they were played by.
    """
    num_envs = latent.shape[0]
    num_agents, num_actions, time_limit = env_sizes(env)
    head_weights = apply(agent, params, latent, num_agents, method="head_weights")

    def step(carry, step_key):
        # `idle`: 0 while the episode continues, 1 where its last state is shown, more after it.
        before, observation, acting, idle = carry
        acting, q_values, actions = act(
            agent, params, step_key, acting, observation, head_weights, behaviour
        )
        env_state, timestep = jax.vmap(env.step)(before, actions)
        taken = actions.astype(smallest_index(num_actions))
        view, action_mask, global_state = _shown(observation)
        # The action mask is masked here: XLA's compiler for GPUs (of jax 0.10) fails where a
        # softmax of utilities is fused with doing so afterwards.
        legal = keep(idle <= 1, action_mask)
        active = idle == 0
        slot = _Slot(view, legal, global_state, taken, timestep.reward, timestep.discount, active)
        idle = jnp.where(active & ~timestep.last(), 0, idle + 1)
        state = None if stop_early else before
        further = state, q_values, timestep.extras or {}
        return (env_state, timestep.observation, acting, idle), (pack(slot), further)

    first = start.timestep.observation
    acting = initial_acting(agent, num_envs, num_agents)
    idle = jnp.zeros(num_envs, jnp.int32)
    carry = start.env_state, first, acting, idle
    step_keys = jax.random.split(key, time_limit)
    if stop_early:
        carry, history = scan_until(lambda carry: (carry[-1] > 1).all(), step, carry, step_keys)
    else:
        carry, history = scan(step, carry, step_keys)
    end, observation, _, idle = carry
    packed, (states, q_values, extras) = history
    slots = packed.rows()
    states = append(states, None if stop_early else end)
    at_end = last_step(slots.mask)
    extras = {name: keep(at_end, value).sum(0) for name, value in extras.items()}
    return Rollout(_episodes(slots, observation, idle, latent), q_values, states, extras)


def _episodes(
    slots: _Slot, last: Any, idle: Int[Array, "E"], latent: Float[Array, "E Z"]
) -> Episodes:
    """Slots and the observation after the last of them; zeros after an episode's end."""
    mask = slots.mask
    seen = jnp.concatenate([jnp.ones_like(mask[:1]), mask])
    view, last_mask, global_state = _shown(last)
    view, action_mask, global_state = append(
        (slots.agents_view, slots.action_mask, slots.global_state),
        (view, keep(idle <= 1, last_mask), global_state),
    )
    return Episodes(
        agents_view=keep(seen, view),
        action_mask=action_mask,
        global_state=keep(seen, global_state),
        actions=keep(mask, slots.actions.astype(jnp.int32)),
        reward=keep(mask, slots.reward.astype(jnp.float32)),
        discount=keep(mask, slots.discount.astype(jnp.float32)),
        mask=mask,
        latent=latent,
    )


def append(rows: Any, last: Any) -> Any:
    """A tree of arrays, each with one more entry of its leading axis."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, last)


def _shown(observation: Any) -> tuple[Array, Array, Array]:
    return observation.agents_view, observation.action_mask, observation.global_state


def keep(mask: Array, x: Array) -> Array:
    """`x` where the mask, of its leading axes, is true; zero elsewhere."""
    return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x, jnp.zeros_like(x))
