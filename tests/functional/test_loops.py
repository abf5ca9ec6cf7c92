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
    """Sums until `limit` is reached, over at most six numbers."""

    def summed(xs):
        return scan_until(lambda total: total >= limit, count_up, jnp.int32(0), xs)

    return summed


@pytest.mark.parametrize(("limit", "num_steps"), [(0, 0), (1, 1), (7, 4), (100, 6)])
def test_it_stops_where_it_is_over(limit, num_steps):
    xs = jnp.arange(1, 7)
    total, rows = jax.jit(up_to(limit))(xs)
    end, every = jax.lax.scan(count_up, jnp.int32(0), xs[:num_steps])
    assert total == end
    for name, row in rows.items():
        np.testing.assert_array_equal(row[:num_steps], every[name])
        assert not row[num_steps:].any()


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
    many = jax.jit(jax.vmap(up_to(7)))
    totals, rows = many(xs)
    np.testing.assert_array_equal(totals, [10, 8, 36])
    np.testing.assert_array_equal(rows["squared"][2], [81] * 4 + [0] * 2)


def test_of_lanes_nothing_is_selected_at_every_step():
    traced = jax.make_jaxpr(jax.vmap(jax.vmap(up_to(7))))(jnp.ones((2, 3, 6), int))
    loops = [equation for equation in traced.eqns if equation.primitive.name == "while"]
    assert len(loops) == 1
    whole_arrays = re.search(r"\[[0-9,]+\] = select_n", str(loops[0].params["body_jaxpr"]))
    assert whole_arrays is None


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
    for path, x in jax.tree_util.tree_leaves_with_path(rows):
        row = np.asarray(dict(jax.tree_util.tree_leaves_with_path(ROW))[path])
        scales = np.array([1, 0, -1], np.float32) if row.dtype == np.float32 else np.ones(3, int)
        assert x.dtype == row.dtype
        expected = [row * scale if row.dtype == np.float32 else row for scale in scales]
        np.testing.assert_array_equal(x, expected)


def test_what_float32_holds_is_packed_together():
    vectors = packed_rows(ROW).vectors
    assert {name: (x.dtype, x.shape) for name, x in vectors.items()} == {
        "float32": (jnp.float32, (3, 12 + 4 + 2 + 1)),
        "int32": (jnp.int32, (3, 2)),
        "uint32": (jnp.uint32, (3, 1)),
    }


def test_packed_rows_have_gradients():
    def total(x):
        return packed_rows({"x": x, "flag": jnp.array(True)}).rows()["x"].sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones(2)), [0.0, 0.0])  # 1 + 0 - 1
    first = jax.grad(lambda x: packed_rows({"x": x}, length=1).rows()["x"].sum())
    np.testing.assert_array_equal(first(jnp.ones(2)), [1.0, 1.0])


@pytest.mark.parametrize("length", [3, FULL_UNROLL + 1])
def test_a_short_scan_is_a_loop_on_a_cpu_and_none_on_an_accelerator(length):
    xs = jnp.arange(length)
    traced = jax.jit(jax.vmap(lambda total: scan(count_up, total, xs))).trace(jnp.array([1, 2]))
    for platform, unrolled in {"cpu": False, "cuda": length == 3, "tpu": length == 3}.items():
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.while" in program) != unrolled


def test_scan_by_hand():
    xs = jnp.arange(1, 7)
    total, rows = jax.jit(lambda xs: scan(count_up, jnp.int32(0), xs))(xs)
    assert total == 21
    np.testing.assert_array_equal(rows["total"], [0, 1, 3, 6, 10, 15])
    np.testing.assert_array_equal(rows["squared"], [1, 4, 9, 16, 25, 36])


@pytest.mark.parametrize("number", [0, 1, 3])
def test_rows_in_turn_are_mapped_up_to_a_number(number):
    """With keys among arguments and results; the rows that are left out are zeros."""
    keys, shifts = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 2.0, 3.0])

    def draw(key, shift):
        return {"drawn": shift + jax.random.normal(key, (2,)), "key": key}

    def without_state(_, *own):
        return None, draw(*own)

    _, found = jax.jit(partial(update_in_turn, without_state))(
        jnp.int32(number), None, keys, shifts
    )
    expected = np.stack(
        [shift + jax.random.normal(k, (2,)) for k, shift in zip(keys, shifts, strict=True)]
    )
    expected[number:] = 0
    np.testing.assert_allclose(found["drawn"], expected, rtol=1e-6)
    kept = jax.random.key_data(found["key"])
    np.testing.assert_array_equal(kept[:number], jax.random.key_data(keys)[:number])
    assert not kept[number:].any()


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
