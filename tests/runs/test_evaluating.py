"""Evaluations cut into pieces: how large they are, and that they tell the same."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maven_jax.algorithms import Algorithm, make_algorithm
from maven_jax.config import Config, from_dict
from maven_jax.envs import MStepMatrixGame
from maven_jax.rollout import env_spec
from maven_jax.runs import evaluating
from maven_jax.runs.evaluating import cut, evaluate_lanes
from maven_jax.train import make_trainer

LANES = 3


class Weights(NamedTuple):
    """Of three lanes, and what they belong to."""

    params: Any
    latent_params: Any
    env: MStepMatrixGame
    algorithm: Algorithm
    config: Config


@pytest.fixture(scope="module", params=["maven", "qmix"])
def fresh(request):
    config = from_dict(
        {
            "algorithm": request.param,
            "network": {"hidden_size": 4, "mixer_embed_size": 2},
            "latent": {"size": 2, "hidden_size": 4} if request.param == "maven" else {},
            "evaluation": {"episodes": 12},
        }
    )
    env = MStepMatrixGame(m=2)
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


def sizes_of(fresh, episodes, lanes):
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), fresh[:2])
    return cut(one, lanes, *of_episodes(fresh, episodes)[2:])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 10**5), st.integers(1, 2000))
def test_pieces_make_up_the_whole(fresh, episodes, lanes):
    sizes, group = sizes_of(fresh, episodes, lanes)
    assert sum(sizes) == episodes
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert 1 <= group <= lanes


def test_a_small_evaluation_is_one_piece_and_a_large_one_is_bounded(fresh, monkeypatch):
    assert sizes_of(fresh, 64, 20) == ([64], 20)
    sizes, group = sizes_of(fresh, 10**5, 1000)
    assert max(sizes) * group < 10**5 * 10
    monkeypatch.setattr(evaluating, "PIECE_BYTES", evaluating.PIECE_BYTES // 10)
    smaller, fewer = sizes_of(fresh, 10**5, 1000)
    assert max(smaller) * fewer < max(sizes) * group / 5


def test_pieces_tell_what_one_program_tells(fresh, monkeypatch):
    """A game without chance: with pieces of any size, greedy QMIX returns the same."""
    whole = evaluated(fresh, 12)
    monkeypatch.setattr(evaluating, "PIECE_BYTES", 3_000)
    sizes, group = sizes_of(fresh, 12, LANES)
    assert len(sizes) > 2
    assert group < LANES
    cut_up = evaluated(fresh, 12)
    assert set(cut_up) == set(whole)
    for name, values in whole.items():
        assert cut_up[name].shape == values.shape
        assert cut_up[name].dtype == values.dtype
        if not fresh.algorithm.latent.size or name in ("return_z", "action_information"):
            np.testing.assert_allclose(cut_up[name], values, rtol=1e-5, atol=1e-6)


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


def test_the_mean_is_over_the_episodes_of_all_pieces():
    rows = [{"return": np.float32([1, 4]), "return_z": np.ones((2, 3))}]
    rows.append({"return": np.float32([4, 1]), "return_z": np.zeros((2, 3))})
    both = evaluating._over_all(rows, [2, 1])
    np.testing.assert_allclose(both["return"], [2, 3])
    np.testing.assert_array_equal(both["return_z"], np.ones((2, 3)))


def test_pieces_draw_z_anew():
    """Each piece has a key of its own: a copied draw would repeat the first piece's shares."""
    keys = jax.random.split(jax.random.key(0), LANES)
    drawn = [np.asarray(jax.random.key_data(evaluating._of_piece(keys, i))) for i in range(3)]
    np.testing.assert_array_equal(drawn[0], jax.random.key_data(keys))
    assert len({x.tobytes() for x in drawn}) == 3
