import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.errors import ConfigError
from maven_jax.experiments.array_files import fit_arrays, named_arrays, read_arrays, write_arrays

TREE = {
    "mask": np.array([True, False]),
    "grid": np.array([[1, -2]], np.int8),
    "values": (np.float32(0.5), jnp.array([1.5, -2], jnp.bfloat16)),
}


def test_trees_of_every_dtype_come_back(tmp_path):
    write_arrays(tmp_path / "a.npz", named_arrays(TREE))
    arrays = read_arrays(tmp_path / "a.npz")
    assert list(arrays) == ["grid", "mask", "values/0", "values/1"]
    found = fit_arrays(arrays, TREE, "they do not fit")
    for ours, theirs in zip(*map(jax.tree.leaves, (found, TREE)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert list(read_arrays(tmp_path / "a.npz", ("values/",))) == ["values/0", "values/1"]
    assert not list(tmp_path.glob(".draft-*"))


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"a": np.zeros(3)}, r"array 'a' has shape \(2,\); expected \(3,\)"),
        ({"a": np.zeros(2), "b": np.zeros(1)}, r"array 'b' is missing; expected shape \(1,\)"),
        ({}, r"array 'a' of shape \(2,\) is not expected"),
        ({"a": np.zeros(2, np.int8)}, "array 'a' is float64; expected int8"),
    ],
)
def test_what_does_not_fit_is_named(expected, message):
    with pytest.raises(ConfigError, match=f"they do not fit: {message}"):
        fit_arrays({"a": np.zeros(2)}, expected, "they do not fit")


def test_dtypes_are_converted_where_that_is_asked_for():
    found = fit_arrays({"a": np.array([0.5])}, {"a": np.zeros(1, np.float32)}, "", cast=True)
    assert found["a"].dtype == np.float32
