"""Experience replay of whole episodes, on flashbax item buffers."""

from typing import Any

import flashbax
import jax
import jax.numpy as jnp
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer

from maven_jax.types import Episode, LatentOutcome


def make_replay(capacity: int, batch_size: int) -> TrajectoryBuffer:
    """A ring of `capacity` items, of which `sample` draws `batch_size` uniformly, with replacement.

    `add` takes one or more items, with a leading axis.

    Raises:
        ValueError: a batch is larger than the ring.
    """
    return flashbax.make_item_buffer(
        max_length=capacity, min_length=1, sample_batch_size=batch_size, add_sequences=True
    )


def add_unless(rests: jax.Array, ring: TrajectoryBuffer, state: Any, items: Any) -> Any:
    """`ring.add`; where `rests`, the ring stays as it is: what is there is written once more.

    Args:
        rests: one flag.
        ring: from `make_replay`.
        state: its state.
        items: with a leading axis.
    """
    written = state.current_index + jnp.arange(jax.tree.leaves(items)[0].shape[0])
    there = jax.tree.map(lambda x: x[0, written % x.shape[1]], state.experience)
    items = jax.tree.map(lambda old, new: jnp.where(rests, old, new), there, items)
    added = ring.add(state, items)
    return added.replace(
        current_index=jnp.where(rests, state.current_index, added.current_index),
        is_full=jnp.where(rests, state.is_full, added.is_full),
    )


def swap_time_and_batch(episodes: Episode) -> Episode:
    """Time-major `T B ...` to batch-major `B T ...` and back; the latent stays `B Z`."""
    swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), episodes)
    return swapped._replace(latent=episodes.latent)


def as_floats(episodes: Episode) -> Episode:
    """Views and states as float32, as networks read them, of whatever dtype they are stored in."""
    return episodes._replace(
        agents_view=episodes.agents_view.astype(jnp.float32),
        global_state=episodes.global_state.astype(jnp.float32),
    )


def latent_outcome(episodes: Episode) -> LatentOutcome:
    """What the latent policy learns from time-major episodes; returns are undiscounted."""
    return LatentOutcome(
        initial_state=episodes.global_state[0].astype(jnp.float32),
        latent=episodes.latent,
        episode_return=episodes.reward.sum(0),
    )
