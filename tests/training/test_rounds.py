"""Acting, storing and learning, each alone."""

from itertools import pairwise
from typing import get_args, get_type_hints

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_experiments import small_config

from maven_jax.algorithms import table as algorithms
from maven_jax.config import (
    DiscriminatorConfig,
    ExplorationConfig,
    Hyperparameters,
    LatentConfig,
    TrainingConfig,
)
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import ConfigError
from maven_jax.functional import exploration
from maven_jax.learning import learner
from maven_jax.training.rounds import (
    collect,
    gradient_step,
    latent_steps,
    learn,
    make_parts,
    play_round,
    store,
)
from maven_jax.training.train import make_trainer

ENV = MStepMatrixGame(m=3)
CONFIG = small_config("maven", num_envs=4)
PARTS = make_parts(CONFIG, ENV)
NUMBERS: Hyperparameters = jax.tree.map(jnp.float32, CONFIG.hyperparameters)


@pytest.fixture(scope="module")
def state():
    return jax.jit(make_trainer(CONFIG, ENV).init)(jax.random.key(0), NUMBERS)


def same(one, other) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_collect_plays_a_round_and_changes_nothing(state):
    play = jax.jit(lambda state, key: collect(PARTS, state, key, NUMBERS))
    collected, metrics = play(state, jax.random.key(1))
    episodes = collected.episodes
    assert episodes.actions.shape == (3, 4, 2)
    assert episodes.actions.dtype == jnp.int8
    assert episodes.latent.shape == (4, 3)
    assert metrics["train_return"] == episodes.reward.sum(0).mean()
    assert 0.01 <= metrics["epsilon"] < 1
    of_seeds = jax.vmap(play, in_axes=(None, 0))(state, jax.random.split(jax.random.key(1), 5))
    assert of_seeds[0].episodes.actions.shape == (5, 3, 4, 2)


class Endless(MStepMatrixGame):
    """Every end is one by a time limit, as the game tells it."""

    def step(self, state, actions):
        state, timestep = super().step(state, actions)
        return state, timestep.replace(discount=jnp.ones_like(timestep.discount))


@pytest.mark.slow
@pytest.mark.parametrize("row_slots", [0, 9])
def test_a_time_limit_is_an_end_where_that_is_asked_for(row_slots):
    env, played = Endless(m=3), []
    for bootstrap in (True, False):
        form = {"row_slots": row_slots, "bootstrap_at_limit": bootstrap}
        config = small_config("qmix", num_envs=8, total_env_steps=200, **form)
        parts = make_parts(config, env)
        state = jax.jit(make_trainer(config, env).init)(jax.random.key(0), NUMBERS)
        play = jax.jit(lambda state, parts=parts: collect(parts, state, jax.random.key(1), NUMBERS))
        played.append(jax.device_get(play(state)[0].episodes))
    valued, ended = played
    np.testing.assert_array_equal(valued.discount, valued.mask)
    follows = np.concatenate([valued.mask[1:], np.zeros((1, 8), bool)])
    told = slice(-1) if row_slots else slice(None)  # not whether the end of a row is one
    np.testing.assert_array_equal(ended.discount[told], (valued.mask & follows)[told])
    assert ended.discount[-1].any() == (row_slots > 0), "episodes that a row's end cuts go on"
    same_but = [e._replace(discount=None) for e in played]
    chex.assert_trees_all_equal(*same_but)


def collected_and_stored(parts, state):
    """A round, its metrics, the state that has stored it, and one that rests."""

    @jax.jit
    def play(state, key):
        collected, metrics = collect(parts, state, key, NUMBERS)
        stored = (store(parts, state, collected, jnp.array(rests)) for rests in (False, True))
        return collected, metrics, *stored

    return jax.device_get(play(state, jax.random.key(1)))


def test_store_counts_steps_really_taken_unless_it_rests(state):
    collected, _, stored, rested = collected_and_stored(PARTS, state)
    episodes = collected.episodes
    assert stored.env_steps == state.env_steps + episodes.mask.sum()
    assert stored.replay.current_index == (state.replay.current_index + 4) % 16
    index = int(state.replay.current_index)
    kept = stored.replay.experience.actions[0, index : index + 4]
    assert np.array_equal(kept, np.swapaxes(episodes.actions, 0, 1))
    assert same(rested.replay, state.replay)
    assert same(rested.latent_replay, state.latent_replay)


@pytest.mark.slow
def test_a_gradient_step_moves_the_weights_and_the_target_when_it_is_due(state):
    step = jax.jit(lambda state, key: gradient_step(PARTS, state, key, NUMBERS))
    seen = [state]
    for key in jax.random.split(jax.random.key(2), 7):
        seen.append(step(seen[-1], key)[0])
    assert [int(s.num_updates) for s in seen] == list(range(8))
    assert all(not same(a.params, b.params) for a, b in pairwise(seen))
    assert all(same(s.target_params, state.target_params) for s in seen[:7])
    assert same(seen[7].target_params, seen[7].params), "every seventh step"
    assert all(same(s.latent_params, state.latent_params) for s in seen)


def test_the_target_moves_a_part_of_the_way(state):
    slowly = NUMBERS._replace(target_update_rate=jnp.float32(0.25))
    due = state._replace(num_updates=jnp.int32(6))
    due = due._replace(target_params=jax.tree.map(lambda x: np.asarray(x) + 1, state.params))
    step = jax.jit(lambda state: gradient_step(PARTS, state, jax.random.key(2), slowly))
    after, _ = step(due)
    weights = jax.device_get(after.params), due.target_params
    expected = jax.tree.map(lambda x, old: 0.25 * x + 0.75 * old, *weights)
    chex.assert_trees_all_close(after.target_params, expected, rtol=1e-6)
    assert same(step(after)[0].target_params, after.target_params), "not due"


def test_gradient_steps_shrink_with_the_learning_rate(state):
    """RMSprop's steps are in proportion to it: an eighth is left; later none is."""
    shrinking = NUMBERS._replace(learning_rate_steps=jnp.float32(400))
    step = jax.jit(lambda state, numbers: gradient_step(PARTS, state, jax.random.key(2), numbers))

    def moved(env_steps, numbers):
        after, _ = step(state._replace(env_steps=jnp.int32(env_steps)), numbers)
        return jax.tree.map(np.subtract, *jax.device_get((after.params, state.params)))

    whole = moved(350, NUMBERS)
    part = jax.tree.map(lambda x: 8 * x, moved(350, shrinking))
    chex.assert_trees_all_close(part, whole, rtol=1e-2, atol=1e-6)
    assert not any(leaf.any() for leaf in jax.tree.leaves(moved(400, shrinking)))


def test_latent_steps_move_the_latent_policy_alone(state):
    moved = jax.jit(lambda s: latent_steps(PARTS, s, jax.random.key(3), NUMBERS))(state)
    assert not same(moved.latent_params, state.latent_params)
    assert same(moved.params, state.params)
    without = make_parts(small_config("qmix"), ENV)
    qmix = jax.jit(make_trainer(small_config("qmix"), ENV).init)(jax.random.key(0), NUMBERS)
    assert latent_steps(without, qmix, jax.random.key(3), NUMBERS) is qmix


@pytest.mark.slow
def test_a_round_is_its_pieces(state):
    rests = jnp.array(False)
    whole, metrics = jax.jit(lambda s: play_round(PARTS, s, NUMBERS, rests))(state)

    @jax.jit
    def in_pieces(state):
        key, collect_key, *keys = jax.random.split(state.key, 4)
        collected, _ = collect(PARTS, state, collect_key, NUMBERS)
        state = store(PARTS, state._replace(key=key), collected, rests)
        return learn(PARTS, state, tuple(keys), NUMBERS)

    pieces, found = in_pieces(state)
    assert np.array_equal(jax.random.key_data(whole.key), jax.random.key_data(pieces.key))
    learnt, in_turn = ((s.params, s.latent_params) for s in (whole, pieces))
    chex.assert_trees_all_close(learnt, in_turn, rtol=1e-5)  # programs fuse differently
    assert metrics.keys() == found.keys() | {"epsilon", "train_return", "train_episodes"}


ROWS_CONFIG = small_config("maven", num_envs=4, row_slots=11, env_steps_per_update=20)
ROW_PARTS = make_parts(ROWS_CONFIG, ENV)


@pytest.fixture(scope="module")
def state_of_rows():
    return jax.jit(make_trainer(ROWS_CONFIG, ENV).init)(jax.random.key(0), NUMBERS)


@pytest.mark.slow
def test_rows_are_collected_and_what_is_counted_is_an_outcome(state_of_rows):
    state = state_of_rows
    collected, metrics, stored, rested = collected_and_stored(ROW_PARTS, state)
    episodes = collected.episodes
    assert episodes.actions.shape == (10, 4, 2)
    assert (episodes.latent.shape, episodes.latent.dtype) == ((11, 4), jnp.int8)
    assert collected.outcomes.latent.shape == (40, 3)
    starts = [[*np.flatnonzero(episodes.first[:, row]), 11] for row in range(4)]
    own = [  # of episodes that began where a whole time limit, 3 steps, had room
        float(episodes.reward[start:end, row].sum())
        for row in range(4)
        for start, end in pairwise(starts[row])
        if start <= 11 - 1 - 3
    ]
    returns = collected.outcomes.episode_return[collected.counted]
    np.testing.assert_allclose(sorted(returns.tolist()), sorted(own), rtol=1e-5)
    assert metrics["train_return"] == pytest.approx(np.mean(own), rel=1e-5)
    assert metrics["train_episodes"] == len(own)
    assert stored.env_steps == state.env_steps + episodes.mask.sum()
    number = int(collected.counted.sum())
    written = (int(state.latent_replay.current_index) + np.arange(number)) % 512
    kept = stored.latent_replay.experience.episode_return[0, written]
    np.testing.assert_array_equal(kept, returns)
    assert same(rested.replay, state.replay)
    assert same(rested.latent_replay, state.latent_replay)


@pytest.mark.slow
@pytest.mark.parametrize("in_rows", [False, True])
def test_the_reward_that_is_kept_is_scaled_and_no_return(in_rows, state, state_of_rows):
    parts, state = (ROW_PARTS, state_of_rows) if in_rows else (PARTS, state)
    collected = jax.jit(lambda numbers: collect(parts, state, jax.random.key(5), numbers))
    plain, said = collected(NUMBERS)
    scaled, said_of_scaled = collected(NUMBERS._replace(reward_scale=jnp.float32(8)))
    assert plain.episodes.reward.any()
    assert np.array_equal(scaled.episodes.reward, 8 * plain.episodes.reward)
    unscaled = scaled._replace(episodes=scaled.episodes._replace(reward=plain.episodes.reward))
    assert same(unscaled, plain)
    assert same(said_of_scaled, said)


@pytest.mark.slow
def test_gradient_steps_follow_the_steps_of_a_round(state_of_rows):
    """40 steps have room in a round: two updates of 20."""
    rests = jnp.array(False)
    after, _ = jax.jit(lambda s: play_round(ROW_PARTS, s, NUMBERS, rests))(state_of_rows)
    assert after.num_updates == 2


TABLES = [
    (exploration.EXPLORATIONS, ExplorationConfig, "kind", "exploration.kind"),
    (learner.READS, DiscriminatorConfig, "reads", "discriminator.reads"),
    (learner.OPTIMIZERS, TrainingConfig, "optimizer", "training.optimizer"),
    (algorithms.LATENTS, LatentConfig, "kind", "latent.kind"),
    (algorithms.DISCRIMINATORS, DiscriminatorConfig, "kind", "discriminator.kind"),
]


@pytest.mark.parametrize(("table", "section", "field", "name"), TABLES)
def test_every_kind_has_its_row_and_one_without_is_refused_at_once(
    table, section, field, name, monkeypatch
):
    kinds = get_args(get_type_hints(section)[field])
    assert set(kinds) == set(table)
    default = getattr(section(), field)
    monkeypatch.delitem(table, default)
    with pytest.raises(ConfigError, match=f"unknown {name} '{default}'; "):
        make_trainer(CONFIG, ENV)
