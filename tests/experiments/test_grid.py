"""Grids of fields, and the lanes and programs that they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maven_jax.config import Config, Hyperparameters, from_dict
from maven_jax.config.fields import read_field, with_field
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import (
    expand,
    lanes_from_columns,
    make_lanes,
    parse_grid,
    short_names,
)


def test_every_seed_runs_at_every_point():
    lanes = make_lanes(Hyperparameters(), [3, 4], {"gamma": [0.9, 0.8], "mi_weight": [0, 1, 2]})
    columns = lanes.columns
    assert list(columns) == ["seed", "hyperparameters.gamma", "hyperparameters.mi_weight"]
    assert list(zip(*(column.tolist() for column in columns.values()), strict=True)) == [
        (seed, gamma, weight) for gamma in (0.9, 0.8) for weight in (0, 1, 2) for seed in (3, 4)
    ]
    np.testing.assert_array_equal(lanes.hyperparameters.gamma, columns["hyperparameters.gamma"])
    assert (lanes.hyperparameters.learning_rate == Hyperparameters().learning_rate).all()


@given(
    seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4),
    gammas=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_lanes_come_back_from_their_columns(seeds, gammas):
    lanes = make_lanes(Hyperparameters(mi_weight=0.3), seeds, {"gamma": gammas})
    columns = {name: column.tolist() for name, column in lanes.columns.items()}
    again = lanes_from_columns(columns, Hyperparameters(mi_weight=0.3))
    for one, other in zip(lanes.hyperparameters, again.hyperparameters, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(lanes.seeds, again.seeds)
    assert lanes.varied == again.varied


def test_an_option_of_the_environment_joins_the_others():
    config = from_dict({"env": {"options": {"m": 3, "good_branches": 1}}})
    changed = with_field(config, "env.options.m", 4)
    assert changed.env.options == {"m": 4, "good_branches": 1}
    assert read_field(changed, "env.options.m") == 4


def test_values_are_read_as_the_field_s_type():
    texts = ["hyperparameters.mi-weight=0,1e-2", "latent.size=8,16", "algorithm=maven,maven_vdn"]
    assert parse_grid([*texts, "env.options.m=3,5"], Config()) == {
        "hyperparameters.mi_weight": [0.0, 0.01],
        "latent.size": [8, 16],
        "algorithm": ["maven", "maven_vdn"],
        "env.options.m": [3, 5],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma", "grid is 'gamma'; allowed: FIELD=VALUE,VALUE"),
        ("gamma=", "allowed: FIELD=VALUE"),
        ("=1", "allowed: FIELD=VALUE"),
        ("gamma=1", "unknown key 'gamma'"),
        ("hyperparameters.gama=1", "did you mean 'hyperparameters.gamma'"),
        ("hyperparameters.gamma=high", "hyperparameters.gamma is 'high'; allowed: a number"),
        ("latent.size=1.5", "latent.size is 1.5; allowed: a whole number"),
        ("latent.size=8,8", "has 8 twice; allowed: each value once"),
        ("latent.size=8,", "grid of latent.size has ''; allowed: numbers and words"),
        ("algorithm=qmix,'vdn", 'grid of algorithm has "\'vdn"; allowed: numbers and words'),
        ("latent.size=*a", r"grid of latent.size has '\*a'; allowed: numbers and words"),
        ("latent=8", "latent is 8; allowed: a mapping"),
        ("latent.size.x=8", "latent.size is {'x': 8}; allowed: a whole number"),
    ],
)
def test_grids_that_cannot_be(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_grid([text], Config())


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["hyperparameters.gamma=0.5,2"], "hyperparameters.gamma is 2.0; allowed: a number from 0"),
        (["latent.size=16,1"], "latent.size is 1; allowed: a whole number of at least 2"),
        (
            ["training.batch_size=8,64", "training.replay_size=128,32"],
            "training.replay_size is 32; allowed: at least training.batch_size, which is 64",
        ),
        (
            ["discriminator.signal=gradient,reward", "hyperparameters.mi_weight=0,1"],
            "hyperparameters.mi_weight is 0.0; allowed: a positive number where discriminator",
        ),
        (
            ["hyperparameters.shaping_steps=10,20"],
            "grid of hyperparameters.shaping_steps has no effect, since hyperparameters.shaping",
        ),
    ],
)
def test_combinations_that_cannot_be(texts, message):
    grid = parse_grid(texts, Config())
    with pytest.raises(ConfigError, match=message):
        expand(Config(), grid, [0])


@pytest.mark.parametrize(
    "texts",
    [
        ["training.batch_size=2000", "training.replay_size=2000,4000"],
        ["training.replay_size=2000,4000", "training.batch_size=2000"],
        ["hyperparameters.mi_weight=0.1,1", "discriminator.signal=reward"],
        ["latent.kind=gaussian", "latent.size=1,2"],
        ["hyperparameters.shaping_steps=10,20", "hyperparameters.shaping_weight=1"],
    ],
)
def test_values_that_work_only_together(texts):
    parts = expand(Config(), parse_grid(texts, Config()), [0])
    assert sum(len(part.lanes.seeds) for part in parts) == 2


def test_names_of_fields_are_short_where_that_tells_them_apart():
    alike = ["training.batch_size", "latent.batch_size", "algorithm"]
    expected = {"latent.size": "size"} | {name: name for name in alike}
    assert short_names(["latent.size", *alike]) == expected


def test_whole_numbers_of_a_grid_in_scientific_notation():
    texts = ["training.total_env_steps=2e3,3000", "env.options.m=3e0,5"]
    parts = expand(Config(), parse_grid(texts, Config()), [0])
    steps = [part.config.training.total_env_steps for part in parts]
    lengths = [part.config.env.options["m"] for part in parts]
    assert list(zip(steps, lengths, strict=True)) == [(2000, 3), (2000, 5), (3000, 3), (3000, 5)]
    assert parts[0].coordinates == {"training.total_env_steps": 2000, "env.options.m": 3}
    with pytest.raises(ConfigError, match="total_env_steps has '3e3' twice"):
        parse_grid(["training.total_env_steps=3000,3e3"], Config())
    with pytest.raises(ConfigError, match=r"names 'latent\.size' twice"):
        parse_grid(["latent.size=2", "latent.size=4"], Config())
    with pytest.raises(ConfigError, match="m=3 twice"):
        expand(Config(), parse_grid(["env.options.m=3,3e0"], Config()), [0])


def test_a_static_field_is_a_program_for_each_value_and_a_traced_one_is_lanes():
    grid = {"latent.size": [4, 8], "hyperparameters.gamma": [0.5, 0.9]}
    first, second = expand(Config(), grid, range(3))
    assert (first.name, second.name) == ("latent.size=4", "latent.size=8")
    assert first.coordinates == {"latent.size": 4}
    assert [part.config.latent.size for part in (first, second)] == [4, 8]
    assert len(first.lanes.seeds) == 6
    assert first.lanes.varied == ("gamma",)


def test_groups_hold_so_many_lanes_and_together_all():
    grid = {"hyperparameters.gamma": [0.5, 0.9]}
    parts = expand(Config(), grid, range(5), group_size=4)
    assert [len(part.lanes.seeds) for part in parts] == [4, 4, 2]
    assert len({part.name for part in parts}) == 3
    (whole,) = expand(Config(), grid, range(5))
    for name, column in whole.lanes.columns.items():
        joined = np.concatenate([part.lanes.columns[name] for part in parts])
        np.testing.assert_array_equal(joined, column)
    gammas = np.concatenate([part.lanes.hyperparameters.gamma for part in parts])
    np.testing.assert_array_equal(gammas, whole.lanes.hyperparameters.gamma)
    with pytest.raises(ConfigError, match="group_size is 0"):
        expand(Config(), grid, range(5), group_size=0)


def test_another_environment_of_a_grid_takes_its_own_options():
    config = from_dict({"env": {"options": {"m": 3}}})
    names = ["m_step_matrix", "matrix_game", "mpe_spread"]
    same, other, third = expand(config, {"env.name": names}, [0])
    assert same.config.env.options == {"m": 3, "good_branches": 2}
    assert other.config.env.options == {"game": "non_monotonic"}
    spread = {"num_agents": 3, "num_landmarks": 0, "local_ratio": 0.5, "time_limit": 25}
    assert third.config.env.options == spread
    games = {"env.options.game": ["qtran", "penalty"], "env.name": ["matrix_game"]}
    assert [part.config.env.options["game"] for part in expand(config, games, [0])] == [
        "qtran",
        "penalty",
    ]
    with pytest.raises(ConfigError, match="unknown option of environment mpe_spread 'm'"):
        expand(config, {"env.options.m": [3, 4], "env.name": ["mpe_spread"]}, [0])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds is 0"),
        ([-1], "seed is -1"),
        ([2**31], "seed is 2147483648"),
        (range(2**17), "at most 65536"),
    ],
)
def test_lanes_that_cannot_be(seeds, message):
    with pytest.raises(ConfigError, match=message):
        make_lanes(Hyperparameters(), seeds)
