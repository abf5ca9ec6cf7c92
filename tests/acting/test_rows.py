"""Rows as they are played: episodes end to end, and what the learner makes of them."""

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params

from maven_jax.acting.rollout import env_spec
from maven_jax.acting.rows import play_rows, row_outcomes
from maven_jax.envs import MStepMatrixGame
from maven_jax.functional.exploration import act_greedily, epsilon_greedy
from maven_jax.networks.agents import RecurrentAgent, episode_inputs

ENV = MStepMatrixGame(m=4, good_branches=4)
"""Random play ends after 2, 3 or 4 steps."""
ROWS, SLOTS, LATENTS = 6, 23, 3
AGENT = RecurrentAgent(8, ENV.num_actions, latent_head="additive")
PARAMS = random_params(lambda key: AGENT.init_params(key, env_spec(ENV), LATENTS))


def draw(key, initial_state):
    return jax.nn.one_hot(jax.random.randint(key, initial_state.shape[:1], 0, LATENTS), LATENTS)


@partial(jax.jit, static_argnames=("behaviour", "slots"))
def play(key, behaviour, slots=SLOTS):
    return play_rows(ENV, AGENT, PARAMS, key, draw, behaviour, ROWS, slots)


random_actions = partial(epsilon_greedy, epsilon=1.0)


@pytest.fixture(scope="module")
def played():
    return jax.device_get(play(jax.random.key(0), random_actions))


class Span(NamedTuple):
    """An episode of a row, and its last slot."""

    row: int
    start: int
    end: int


def spans(played) -> list[Span]:
    """Every episode that has a step."""
    found, slots = [], len(played.episodes.first)
    for row in range(ROWS):
        starts = [*np.flatnonzero(played.episodes.first[:, row]), slots]
        found += [Span(row, a, b - 1) for a, b in pairwise(starts) if a < slots - 1]
    return found


def test_every_slot_is_a_step_or_an_end(played):
    episodes, latent = played.episodes, played.episodes.latent
    assert episodes.first.shape == (SLOTS, ROWS)
    assert episodes.first[0].all()
    for row, start, end in spans(played):
        assert episodes.mask[start:end, row].all()
        assert (latent[start : end + 1, row] == latent[start, row]).all()
        if end < SLOTS - 1:
            assert not episodes.mask[end, row]
    assert {end - start for _, start, end in spans(played)} >= {2, 3, 4}
    for values in (episodes.actions, episodes.reward, episodes.discount):
        assert not values[~episodes.mask].any()
    drawn = [latent[start, row].argmax() for row, start, _ in spans(played)]
    assert np.bincount(drawn, minlength=LATENTS).min() > 0, "z is drawn anew for every episode"


def test_an_episode_is_the_one_that_its_actions_lead_to(played):
    """The game has no draws of its own: taken again, the same actions show the same."""
    reset, step, same = jax.jit(ENV.reset), jax.jit(ENV.step), np.testing.assert_array_equal
    episodes = played.episodes
    for row, start, end in spans(played):
        state, timestep = reset(jax.random.key(7))
        returned = 0.0
        for slot in range(start, end):
            seen = timestep.observation
            same(episodes.agents_view[slot, row], seen.agents_view)
            same(episodes.global_state[slot, row], seen.global_state)
            state, timestep = step(state, episodes.actions[slot, row])
            returned += timestep.reward
            assert episodes.reward[slot, row] == timestep.reward
            assert episodes.discount[slot, row] == timestep.discount
            assert played.returns[slot, row] == pytest.approx(returned)
            assert played.ended[slot, row] == timestep.last()
        same(episodes.global_state[end, row], timestep.observation.global_state)
        same(episodes.action_mask[end, row], timestep.observation.action_mask)


@pytest.mark.parametrize("slots", [9, SLOTS])
def test_outcomes_are_of_episodes_that_had_room_for_a_time_limit(slots):
    played = jax.device_get(play(jax.random.key(0), random_actions, slots))
    outcomes, counted = jax.device_get(jax.jit(row_outcomes)(played))
    fits = slots - 1 - ENV.time_limit
    ended = [x for x in spans(played) if x.start <= fits]
    assert counted.sum() == len(ended) < len(spans(played))
    assert all(played.ended[x.end - 1, x.row] for x in ended)
    ended.sort(key=lambda x: (x.end, x.row))
    for index, (row, start, end) in zip(np.flatnonzero(counted), ended, strict=True):
        episodes = played.episodes
        rewards = episodes.reward[start:end, row]
        assert outcomes.episode_return[index] == pytest.approx(rewards.sum())
        assert (outcomes.initial_state[index] == episodes.global_state[start, row]).all()
        assert (outcomes.latent[index] == episodes.latent[start, row]).all()


def test_outcomes_are_no_shorter_than_episodes_are():
    """Of all that ends within its row too many are short: the longer are cut."""
    keys = jax.random.split(jax.random.key(11), 400)
    played = jax.device_get(jax.vmap(lambda key: play(key, random_actions, 9))(keys))
    episodes = played.episodes
    alone = (episodes.mask[:, : ENV.time_limit].cumprod(1)).sum(1).mean()
    slot = np.arange(8)[:, None]
    start = np.maximum.accumulate(np.where(episodes.first[:, :-1], slot, 0), 1)
    length = slot - start + 1
    assert length[played.counted].mean() == pytest.approx(alone, rel=0.01)
    assert length[played.ended].mean() < 0.98 * alone


class Endless(MStepMatrixGame):
    """Never says that an episode is over."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        on = jnp.ones_like(timestep.discount)
        return state, timestep.replace(discount=on, step_type=jnp.ones_like(timestep.step_type))


def test_an_episode_ends_at_the_time_limit_whatever_the_environment_says():
    env = Endless(m=4, good_branches=4)
    play = partial(play_rows, env, AGENT, PARAMS, sample_latent=draw, behaviour=random_actions)
    played = jax.jit(lambda key: play(key=key, num_envs=2, num_slots=13))(jax.random.key(0))
    assert np.array_equal(np.flatnonzero(played.episodes.first[:, 0]), [0, 5, 10])
    assert np.array_equal(np.flatnonzero(played.ended[:, 0]), [3, 8])
    assert np.array_equal(np.flatnonzero(played.counted[:, 0]), [3, 8])


def test_a_cut_episode_is_one_that_goes_on(played):
    cut = [x for x in spans(played) if not played.ended[x.end - 1, x.row]]
    assert cut
    for row, _, end in cut:
        assert end == SLOTS - 1
        assert played.episodes.discount[end - 1, row] == 1


def test_an_episode_may_end_in_the_last_slot():
    slots = 2 * (ENV.time_limit + 1)
    keys = jax.random.split(jax.random.key(3), 20)
    at_the_end = jax.vmap(lambda key: play(key, random_actions, slots).ended[-1])(keys)
    assert at_the_end.any()
    assert not at_the_end.all()


def test_what_agents_act_by_is_what_is_learnt_from():
    """Greedy actions of the utilities along rows are those that were taken greedily."""
    played = play(jax.random.key(1), act_greedily)
    episodes = played.episodes
    inputs = episode_inputs(episodes.agents_view, episodes.actions, ENV.num_actions, episodes.first)
    q_values = AGENT.apply(PARAMS, inputs, episodes.latent, episodes.first, method="unroll")
    best = jnp.where(episodes.action_mask, q_values, -jnp.inf).argmax(-1)
    np.testing.assert_array_equal(best[:-1][episodes.mask], episodes.actions[episodes.mask])
    assert len(np.unique(np.asarray(episodes.actions[episodes.mask]), axis=0)) > 1


def test_rows_are_a_function_of_their_key(played):
    again, other = (jax.device_get(play(jax.random.key(seed), random_actions)) for seed in (0, 1))
    chex.assert_trees_all_equal(again, played)
    assert (other.episodes.actions != played.episodes.actions).any()
