"""Lanes, padding and keys of a sweep. Training through it is tested in `test_train`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from maven_jax.config import Hyperparameters
from maven_jax.sweep import make_mesh, map_lanes, place_lanes, seed_keys, spread, take_lanes


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
    assert make_mesh(1).size == 1
    assert make_mesh(5).size == len(jax.devices()) == 2


def test_take_lanes_drops_the_padding():
    tree = {"a": jnp.arange(6), "b": jnp.ones((6, 2))}
    taken = take_lanes(tree, 5)
    np.testing.assert_array_equal(taken["a"], np.arange(5))
    assert taken["b"].shape == (5, 2)


def test_spread_gives_every_lane_a_value():
    hyperparameters = Hyperparameters(learning_rate=np.array([1e-3, 2e-3]), gamma=0.5)
    lanes = spread(hyperparameters, 2)
    np.testing.assert_array_equal(lanes.learning_rate, np.float32([1e-3, 2e-3]))
    np.testing.assert_array_equal(lanes.gamma, np.float32([0.5, 0.5]))


def test_map_lanes_maps_over_all_arguments():
    doubled = map_lanes(lambda x, y: 2 * x + y, np.arange(3.0), np.ones(3))
    np.testing.assert_array_equal(doubled, [1, 3, 5])
