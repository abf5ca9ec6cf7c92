"""Loops: unrolled on accelerators, stopped early, row by row; and their rows in few arrays."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Int

FULL_UNROLL = 32
"""Scans up to this long are unrolled whole where that pays."""

Carry = TypeVar("Carry")
X = TypeVar("X")
Row = TypeVar("Row")


def scan(step: Callable[[Carry, X], tuple[Carry, Row]], carry: Carry, xs: X) -> tuple[Carry, Row]:
    """`jax.lax.scan`, unrolled whole on accelerators where it is short.

    What a loop needs at every step, to count and to carry on, are launches of their own there. On a
    CPU there are none, and its compiler takes longer over what is unrolled.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    looped = partial(jax.lax.scan, step)
    if length > FULL_UNROLL:
        return looped(carry, xs)
    return jax.lax.platform_dependent(carry, xs, cpu=looped, default=partial(looped, unroll=length))


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


def update_in_turn(
    function: Callable[..., tuple[Carry, Any]], number: Int[Array, ""], rows: Carry, *xs: Any
) -> tuple[Carry, Any]:
    """`function` of the first rows, one after the other; new rows take the memory of old ones.

    The compiler does not know how many there are, so the loop's body is the same for any number of
    rows, where a loop over a single one would be taken apart: a row's result is the same, bit for
    bit, alone and among others.

    Args:
        function: of one of `rows` and of each argument; returns the new row and a further result.
        number: how many rows to compute; the others stay, and their results are zeros.
        rows: arrays, or a tree of them, with a leading axis of rows.
        *xs: the same, that are only read.
    """
    traced_once = jax.jit(function, inline=True)
    length = jax.tree.leaves((rows, xs))[0].shape[0]
    alone = length == 1  # its memory is the row's: nothing is copied out of it or back

    def compute(index: Int[Array, ""], rows: Carry) -> tuple[Carry, Any]:
        own = jax.tree.map(lambda x: x[0] if alone else x[index], (rows, xs))
        row, rest = jax.lax.optimization_barrier((index, own))[1]
        return traced_once(row, *rest)

    def put(every: Array, one: Array, index: Int[Array, ""]) -> Array:
        return one[None] if alone else every.at[index].set(one)

    def body(index: Int[Array, ""], computed: tuple[Carry, Any]) -> tuple[Carry, Any]:
        new = compute(index, computed[0])
        return jax.tree.map(partial(put, index=index), computed, new)

    shapes = jax.eval_shape(compute, jnp.int32(0), rows)[1]
    results = jax.tree.map(lambda x: jax.lax.full((length, *x.shape), 0, x.dtype), shapes)
    return jax.lax.fori_loop(0, number, body, (rows, results))


@partial(jax.tree_util.register_dataclass, data_fields=["vectors"], meta_fields=["tree", "shapes"])
@dataclass(frozen=True)
class Packed:
    """What a loop's step leaves, a vector of each dtype: few arrays are written at every step."""

    vectors: Any
    """A dict by dtype; from a loop, with a leading axis of steps. What float32 holds exactly, such
    as truth values and the smallest whole numbers, is float32 here."""
    tree: Any
    """The structure of what was packed."""
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    """Of one step's arrays."""

    def rows(self) -> Any:
        """The arrays that were packed, each with a leading axis of steps."""
        taken = dict.fromkeys(self.vectors, 0)
        rows = []
        for shape in self.shapes:
            kind = _kept_as(shape).name
            start, taken[kind] = taken[kind], taken[kind] + math.prod(shape.shape)
            every = self.vectors[kind][:, start : taken[kind]]
            rows.append(every.reshape(len(every), *shape.shape).astype(shape.dtype))
        return jax.tree.unflatten(self.tree, rows)


def pack(row: Any) -> Packed:
    """A tree of arrays as a row of a loop, from whose result `rows` takes them again."""
    leaves, tree = jax.tree.flatten(row)
    kinds: dict[str, list[Array]] = {}
    for x in leaves:
        kind = _kept_as(x)
        kinds.setdefault(kind.name, []).append(x.astype(kind).reshape(-1))
    vectors = {kind: jnp.concatenate(parts) for kind, parts in kinds.items()}
    return Packed(vectors, tree, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves))


def _kept_as(x: Array | jax.ShapeDtypeStruct) -> np.dtype:
    dtype = np.dtype(x.dtype)
    return np.promote_types(dtype, np.float32) if dtype.itemsize <= 2 else dtype
