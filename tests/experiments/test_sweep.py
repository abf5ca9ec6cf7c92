"""Lanes, padding and keys of a sweep. Training through it is tested in `test_train`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from small_experiments import small_config

from maven_jax.config import Hyperparameters
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import make_lanes
from maven_jax.experiments.sweep import (
    compile_sweep,
    lane_keys,
    make_mesh,
    map_lanes,
    over_lanes,
    place_lanes,
    run_sweep,
    seed_keys,
    spread,
    take_lanes,
)
from maven_jax.training.train import make_trainer

pytestmark = pytest.mark.slow


def test_a_seed_alone_has_the_key_it_has_in_a_sweep():
    keys = jax.random.key_data(seed_keys(3, 4))
    np.testing.assert_array_equal(keys[2], jax.random.key_data(jax.random.key(5)))


@pytest.mark.parametrize(
    ("seeds", "devices", "lanes"), [(5, 2, 6), (4, 2, 4), (1, 1, 1), (3, 2, 4)]
)
def test_lanes_are_padded_to_an_even_share(seeds, devices, lanes):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("lanes",))
    keys, numbers = place_lanes((seed_keys(0, seeds), np.arange(seeds) * 2.0), mesh)
    assert keys.shape == numbers.shape == (lanes,)
    assert len(numbers.sharding.device_set) == devices
    np.testing.assert_array_equal(numbers, 2 * np.minimum(np.arange(lanes), seeds - 1))
    np.testing.assert_array_equal(
        jax.random.key_data(keys)[:seeds], jax.random.key_data(seed_keys(0, seeds))
    )


def test_a_mesh_has_no_more_devices_than_lanes():
    assert make_mesh(1).size == 2, "on a CPU one is idle"
    assert make_mesh(5).size == len(jax.devices()) == 2


def test_lanes_are_taken_spread_and_mapped():
    taken = take_lanes({"a": jnp.arange(6), "b": jnp.ones((6, 2))}, 5)
    np.testing.assert_array_equal(taken["a"], np.arange(5))
    assert taken["b"].shape == (5, 2)
    lanes = spread(Hyperparameters(learning_rate=np.array([1e-3, 2e-3]), gamma=0.5), 2)
    np.testing.assert_array_equal(lanes.learning_rate, np.float32([1e-3, 2e-3]))
    np.testing.assert_array_equal(lanes.gamma, np.float32([0.5, 0.5]))
    doubled = map_lanes(lambda x, y: 2 * x + y, np.arange(3.0), np.ones(3))
    np.testing.assert_array_equal(doubled, [1, 3, 5])


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_lanes_of_a_cpu_are_computed_as_all_at_once(lanes):
    """Each with its own key and numbers, in order, shared by two devices."""
    mesh = make_mesh(lanes)
    arguments = lane_keys(range(lanes)), np.arange(lanes, dtype=np.float32)

    def draw(key, number):
        return {"drawn": number * jax.random.normal(key, (2,)), "key": key}

    placed = place_lanes(arguments, mesh)
    found, whole = jax.jit(over_lanes(draw, mesh, lanes))(*placed), jax.vmap(draw)(*arguments)
    np.testing.assert_allclose(found["drawn"][:lanes], whole["drawn"], rtol=1e-6)
    keys = jax.random.key_data(found["key"])[:lanes]
    np.testing.assert_array_equal(keys, jax.random.key_data(whole["key"]))


@pytest.mark.parametrize("algorithm", ["qmix", "maven"])
def test_a_seed_alone_has_the_numbers_that_it_has_among_others_bit_for_bit(algorithm):
    """Seed 3, alone, as the second of two, and as the last of four, which two devices share."""
    config, env = small_config(algorithm), MStepMatrixGame(m=3)
    trainer = make_trainer(config, env)
    found = []
    for first, number in ((3, 1), (2, 2), (0, 4)):
        run = run_sweep(
            compile_sweep(trainer, number), seed_keys(first, number), config.hyperparameters
        )
        chunks = [next(run) for _ in range(3)]
        rows = [{name: row[3 - first] for name, row in c.metrics.items()} for c in chunks]
        weights = jax.tree.map(lambda x, i=3 - first: np.asarray(x[i]), chunks[-1].state.params)
        found.append((rows, weights))
    chex.assert_trees_all_equal(*found)


def test_a_grid_is_one_program_and_its_lanes_are_separate_runs():
    """3 learning rates x 3 lambda_MI x 2 seeds: one trace; each lane, to rounding, alone."""
    config, env = small_config("maven", total_env_steps=40), MStepMatrixGame(m=3)
    trainer = make_trainer(config, env)
    grid = {"learning_rate": [1e-4, 5e-4, 2e-3], "mi_weight": [0.0, 0.1, 1.0]}
    lanes = make_lanes(config.hyperparameters, range(2), grid)
    assert len(lanes.seeds) == 18
    chex.clear_trace_counter()
    once = trainer._replace(chunk=chex.assert_max_traces(trainer.chunk, 1))
    sweep = compile_sweep(once, 18)
    keys = lane_keys(lanes.seeds)
    run = run_sweep(sweep, keys, lanes.hyperparameters)
    chunks = [next(run).metrics for _ in range(2)]
    init, chunk = jax.jit(trainer.init), jax.jit(trainer.chunk)
    for lane in range(0, 18, 5):
        own = jax.tree.map(lambda x, lane=lane: jnp.float32(x[lane]), lanes.hyperparameters)
        state = init(keys[lane], own)
        for metrics in chunks:
            state, alone = chunk(state, own)
            for name, value in alone.items():
                np.testing.assert_allclose(
                    metrics[name][lane], value, rtol=2e-3, atol=2e-4, err_msg=name
                )
    losses = chunks[1]["loss"].reshape(3, 3, 2)
    assert (losses[0] != losses[1]).all()
    assert (losses[:, 0] != losses[:, 1]).all()


@pytest.mark.parametrize(
    ("first", "number", "message"),
    [
        (-1, 2, "seed is -1; allowed: a whole number from 0"),
        (2**31 - 1, 2, "seed is 2147483648; allowed"),
        (0, 0, "num_seeds is 0; allowed: a whole number from 1 on"),
    ],
)
def test_seeds_out_of_range_have_no_key(first, number, message):
    with pytest.raises(ConfigError, match=message):
        seed_keys(first, number)
