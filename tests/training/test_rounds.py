"""Acting, storing and learning, each alone."""

from copy import copy
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_experiments import small_config

from maven_jax.algorithms import table as algorithms
from maven_jax.config import Hyperparameters
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
NUMBERS: Hyperparameters = jax.tree.map(jnp.float32, CONFIG.hyperparameters)
KEY = jax.random.key(5)


def made(config, env=ENV):
    """The first state of a run, and its pieces, compiled."""
    parts = make_parts(config, env)

    def play(state, key, numbers):
        """A round, its metrics, the state that has stored it, and that of a finished run."""
        collected, metrics = collect(parts, state, key, numbers)
        stored = (store(parts, state, collected, jnp.array(over)) for over in (False, True))
        return collected, metrics, *stored

    return SimpleNamespace(
        parts=parts,
        state=jax.jit(make_trainer(config, env).init)(jax.random.key(0), NUMBERS),
        play=jax.jit(play),
        step=jax.jit(partial(gradient_step, parts)),
    )


@pytest.fixture(scope="module")
def run():
    return made(CONFIG)


@pytest.fixture(scope="module")
def run_of_rows():
    return made(small_config("maven", num_envs=4, row_slots=11, env_steps_per_update=20))


def same(one, other) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_a_round_is_played_and_stored_unless_the_run_has_finished(run):
    state = run.state
    collected, metrics, stored, rested = run.play(state, KEY, NUMBERS)
    episodes = collected.episodes
    assert (episodes.actions.shape, episodes.actions.dtype) == ((3, 4, 2), jnp.int8)
    assert episodes.latent.shape == (4, 3)
    assert metrics["train_return"] == episodes.reward.sum(0).mean()
    assert 0.01 <= metrics["epsilon"] < 1
    assert stored.env_steps == state.env_steps + episodes.mask.sum()
    assert stored.replay.current_index == (state.replay.current_index + 4) % 16
    index = int(state.replay.current_index)
    kept = stored.replay.experience.actions[0, index : index + 4]
    assert np.array_equal(kept, np.swapaxes(episodes.actions, 0, 1))
    assert same(rested.replay, state.replay)
    assert same(rested.latent_replay, state.latent_replay)


@pytest.mark.slow
def test_rows_are_played_and_what_is_counted_is_an_outcome(run_of_rows):
    state = run_of_rows.state
    collected, metrics, stored, rested = jax.device_get(run_of_rows.play(state, KEY, NUMBERS))
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
    written = (int(state.latent_replay.current_index) + np.arange(len(own))) % 512
    kept = stored.latent_replay.experience.episode_return[0, written]
    np.testing.assert_array_equal(kept, returns)
    assert same(rested.replay, state.replay)
    assert same(rested.latent_replay, state.latent_replay)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "run_of_rows"])
def test_the_reward_that_is_kept_is_scaled_and_no_return(name, request):
    run = request.getfixturevalue(name)
    plain, said, *_ = run.play(run.state, KEY, NUMBERS)
    of_scaled = NUMBERS._replace(reward_scale=jnp.float32(8))
    scaled, said_of_scaled, *_ = run.play(run.state, KEY, of_scaled)
    assert plain.episodes.reward.any()
    assert np.array_equal(scaled.episodes.reward, 8 * plain.episodes.reward)
    unscaled = scaled._replace(episodes=scaled.episodes._replace(reward=plain.episodes.reward))
    assert same((unscaled, said_of_scaled), (plain, said))


class Endless(MStepMatrixGame):
    """Every end is one by a time limit, as the game tells it."""

    def step(self, state, actions):
        state, timestep = super().step(state, actions)
        return state, timestep.replace(discount=jnp.ones_like(timestep.discount))


@pytest.mark.slow
@pytest.mark.parametrize("row_slots", [0, 9])
def test_a_time_limit_is_an_end_where_that_is_asked_for(row_slots):
    played = []
    for bootstrap in (True, False):
        form = {"row_slots": row_slots, "bootstrap_at_limit": bootstrap}
        run = made(small_config("qmix", num_envs=8, total_env_steps=200, **form), Endless(m=3))
        collected, *_ = run.play(run.state, jax.random.key(1), NUMBERS)  # some rows end in mid-game
        played.append(jax.device_get(collected.episodes))
    valued, ended = played
    np.testing.assert_array_equal(valued.discount, valued.mask)
    follows = np.concatenate([valued.mask[1:], np.zeros((1, 8), bool)])
    told = slice(-1) if row_slots else slice(None)  # not whether the end of a row is one
    np.testing.assert_array_equal(ended.discount[told], (valued.mask & follows)[told])
    assert ended.discount[-1].any() == (row_slots > 0), "episodes that a row's end cuts go on"
    chex.assert_trees_all_equal(*(episodes._replace(discount=None) for episodes in played))


@pytest.mark.slow
def test_a_gradient_step_moves_the_weights_and_the_target_when_it_is_due(run):
    seen = [run.state]
    for key in jax.random.split(jax.random.key(2), 7):
        seen.append(run.step(seen[-1], key, NUMBERS)[0])
    first, last = seen[0], seen[7]
    assert [int(s.num_updates) for s in seen] == list(range(8))
    assert all(not same(a.params, b.params) for a, b in pairwise(seen))
    assert same(first.target_params, first.params)
    assert all(same(s.target_params, first.target_params) for s in seen[:7])
    assert same(last.target_params, last.params), "every seventh step"
    assert all(same(s.latent_params, first.latent_params) for s in seen)


def test_the_target_moves_a_part_of_the_way(run):
    slowly = NUMBERS._replace(target_update_rate=jnp.float32(0.25))
    old = jax.tree.map(lambda x: np.asarray(x) + 1, run.state.params)
    due = run.state._replace(num_updates=jnp.int32(6), target_params=old)
    after, _ = run.step(due, KEY, slowly)
    new = jax.device_get(after.params)
    expected = jax.tree.map(lambda x, old: 0.25 * x + 0.75 * old, new, old)
    chex.assert_trees_all_close(after.target_params, expected, rtol=1e-6)
    assert same(run.step(after, KEY, slowly)[0].target_params, after.target_params), "not due"


def test_gradient_steps_shrink_with_the_learning_rate(run):
    """RMSprop's steps are in proportion to it: an eighth is left; later none is."""
    shrinking = NUMBERS._replace(learning_rate_steps=jnp.float32(400))

    def moved(env_steps, numbers):
        after, _ = run.step(run.state._replace(env_steps=jnp.int32(env_steps)), KEY, numbers)
        return jax.tree.map(np.subtract, *jax.device_get((after.params, run.state.params)))

    part = jax.tree.map(lambda x: 8 * x, moved(350, shrinking))
    chex.assert_trees_all_close(part, moved(350, NUMBERS), rtol=1e-2, atol=1e-6)
    assert not any(leaf.any() for leaf in jax.tree.leaves(moved(400, shrinking)))


def test_latent_steps_move_the_latent_policy_alone(run):
    moved = jax.jit(lambda s: latent_steps(run.parts, s, KEY, NUMBERS))(run.state)
    assert not same(moved.latent_params, run.state.latent_params)
    assert same(moved.params, run.state.params)
    without = make_parts(small_config("qmix"), ENV)
    assert latent_steps(without, run.state, KEY, NUMBERS) is run.state


@pytest.mark.slow
def test_a_round_is_its_pieces(run):
    parts, is_finished = run.parts, jnp.array(False)
    whole, metrics = jax.jit(lambda s: play_round(parts, s, NUMBERS, is_finished))(run.state)

    @jax.jit
    def in_pieces(state):
        key, collect_key, *keys = jax.random.split(state.key, 4)
        collected, _ = collect(parts, state, collect_key, NUMBERS)
        state = store(parts, state._replace(key=key), collected, is_finished)
        return learn(parts, state, tuple(keys), NUMBERS)

    pieces, found = in_pieces(run.state)
    assert np.array_equal(jax.random.key_data(whole.key), jax.random.key_data(pieces.key))
    learnt, in_turn = ((s.params, s.latent_params) for s in (whole, pieces))
    chex.assert_trees_all_close(learnt, in_turn, rtol=1e-5)  # programs fuse differently
    assert metrics.keys() == found.keys() | {"epsilon", "train_return", "train_episodes"}


@pytest.mark.parametrize(
    ("table", "section", "field"),
    [
        (exploration.EXPLORATIONS, "exploration", "kind"),
        (learner.READS, "discriminator", "reads"),
        (algorithms.OPTIMIZERS, "training", "optimizer"),
        (algorithms.LATENTS, "latent", "kind"),
        (algorithms.DISCRIMINATORS, "discriminator", "kind"),
    ],
)
def test_a_kind_without_a_row_is_refused_at_once(table, section, field):
    """Before anything is compiled."""
    values = copy(getattr(CONFIG, section))
    assert getattr(values, field) in table
    object.__setattr__(values, field, "unheard_of")  # past the checks of a frozen class
    unknown = replace(CONFIG, **{section: values})
    with pytest.raises(ConfigError, match=f"{section}.{field} (is )?'unheard_of'; "):
        make_parts(unknown, ENV)
