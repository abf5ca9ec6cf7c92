"""A loop that stops early."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool

Carry = TypeVar("Carry")
X = TypeVar("X")
Row = TypeVar("Row")


def scan_until(
    is_over: Callable[[Carry], Bool[Array, ""]],
    step: Callable[[Carry, X], tuple[Carry, Row]],
    carry: Carry,
    xs: X,
) -> tuple[Carry, Row]:
    """`jax.lax.scan` that stops once `is_over`; the rows from there on are zeros.

    Under `vmap` it stops once it is over in all lanes, so that it remains one loop: no lane's carry
    or rows are selected at every step. Without reverse-mode gradients, as `while_loop` is.

    Args:
        is_over: of what is carried; once true it has to stay so.
        step: as `scan` takes it; rows are arrays of numbers.
        carry: what is carried first.
        xs: arrays with a leading axis of steps.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    of_step = jax.tree.map(lambda x: x[0], xs)
    shapes = jax.eval_shape(step, carry, of_step)[1]
    rows = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)

    def goes_on(state):
        index, carry, _ = state
        return (index < length) & _in_any_lane(~is_over(carry))

    def body(state):
        index, carry, rows = state
        carry, row = step(carry, jax.tree.map(lambda x: x[index], xs))
        rows = jax.tree.map(lambda every, one: every.at[index].set(one), rows, row)
        return index + 1, carry, rows

    _, carry, rows = jax.lax.while_loop(goes_on, body, (jnp.int32(0), carry, rows))
    return carry, rows


@custom_vmap
def _in_any_lane(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """The flag; under `vmap` whether any lane's is set, which is then the same in all of them."""
    return flag


@_in_any_lane.def_vmap
def _(axis_size, is_batched, flag):
    del axis_size, is_batched
    return _in_any_lane(flag.any()), False
