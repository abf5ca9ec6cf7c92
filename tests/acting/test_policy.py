"""Agents a step at a time: the same actions as a whole episode's, alone, in a batch and jitted."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params
from small_envs import Sides
from small_experiments import small_config

from maven_jax.acting.policy import Carry, Policy
from maven_jax.acting.rollout import env_spec, rollout, start_episodes
from maven_jax.algorithms.table import make_algorithm
from maven_jax.envs import MStepMatrixGame
from maven_jax.functional.exploration import act_greedily

NUM_ENVS = 3


class Team(NamedTuple):
    """A policy of random weights, and where it plays."""

    policy: Policy
    env: object


def make_policy(algorithm, env, seed) -> Policy:
    parts = make_algorithm(small_config(algorithm), env_spec(env))
    params = random_params(
        lambda key: parts.agent.init_params(key, env_spec(env), parts.latent.size), seed
    )
    latent_params = random_params(
        lambda key: parts.latent.init_params(key, env_spec(env).state_size), seed
    )
    return Policy(parts.agent, parts.latent, env.num_agents, params, latent_params)


@pytest.fixture(scope="module", params=[("maven", "game"), ("qmix", "sides")])
def team(request):
    algorithm, env = request.param
    env = {"game": MStepMatrixGame(m=4), "sides": Sides()}[env]
    return Team(make_policy(algorithm, env, 0), env)


def played(team, start, z):
    """Actions `[T, E, N]` and mask `[T, E]` of whole episodes."""
    agent, params = team.policy.agent, team.policy.params
    play = jax.jit(lambda: rollout(team.env, agent, params, key(1), start, z, act_greedily))
    episodes = play().episodes
    return episodes.actions, episodes.mask


def key(seed):
    return jax.random.key(seed)


def starts(team):
    start = start_episodes(team.env, key(0), NUM_ENVS)
    return start, jax.random.split(key(2), NUM_ENVS)


def test_every_step_is_that_of_a_whole_episode(team):
    start, keys = starts(team)
    of_env = [jax.tree.map(lambda x, e=e: x[e], start) for e in range(NUM_ENVS)]
    carries = [
        team.policy.reset(own, one.timestep.observation)
        for own, one in zip(keys, of_env, strict=True)
    ]
    z = jnp.stack([carry.latent for carry in carries])
    actions, mask = played(team, start, z)
    assert mask[0].all()
    next_step = jax.jit(team.env.step)
    for env, (carry, (state, timestep)) in enumerate(zip(carries, of_env, strict=True)):
        for step in range(int(mask[:, env].sum())):
            action, carry = team.policy.act(carry, timestep.observation)
            np.testing.assert_array_equal(action, actions[step, env])
            np.testing.assert_array_equal(carry.last_action, action)
            np.testing.assert_array_equal(carry.latent, z[env])
            state, timestep = next_step(state, action)
        assert timestep.last()


@pytest.mark.slow
def test_a_whole_batch_of_episodes_is_one_jitted_program(team):
    """`vmap` over environments within `jit` and `scan`."""

    @jax.jit
    def play(policy, start, keys):
        carry = jax.vmap(policy.reset)(keys, start.timestep.observation)

        def step(before, _):
            carry, state, observation = before
            action, carry = jax.vmap(policy.act)(carry, observation)
            state, timestep = jax.vmap(team.env.step)(state, action)
            return (carry, state, timestep.observation), action

        before = carry, start.env_state, start.timestep.observation
        return carry, jax.lax.scan(step, before, length=team.env.time_limit)[1]

    start, keys = starts(team)
    carry, found = play(team.policy, start, keys)
    actions, mask = played(team, start, carry.latent)
    np.testing.assert_array_equal(jnp.where(mask[..., None], found, 0), actions)


@pytest.mark.slow
def test_stacked_policies_act_at_once():
    env = MStepMatrixGame(m=4)
    policies = [make_policy("maven", env, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *policies)
    observation = env.reset(key(0))[1].observation
    both = jax.vmap(Policy.reset, in_axes=(0, None, None))(stacked, key(1), observation)
    actions, both = jax.vmap(Policy.act, in_axes=(0, 0, None))(stacked, both, observation)
    for index, policy in enumerate(policies):
        action, carry = policy.act(policy.reset(key(1), observation), observation)
        np.testing.assert_array_equal(actions[index], action)
        own = jax.tree.map(lambda x, index=index: x[index], both)
        chex.assert_trees_all_close(own, carry, rtol=1e-5, atol=1e-6)
    assert not np.allclose(both.hidden[0], both.hidden[1])


def test_another_z_can_be_played():
    """One-hot, drawn by the key; the carry takes any."""
    env = MStepMatrixGame(m=4)
    policy = make_policy("maven", env, 0)
    observation = env.reset(key(0))[1].observation
    carry = policy.reset(key(1), observation)
    assert isinstance(carry, Carry)
    assert sorted(carry.latent.tolist()) == [0.0, 0.0, 1.0]
    after = [policy.act(carry._replace(latent=z), observation)[0] for z in jnp.eye(3)]
    assert len({tuple(action.tolist()) for action in after}) > 1
