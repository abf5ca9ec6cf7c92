import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.functional.loops import FULL_UNROLL, pack, scan, scan_until, update_in_turn


def count_up(total, x):
    return total + x, {"total": total, "squared": x**2}


def up_to(limit):
    """Sums until `limit` is reached."""
    return partial(scan_until, lambda total: total >= limit, count_up, jnp.int32(0))


@pytest.mark.parametrize(
    ("loop", "num_steps"),
    [
        (up_to(0), 0),
        (up_to(1), 1),
        (up_to(7), 4),
        (up_to(100), 6),
        (partial(scan, count_up, jnp.int32(0)), 6),
    ],
)
def test_loops_of_known_length(loop, num_steps):
    """What is left of the rows is zeros."""
    total, rows = jax.jit(loop)(jnp.arange(1, 7))
    sums, taken = np.array([0, 1, 3, 6, 10, 15, 21]), np.arange(6) < num_steps
    assert total == sums[num_steps]
    np.testing.assert_array_equal(rows["total"], taken * sums[:-1])
    np.testing.assert_array_equal(rows["squared"], taken * [1, 4, 9, 16, 25, 36])


def test_no_step_is_computed_after_the_end():
    steps = []

    def step(total, x):
        steps.append(x)
        return total + x, x

    with jax.disable_jit():
        scan_until(lambda total: total >= 3, step, jnp.int32(0), jnp.ones(100, int))
    assert len(steps) == 1 + 3  # the first call is for the shapes of its rows


def test_lanes_stop_together():
    xs = jnp.stack([jnp.arange(1, 7), jnp.full(6, 2), jnp.full(6, 9)])
    totals, rows = jax.jit(jax.vmap(up_to(7)))(xs)
    np.testing.assert_array_equal(totals, [10, 8, 36])
    np.testing.assert_array_equal(rows["squared"][2], [81] * 4 + [0] * 2)


def test_of_lanes_nothing_is_selected_at_every_step():
    traced = jax.make_jaxpr(jax.vmap(jax.vmap(up_to(7))))(jnp.ones((2, 3, 6), int))
    (loop,) = [equation for equation in traced.eqns if equation.primitive.name == "while"]
    assert re.search(r"\[[0-9,]+\] = select_n", str(loop.params["body_jaxpr"])) is None


ROW = {
    "views": jnp.arange(12, dtype=jnp.float32).reshape(2, 3, 2),
    "legal": jnp.array([[True, False], [False, True]]),
    "actions": jnp.array([-128, 127], jnp.int8),
    "seeds": jnp.array([2**31 - 1, -(2**31)], jnp.int32),
    "none": jnp.zeros((2, 0), jnp.float32),
    "both": (jnp.float32(0.1), jnp.uint32(2**32 - 1)),
}


def packed_rows(row, length=3):
    """The row, times 1, 0 and -1 where it is float32, and packed all the while."""

    def step(scale, _):
        scaled = jax.tree.map(lambda x: x * scale if x.dtype == jnp.float32 else x, row)
        return scale - 1, pack(scaled)

    return jax.lax.scan(step, jnp.float32(1), length=length)[1]


def test_packed_rows_come_back_as_they_were(variant):
    rows = variant(lambda row: packed_rows(row).rows())(ROW)
    assert jax.tree.structure(rows) == jax.tree.structure(ROW)
    for x, row in zip(jax.tree.leaves(rows), map(np.asarray, jax.tree.leaves(ROW)), strict=True):
        assert x.dtype == row.dtype
        scales = [1, 0, -1] if row.dtype == np.float32 else [1, 1, 1]
        expected = [row if scale == 1 else scale * row for scale in scales]
        np.testing.assert_array_equal(x, expected)


def test_what_float32_holds_is_packed_together():
    assert {name: (x.dtype, x.shape) for name, x in packed_rows(ROW).vectors.items()} == {
        "float32": (jnp.float32, (3, 12 + 4 + 2 + 1)),
        "int32": (jnp.int32, (3, 2)),
        "uint32": (jnp.uint32, (3, 1)),
    }


@pytest.mark.parametrize(("length", "slope"), [(1, 1), (2, 1 + 0), (3, 1 + 0 - 1)])
def test_packed_rows_have_gradients(length, slope):
    def total(x):
        return packed_rows({"x": x, "flag": jnp.array(True)}, length).rows()["x"].sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(jnp.ones(2)), [slope, slope])


@pytest.mark.parametrize("length", [3, FULL_UNROLL + 1])
def test_a_short_scan_is_a_loop_on_a_cpu_and_none_on_an_accelerator(length):
    xs = jnp.arange(length)
    traced = jax.jit(jax.vmap(lambda total: scan(count_up, total, xs))).trace(jnp.array([1, 2]))
    for platform, unrolled in {"cpu": False, "cuda": length == 3, "tpu": length == 3}.items():
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.while" in program) != unrolled


@pytest.mark.parametrize("number", [0, 1, 3])
def test_rows_in_turn_are_mapped_up_to_a_number(number):
    """With keys among arguments and results; the rows that are left out are zeros."""
    keys, shifts = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 2.0, 3.0])

    def drawn(key, shift):
        return shift + jax.random.normal(key, (2,))

    mapped = jax.jit(partial(update_in_turn, lambda _, *own: (None, (drawn(*own), own[0]))))
    _, (found, kept) = mapped(jnp.int32(number), None, keys, shifts)
    expected = np.stack([drawn(*own) for own in zip(keys, shifts, strict=True)])
    expected[number:] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    words = np.array(jax.random.key_data(keys))
    words[number:] = 0
    np.testing.assert_array_equal(jax.random.key_data(kept), words)


@pytest.mark.parametrize(("rows", "number"), [(1, 0), (1, 1), (3, 0), (3, 2), (3, 3)])
def test_rows_in_turn_are_updated_in_their_own_memory(rows, number):
    """The rows that are left out stay as they are."""
    state = {"count": jnp.arange(rows), "large": jnp.ones((rows, 100_000))}

    def write(row, x):
        large = row["large"].at[row["count"]].set(x)
        return {"count": row["count"] + 5, "large": large}, row["count"]

    compiled = jax.jit(partial(update_in_turn, write), donate_argnums=1)
    arguments = jnp.int32(number), state, jnp.arange(7.0, rows + 7)
    memory = compiled.lower(*arguments).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 4 * rows * 100_000
    assert rows > 1 or memory.temp_size_in_bytes < 1_000
    after, counts = compiled(*arguments)
    np.testing.assert_array_equal(after["count"], [i + 5 * (i < number) for i in range(rows)])
    expected = np.ones((rows, 100_000))
    for row in range(number):
        expected[row, row] = row + 7
    np.testing.assert_array_equal(after["large"], expected)
    np.testing.assert_array_equal(counts, [i if i < number else 0 for i in range(rows)])
