"""Rows of slots filled with one episode after another, in parallel environments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from maven_jax.acting.rollout import (
    Acting,
    Start,
    act,
    append,
    env_sizes,
    initial_acting,
    keep,
    start_episodes,
)
from maven_jax.episodes import from_start, smallest_index, start_index
from maven_jax.functional.exploration import Behaviour
from maven_jax.functional.loops import pack, scan
from maven_jax.networks.agents import RecurrentAgent
from maven_jax.networks.layers import apply
from maven_jax.types import Episodes, LatentOutcome, MarlEnv, NetworkParams, ScalarKey

SampleLatent = Callable[[ScalarKey, Float[Array, "E S"]], Float[Array, "E Z"]]
"""From a key and first states to the z of the episodes that begin there."""


class PlayedRows(NamedTuple):
    """Rows as they were played, time-major."""

    episodes: Episodes
    """`T E ...`, z at every slot."""
    ended: Bool[Array, "T E"]
    """The last step of each episode that came to its own end, a true one or its time limit."""
    counted: Bool[Array, "T E"]
    """Those that enter averages: they began where one of full length still fitted. Of later ones
    only the short ones end within the row, which would bias the mean."""
    returns: Float[Array, "T E"]
    """What its episode has returned after each step, undiscounted."""


class _Slot(NamedTuple):
    """What is there when a slot begins; every leaf has a leading axis `E`."""

    env_state: Any
    observation: Any
    acting: Acting
    latent: Float[Array, "E Z"]
    returned: Float[Array, "E"]
    steps: Int[Array, "E"]
    """Taken since its episode began: 0 in an episode's first slot."""
    over: Bool[Array, "E"]
    """The episode ended with the step before: this is its last slot."""


def play_rows(
    env: MarlEnv,
    agent: RecurrentAgent,
    params: NetworkParams,
    key: ScalarKey,
    sample_latent: SampleLatent,
    behaviour: Behaviour,
    num_envs: int,
    num_slots: int,
) -> PlayedRows:
    """Plays `num_envs` rows of `num_slots` slots without a pause.

    Each slot is a step or, after an episode's last one, its end, where the environment is reset and
    z drawn anew. An episode ends where the environment says so, or at its time limit. The one that
    a row's end cuts off is not gone on with.

    Args:
        env: its `reset` and `step` are vmapped. Both, and a fresh z, are computed at every slot.
        agent: the utility network of `params`.
        params: the agent's weights.
        key: of all draws.
        sample_latent: draws z where episodes begin.
        behaviour: how utilities become actions.
        num_envs: how many rows.
        num_slots: `T + 1` of each; more than the time limit, so that an episode always fits.
    """
    num_agents, num_actions, time_limit = env_sizes(env)

    def begin(reset_key: ScalarKey, latent_key: ScalarKey) -> _Slot:
        start = start_episodes(env, reset_key, num_envs)
        latent = sample_latent(latent_key, start.initial_state)
        return _first_slot(start, initial_acting(agent, num_envs, num_agents), latent)

    def step(slot: _Slot, keys: Array) -> tuple[_Slot, Any]:
        act_key, reset_key, latent_key = keys
        head_weights = apply(agent, params, slot.latent, num_agents, method="head_weights")
        acting, _, actions = act(
            agent, params, act_key, slot.acting, slot.observation, head_weights, behaviour
        )
        env_state, timestep = jax.vmap(env.step)(slot.env_state, actions)
        taken = ~slot.over
        reward = keep(taken, timestep.reward.astype(jnp.float32))
        steps = slot.steps + 1
        ended = taken & (timestep.last() | (steps == time_limit))
        stepped = _Slot(
            env_state=env_state,
            observation=timestep.observation,
            acting=acting,
            latent=slot.latent,
            returned=slot.returned + reward,
            steps=steps,
            over=ended,
        )
        fresh = begin(reset_key, latent_key)
        following = jax.tree.map(lambda new, old: _choose(slot.over, new, old), fresh, stepped)
        done = (
            keep(taken, actions).astype(smallest_index(num_actions)),
            reward,
            keep(taken, timestep.discount.astype(jnp.float32)),
            taken,
            ended,
            stepped.returned,
        )
        return following, pack((_shown(slot), done))

    start_key, latent_key, step_key = jax.random.split(key, 3)
    step_keys = jax.random.split(step_key, (num_slots - 1, 3))
    end, packed = scan(step, begin(start_key, latent_key), step_keys)
    shown, done = packed.rows()
    view, action_mask, global_state, latent, first = append(shown, _shown(end))
    actions, reward, discount, mask, ended, returns = done
    actions = actions.astype(jnp.int32)
    episodes = Episodes(
        view, action_mask, global_state, actions, reward, discount, mask, latent, first
    )
    counted = ended & (start_index(first[:-1]) < num_slots - time_limit)
    return PlayedRows(episodes, ended, counted, returns)


def _first_slot(start: Start, acting: Acting, latent: Float[Array, "E Z"]) -> _Slot:
    """Where an episode begins in every row."""
    num_envs = len(latent)
    return _Slot(
        env_state=start.env_state,
        observation=start.timestep.observation,
        acting=acting,
        latent=latent,
        returned=jnp.zeros(num_envs, jnp.float32),
        steps=jnp.zeros(num_envs, jnp.int32),
        over=jnp.zeros(num_envs, bool),
    )


def row_outcomes(played: PlayedRows) -> tuple[LatentOutcome, Bool[Array, "K"]]:
    """What the latent policy learns from rows: `K = T E` entries, and which of them are outcomes.

    Those are the episodes that are `counted`, in the order of their ends.
    """
    episodes = played.episodes
    assert episodes.first is not None
    first = episodes.first[:-1]
    states = from_start(episodes.global_state[:-1], first).astype(jnp.float32)
    outcomes = LatentOutcome(states, episodes.latent[:-1], played.returns)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (outcomes, played.counted))


def _shown(slot: _Slot) -> tuple[Array, Array, Array, Array, Array]:
    seen = slot.observation
    return seen.agents_view, seen.action_mask, seen.global_state, slot.latent, slot.steps == 0


def _choose(flag: Bool[Array, "E"], new: Array, old: Array) -> Array:
    return jnp.where(flag.reshape(-1, *[1] * (new.ndim - 1)), new, old)
