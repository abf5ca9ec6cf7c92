"""Episodes as they are played: what is recorded of them, and what follows their end."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params
from jumanji.types import restart, termination, transition, truncation

from maven_jax.acting.rollout import env_spec, rollout, start_episodes
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters.types import Observation
from maven_jax.functional.exploration import epsilon_greedy
from maven_jax.networks.agents import RecurrentAgent, episode_inputs
from maven_jax.types import EnvSpec

NUM_ENVS = 12


class Play:
    """An environment, an agent with random weights, and the compiled rollout of the two."""

    def __init__(self, env):
        self.env = env
        self.agent = RecurrentAgent(8, env.num_actions, latent_head="additive")
        self.latent = np.eye(3, dtype=np.float32)[np.arange(NUM_ENVS) % 3]
        self.params = random_params(lambda key: self.agent.init_params(key, env_spec(env), 3))

        @partial(jax.jit, static_argnames="stop_early")
        def play(params, key, latent, epsilon, stop_early):
            start_key, key = jax.random.split(key)
            start = start_episodes(env, start_key, NUM_ENVS)
            behaviour = partial(epsilon_greedy, epsilon=epsilon)
            agent = self.agent, params
            return rollout(env, *agent, key, start, latent, behaviour, stop_early=stop_early)

        self.compiled = play

    def __call__(self, epsilon, seed=1, stop_early=False):
        key = jax.random.key(seed)
        return jax.device_get(self.compiled(self.params, key, self.latent, epsilon, stop_early))


@pytest.fixture(scope="module")
def game():
    return Play(MStepMatrixGame(m=4, good_branches=4))


@pytest.fixture(scope="module")
def played(game):
    """Random play with early and late ends."""
    played = game(epsilon=1.0)
    assert set(played.episodes.mask.sum(0)) >= {2, 3, 4}
    return played


def test_an_environment_has_its_sizes_and_starts_at_its_first_state(game):
    spec = EnvSpec(num_agents=2, num_actions=2, view_size=9, state_size=9, time_limit=4)
    assert env_spec(game.env) == spec
    start = jax.jit(lambda key: start_episodes(game.env, key, 3))(jax.random.key(0))
    _, timestep = jax.jit(game.env.reset)(jax.random.key(0))
    np.testing.assert_array_equal(start.initial_state, [timestep.observation.global_state] * 3)


def test_after_the_end_everything_is_zero(played):
    episodes = played.episodes
    mask = episodes.mask
    assert mask.shape == (4, NUM_ENVS)
    assert mask[0].all()
    assert (mask[1:] <= mask[:-1]).all()
    for after in (episodes.actions, episodes.reward, episodes.discount):
        assert not after[~mask].any()
    seen = np.concatenate([np.ones((1, NUM_ENVS), bool), mask])
    for after in (episodes.agents_view, episodes.action_mask, episodes.global_state):
        assert not after[~seen].any()
        assert after[seen].any()
    goes_on = np.concatenate([mask[1:], np.zeros((1, NUM_ENVS), bool)])
    np.testing.assert_array_equal(episodes.discount, goes_on)


def check_state(states, t, e, expected):
    """Those before every step and after the last are kept."""
    assert states.branch[t, e] == expected.branch
    assert states.step_count[t, e] == expected.step_count


def test_episodes_replay_step_by_step(game, played):
    """The game is deterministic: taken again, the same actions show the same."""
    reset, step = jax.jit(game.env.reset), jax.jit(game.env.step)
    for e in range(NUM_ENVS):
        episode = jax.tree.map(lambda x, e=e: x[:, e], played.episodes._replace(latent=None))
        state, timestep = reset(jax.random.key(0))
        length = episode.mask.sum()
        for t in range(length):
            check_state(played.env_states, t, e, state)
            for name in ("agents_view", "action_mask", "global_state"):
                recorded = getattr(episode, name)[t]
                np.testing.assert_array_equal(recorded, getattr(timestep.observation, name))
            state, timestep = step(state, episode.actions[t])
            assert episode.reward[t] == timestep.reward
            assert timestep.last() == (t == length - 1)
        check_state(played.env_states, length, e, state)
        final = timestep.observation.global_state
        np.testing.assert_array_equal(episode.global_state[length], final)
        for name, value in timestep.extras.items():
            assert played.extras[name][e] == value


def test_the_key_decides_and_parallel_episodes_differ(game, played):
    chex.assert_trees_all_equal(game(epsilon=1.0), played)
    assert (game(epsilon=1.0, seed=0).episodes.actions != played.episodes.actions).any()
    assert np.unique(played.episodes.actions, axis=1).shape[1] > 4


def test_utilities_are_those_of_unrolling_the_episode_with_its_z(game, played):
    episodes, mask = played.episodes, played.episodes.mask
    np.testing.assert_array_equal(episodes.latent, game.latent)

    @jax.jit
    def unroll(params, views, actions, latent):
        inputs = episode_inputs(views, actions, game.env.num_actions)
        return game.agent.apply(params, inputs, latent, method="unroll")

    q_values = unroll(game.params, episodes.agents_view, episodes.actions, game.latent)
    expected = np.asarray(q_values)[:-1]
    np.testing.assert_allclose(played.q_values[mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_epsilon_zero_plays_the_best_utility(game):
    played = game(epsilon=0.0)
    mask = played.episodes.mask
    np.testing.assert_array_equal(played.episodes.actions[mask], played.q_values.argmax(-1)[mask])
    chex.assert_trees_all_equal(game(epsilon=0.0, seed=0).episodes, played.episodes)


class Count:
    """Counts steps and is cut by its time limit; agent i may not take action (t + i) % 3."""

    num_agents, num_actions, time_limit = 2, 3, 5

    def observe(self, count):
        forbidden = (count + jnp.arange(2)) % 3
        view = count[None].astype(jnp.float32)
        return Observation(jnp.stack([view, view]), jnp.arange(3) != forbidden[:, None], view)

    def reset(self, key):
        count = jnp.int32(0)
        return count, restart(self.observe(count))

    def step(self, count, action):
        reward, count = action.sum().astype(jnp.float32), count + 1
        at_limit, seen = count == self.time_limit, self.observe(count)
        return count, jax.lax.cond(at_limit, truncation, transition, reward, seen)


@pytest.fixture(scope="module")
def count():
    return Play(Count())


def test_a_time_limit_is_no_end(count):
    played = count(epsilon=1.0)
    assert played.extras == {}
    episodes = played.episodes
    np.testing.assert_array_equal(episodes.mask, np.ones((5, NUM_ENVS), bool))
    np.testing.assert_array_equal(episodes.discount, np.ones((5, NUM_ENVS)))
    expected = np.broadcast_to(np.arange(6.0)[:, None, None], (6, NUM_ENVS, 1))
    np.testing.assert_array_equal(episodes.global_state, expected)
    np.testing.assert_array_equal(episodes.reward, episodes.actions.sum(-1))


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_masked_actions_are_never_taken(count, epsilon):
    played = count(epsilon)
    forbidden = (np.arange(5)[:, None, None] + np.arange(2)) % 3
    assert (played.q_values.argmax(-1) == forbidden).any(), "the mask forbids no best action"
    assert (played.episodes.actions != forbidden).all()


class LongCount(Count):
    """The same, but it ends truly after the first joint action of (0, 0); else at a far limit."""

    time_limit = 40

    def step(self, count, action):
        count, timestep = super().step(count, action)
        ended = termination(timestep.reward, timestep.observation)
        return count, jax.lax.cond((action == 0).all(), lambda: ended, lambda: timestep)


def test_an_early_stop_changes_no_episode():
    """But for utilities that nobody played by, and states that are not kept."""
    play = Play(LongCount())
    for seed in range(3):
        whole, early = play(1.0, seed), play(1.0, seed, stop_early=True)
        chex.assert_trees_all_equal(whole.episodes, early.episodes)
        mask = whole.episodes.mask
        assert mask.sum() < 40 * NUM_ENVS
        np.testing.assert_array_equal(whole.q_values[mask], early.q_values[mask])
        over = np.flatnonzero(~mask.any(1))[1:]
        assert not early.q_values[over].any()
        assert early.env_states is None
