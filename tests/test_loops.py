import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.loops import scan_until


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
