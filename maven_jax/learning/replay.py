"""Experience replay of rows of episodes, on flashbax item buffers."""

from dataclasses import dataclass
from typing import Any

import flashbax
import jax
import jax.numpy as jnp
import numpy as np
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer, TrajectoryBufferSample
from jaxtyping import Array, Bool, Int

from maven_jax.types import ScalarKey


@jax.tree_util.register_static
@dataclass(frozen=True)
class Absent:
    """Stands in stored items for an array of no elements, such as the latent of a run without one.

    A state then holds no such arrays: XLA (of jax 0.11) crashes where devices share them.
    """

    shape: tuple[int, ...]
    """Of one item."""
    dtype: np.dtype


def make_replay(capacity: int, batch_size: int) -> TrajectoryBuffer:
    """A ring of `capacity` items, of which `sample` draws `batch_size` uniformly, with replacement.

    `add` takes one or more items, with a leading axis. Arrays of no elements are not stored. One
    draw serves a batch: flashbax's own `sample` makes several, each a loop to compile.

    Raises:
        ValueError: a batch is larger than the ring.
    """
    buffer = flashbax.make_item_buffer(
        max_length=capacity, min_length=1, sample_batch_size=batch_size, add_sequences=True
    )

    def init(item: Any) -> Any:
        return buffer.init(_without_empty(item, lead=0))

    def add(state: Any, items: Any) -> Any:
        return buffer.add(state, _without_empty(items, lead=1))

    def sample(state: Any, key: ScalarKey) -> TrajectoryBufferSample:
        stored = jnp.where(state.is_full, capacity, state.current_index).astype(jnp.uint32)
        index = jax.random.bits(key, (batch_size,), jnp.uint32) % stored
        sampled = jax.tree.map(lambda x: x[0, index], state.experience)
        return TrajectoryBufferSample(experience=_with_empty(sampled, batch_size))

    return buffer.replace(init=init, add=add, sample=sample)


def _without_empty(items: Any, lead: int) -> Any:
    """The tree with `Absent` for arrays of no elements; `lead` axes come before an item's own."""
    return jax.tree.map(lambda x: x if x.size else Absent(x.shape[lead:], x.dtype), items)


def _with_empty(items: Any, batch_size: int) -> Any:
    """What `_without_empty` took away is put back."""

    def put_back(x: Any) -> Any:
        return jnp.zeros((batch_size, *x.shape), x.dtype) if isinstance(x, Absent) else x

    return jax.tree.map(put_back, items, is_leaf=lambda x: isinstance(x, Absent))


def add_where(counted: Bool[Array, "K"] | Bool[Array, ""], state: Any, items: Any) -> Any:
    """A ring with those items added that are counted, one after the other, and no others.

    Args:
        counted: which items, or one flag for all; where more are than the ring has room for, the
            last ones stay.
        state: of a ring from `make_replay`.
        items: with a leading axis `K`.
    """
    items = _without_empty(items, lead=1)
    capacity = jax.tree.leaves(state.experience)[0].shape[1]
    counted = jnp.broadcast_to(counted, jax.tree.leaves(items)[0].shape[:1])
    rank, number = counted.cumsum(), counted.sum()
    is_kept = counted & (rank > number - capacity)
    index = (state.current_index + rank - 1) % capacity
    index = jnp.where(is_kept, index, capacity)  # out of range: dropped
    experience = jax.lax.platform_dependent(
        state.experience, items, index, cpu=_write_in_turn, default=_write
    )
    written = state.current_index + number
    return state.replace(
        experience=experience,
        current_index=(written % capacity).astype(state.current_index.dtype),
        is_full=state.is_full | (written >= capacity),
    )


def _write(ring: Any, items: Any, index: Int[Array, "*K"]) -> Any:
    """The ring with each item at its index; an index out of range drops it."""
    return jax.tree.map(lambda old, new: old.at[0, index].set(new, mode="drop"), ring, items)


def _write_in_turn(ring: Any, items: Any, index: Int[Array, "K"]) -> Any:
    """The same in a loop of which the compiler does not know the length.

    What it writes outside of a loop it may write again wherever the ring is read, and then copies
    the whole ring, since the old one is still to be read: twice an update.
    """

    def body(i: Int[Array, ""], ring: Any) -> Any:
        return _write(ring, jax.tree.map(lambda x: x[i], items), index[i])

    return jax.lax.fori_loop(0, jax.lax.optimization_barrier(jnp.int32(len(index))), body, ring)
