"""Evaluations cut into pieces: how large they are, and that they tell the same."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_envs import Sides

from maven_jax.acting.rollout import env_spec
from maven_jax.algorithms.table import Algorithm, make_algorithm
from maven_jax.config import Config, from_dict
from maven_jax.envs import MStepMatrixGame
from maven_jax.experiments import evaluating
from maven_jax.experiments.evaluating import cut, evaluate_lanes, evaluation_key, play_behaviour
from maven_jax.experiments.grid import make_lanes
from maven_jax.experiments.sweep import seed_keys
from maven_jax.experiments.trained import play_tests
from maven_jax.training.evaluation import latent_behaviour
from maven_jax.training.train import make_trainer
from maven_jax.types import MarlEnv

LANES = 3


class Weights(NamedTuple):
    """Of three lanes, and what they belong to."""

    params: Any
    latent_params: Any
    env: MarlEnv
    algorithm: Algorithm
    config: Config


@pytest.fixture(scope="module", params=["maven", "qmix"])
def fresh(request):
    return fresh_weights(request.param, MStepMatrixGame(m=2))


def fresh_weights(name, env):
    config = from_dict(
        {
            "algorithm": name,
            "network": {"hidden_size": 4, "mixer_embed_size": 2},
            "latent": {"size": 2, "hidden_size": 4} if name == "maven" else {},
            "evaluation": {"episodes": 12},
        }
    )
    init = jax.jit(jax.vmap(make_trainer(config, env).init, (0, None)))
    state = init(
        jax.random.split(jax.random.key(0), LANES), jax.tree.map(float, config.hyperparameters)
    )
    algorithm = make_algorithm(config, env_spec(env))
    return Weights(state.params, state.latent_params, env, algorithm, config)


def of_episodes(fresh, episodes):
    evaluation = replace(fresh.config.evaluation, episodes=episodes)
    return fresh._replace(config=replace(fresh.config, evaluation=evaluation))


def evaluated(fresh, episodes):
    params, latent_params, *rest = of_episodes(fresh, episodes)
    keys = jax.random.split(jax.random.key(0), LANES)
    return evaluate_lanes(params, latent_params, keys, np.ones(LANES), *rest)


@pytest.mark.slow
def test_what_each_z_does_is_the_mean_over_pieces_of_starts(monkeypatch):
    """Five random starts in pieces of two, two and one: by starts, and by steps for actions."""
    fresh = fresh_weights("maven", Sides())
    params, latent_params = jax.tree.map(lambda x: x[0], fresh[:2])
    rest, key = fresh[2:], jax.random.key(3)
    an_episode = evaluating._episode_bytes((params, latent_params), *rest[:2])
    monkeypatch.setattr(evaluating, "PIECE_BYTES", 2 * 2 * an_episode)
    found = play_behaviour(params, latent_params, key, *rest, starts=5)
    keys = jax.random.split(key, 3)
    parts = [
        latent_behaviour(params, latent_params, own, *rest, size)
        for own, size in zip(keys, (2, 2, 1), strict=True)
    ]
    weights = np.array([2, 2, 1]) / 5
    for name in ("probs", "returns"):
        mean = sum(w * getattr(part, name) for w, part in zip(weights, parts, strict=True))
        np.testing.assert_allclose(getattr(found, name), mean, rtol=1e-6)
    np.testing.assert_array_equal(found.action_counts, sum(part.action_counts for part in parts))
    np.testing.assert_allclose(found.action_share.sum(-1), 1, rtol=1e-6)


def sizes_of(fresh, episodes, lanes):
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), fresh[:2])
    return cut(one, lanes, *of_episodes(fresh, episodes)[2:])


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 10**5), st.integers(1, 2000), st.sampled_from([1, 1_000, 10**6, 2**28]))
def test_pieces_make_up_the_whole(fresh, episodes, lanes, piece_bytes):
    """Also where a single episode takes more than a piece may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluating, "PIECE_BYTES", piece_bytes)
        sizes, group = sizes_of(fresh, episodes, lanes)
    assert sum(sizes) == episodes
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert 1 <= group <= lanes
    if piece_bytes == 1:
        assert (max(sizes), group) == (1, 1)


def test_a_small_evaluation_is_one_piece_and_a_large_one_is_bounded(fresh, monkeypatch):
    assert sizes_of(fresh, 64, 20) == ([64], 20)
    sizes, group = sizes_of(fresh, 10**5, 1000)
    assert max(sizes) * group < 10**5 * 10
    monkeypatch.setattr(evaluating, "PIECE_BYTES", evaluating.PIECE_BYTES // 10)
    smaller, fewer = sizes_of(fresh, 10**5, 1000)
    assert max(smaller) * fewer < max(sizes) * group / 5


@pytest.mark.slow
@pytest.mark.parametrize("piece_bytes", [1, 3_000])
def test_pieces_tell_what_one_program_tells(fresh, monkeypatch, piece_bytes):
    """A game without chance: with pieces of any size, each z returns the same, as does QMIX."""
    whole = evaluated(fresh, 12)
    monkeypatch.setattr(evaluating, "PIECE_BYTES", piece_bytes)
    sizes, group = sizes_of(fresh, 12, LANES)
    assert len(sizes) > 2
    assert group < LANES
    cut_up = evaluated(fresh, 12)
    assert set(cut_up) == set(whole)
    sampled = ("return", "extras/") if fresh.algorithm.latent.size else ()
    for name, values in whole.items():
        assert cut_up[name].shape == values.shape
        assert cut_up[name].dtype == values.dtype
        assert np.isfinite(cut_up[name]).all()
        if name == "return_z" or not name.startswith(sampled):
            np.testing.assert_allclose(cut_up[name], values, rtol=1e-4, atol=1e-5)


def test_runs_of_one_experiment_share_a_program(fresh, monkeypatch):
    """They differ in what is traced: hyperparameters and numbers of steps."""
    once = evaluated(fresh, 12)
    monkeypatch.setattr(evaluating, "evaluate", lambda *_, **__: pytest.fail("traced again"))
    training = replace(fresh.config.training, total_env_steps=10**6)
    numbers = fresh.config.hyperparameters._replace(learning_rate=0.1)
    other = replace(fresh.config, training=training, hyperparameters=numbers)
    again = evaluated(fresh._replace(config=other), 12)
    for name, values in once.items():
        np.testing.assert_array_equal(again[name], values)


def test_means_are_over_the_episodes_or_the_starts_of_all_pieces():
    """Two pieces of 2 and 1 episodes, the first with a further start that each z plays."""
    first = {
        "return": np.float32([1, 4]),
        "latent_probs": np.float32([[1, 0], [0.5, 0.5]]),
        "latent_entropy": np.float32([0, np.log(2)]),
        "return_z": np.ones((2, 3)),
    }
    last = {
        "return": np.float32([4, 1]),
        "latent_probs": np.float32([[0, 1], [0.5, 0.5]]),
        "latent_entropy": np.float32([0, np.log(2)]),
    }
    both = evaluating._over_all([first, last], [2, 1], 1)
    np.testing.assert_allclose(both["return"], [2, 3])
    np.testing.assert_array_equal(both["return_z"], np.ones((2, 3)))
    np.testing.assert_allclose(both["latent_probs"], [[0.75, 0.25], [0.5, 0.5]])
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    np.testing.assert_allclose(both["latent_entropy"], [entropy, np.log(2)], rtol=1e-6)


class Observed(MStepMatrixGame):
    """The game, which records every key that an episode starts from."""

    def __init__(self):
        super().__init__(m=2)
        self.keys = []

    def reset(self, key):
        jax.debug.callback(lambda x: self.keys.append(tuple(x.tolist())), jax.random.key_data(key))
        return super().reset(key)


@pytest.mark.slow
def test_no_test_episode_starts_from_a_key_of_training(monkeypatch):
    """Training seeds 0 to 3 beside a test by seed 0, of which every episode is a piece."""
    monkeypatch.setattr(evaluating, "PIECE_BYTES", 1)
    env = Observed()
    config = from_dict(
        {
            "algorithm": "iql",
            "env": {"options": {"m": 2}},
            "network": {"hidden_size": 1},
            "training": {"batch_size": 1, "replay_size": 8, "updates_per_evaluation": 4},
            "evaluation": {"episodes": 6},
        }
    )
    trainer = make_trainer(config, env)
    lanes = make_lanes(config.hyperparameters, [0, 1, 2, 3])
    init = jax.jit(jax.vmap(trainer.init, (0, None)))
    state = init(seed_keys(0, 4), config.hyperparameters)
    chunk = jax.jit(jax.vmap(trainer.chunk, (0, None)))
    jax.block_until_ready(chunk(state, config.hyperparameters)[0].params)
    jax.effects_barrier()
    training, env.keys = env.keys, []
    play_tests(state.params, state.latent_params, 0, lanes, config, env)
    jax.effects_barrier()
    assert len(env.keys) == len(set(env.keys)) == 4 * 6
    assert len(set(training)) == 4 * (1 + 4 + 6), "first batch, four rounds, test episodes"
    assert not set(env.keys) & set(training)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_uses_seeds_lanes_and_pieces_are_distinct(impl):
    """No key is met twice, down to what `evaluate` makes of the keys of its pieces."""

    def children(keys, count):
        return jax.vmap(lambda key: jax.random.split(key, count))(keys).ravel()

    every = []
    with jax.default_prng_impl(impl):
        for seed in range(3):
            key = jax.random.key(seed)[None]
            every.append(key)
            for _ in range(3):  # what training splits off a seed's key
                key = children(key, 6)
                every.append(key)
            for use in ("table", "render", "behaviour"):
                lanes = children(evaluation_key(seed, use)[None], 6)
                pieces = children(lanes, 6)
                every += [lanes, pieces, children(pieces, 4)]
    words = np.concatenate([jax.random.key_data(keys) for keys in every])
    assert len(np.unique(words, axis=0)) == len(words)
