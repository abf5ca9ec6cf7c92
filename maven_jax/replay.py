"""Experience replay of whole episodes, on flashbax item buffers."""

import flashbax
import jax
import jax.numpy as jnp
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer

from maven_jax.types import Episode, LatentOutcome


def make_replay(capacity: int, batch_size: int) -> TrajectoryBuffer:
    """A ring of `capacity` items; `sample` draws `batch_size` uniformly, with replacement.

    Raises:
        ValueError: a batch is larger than the ring.
    """
    return flashbax.make_item_buffer(
        max_length=capacity, min_length=1, sample_batch_size=batch_size
    )


def swap_time_and_batch(episodes: Episode) -> Episode:
    """Time-major `T B ...` to batch-major `B T ...` and back; the latent stays `B Z`."""
    swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), episodes)
    return swapped._replace(latent=episodes.latent)


def latent_outcome(episodes: Episode) -> LatentOutcome:
    """What the latent policy learns from time-major episodes; returns are undiscounted."""
    return LatentOutcome(
        initial_state=episodes.global_state[0],
        latent=episodes.latent,
        episode_return=episodes.reward.sum(0),
    )
