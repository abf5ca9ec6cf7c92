"""Lanes, padding and keys of a sweep. Training through it is tested in `test_train`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.sweep import pad_lanes, seed_keys, take_seeds


def test_a_seed_alone_has_the_key_it_has_in_a_sweep():
    keys = jax.random.key_data(seed_keys(3, 4))
    np.testing.assert_array_equal(keys[2], jax.random.key_data(jax.random.key(5)))


@pytest.mark.parametrize(
    ("seeds", "devices", "lanes"), [(5, 2, 6), (4, 2, 4), (1, 1, 1), (3, 8, 8)]
)
def test_lanes_are_padded_to_an_even_share(seeds, devices, lanes):
    keys = seed_keys(0, seeds)
    padded = pad_lanes(keys, devices)
    assert padded.shape == (lanes,)
    np.testing.assert_array_equal(jax.random.key_data(padded[:seeds]), jax.random.key_data(keys))


def test_take_seeds_drops_the_padding():
    tree = {"a": jnp.arange(6), "b": jnp.ones((6, 2))}
    taken = take_seeds(tree, 5)
    np.testing.assert_array_equal(taken["a"], np.arange(5))
    assert taken["b"].shape == (5, 2)
