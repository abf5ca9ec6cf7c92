"""What is read off episodes, and their two layouts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from maven_jax.types import Episode, LatentOutcome


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


def last_step(mask: Bool[Array, "T B"]) -> Bool[Array, "T B"]:
    """True at the last step that each episode really took."""
    following = jnp.concatenate([mask[1:], jnp.zeros_like(mask[:1])])
    return mask & ~following
