"""What is read off episodes, and their two layouts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from maven_jax.types import Episodes, LatentOutcome


def swap_time_and_batch(episodes: Episodes) -> Episodes:
    """Time-major `T B ...` to batch-major `B T ...` and back; one z a row stays `B Z`."""
    swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), episodes)
    return swapped if episodes.first is not None else swapped._replace(latent=episodes.latent)


def as_floats(episodes: Episodes, latent_size: int = 0) -> Episodes:
    """Views, states and z as networks read them, of whatever dtype they are stored in.

    Args:
        episodes: from a replay.
        latent_size: `Z`, of a one-hot z that is stored as its index.
    """
    latent = episodes.latent
    if not jnp.issubdtype(latent.dtype, jnp.floating):
        latent = jax.nn.one_hot(latent, latent_size, dtype=jnp.float32)
    return episodes._replace(
        agents_view=episodes.agents_view.astype(jnp.float32),
        global_state=episodes.global_state.astype(jnp.float32),
        latent=latent,
    )


def as_stored(episodes: Episodes, num_actions: int, *, one_hot: bool) -> Episodes:
    """Actions, and z where it stands at every slot and is one-hot, as the smallest whole numbers.

    Args:
        episodes: as they were played.
        num_actions: `A`.
        one_hot: whether z is.
    """
    latent = episodes.latent
    if episodes.first is not None and one_hot:
        latent = latent.argmax(-1).astype(smallest_index(latent.shape[-1]))
    return episodes._replace(
        actions=episodes.actions.astype(smallest_index(num_actions)), latent=latent
    )


def smallest_index(count: int) -> type[jnp.int8] | type[jnp.int32]:
    """The type of an index below `count`."""
    return jnp.int8 if count <= 2**7 else jnp.int32


def step_latent(episodes: Episodes) -> Float[Array, "*#L B Z"]:
    """The z of time-major rows, or the one that each of their steps was taken with."""
    return episodes.latent if episodes.first is None else episodes.latent[:-1]


def next_latent(episodes: Episodes) -> Float[Array, "*#L B Z"]:
    """The z of time-major rows, or of the slot after each step: that of the same episode."""
    return episodes.latent if episodes.first is None else episodes.latent[1:]


def start_index(first: Bool[Array, "T B"]) -> Int[Array, "T B"]:
    """At every step of time-major rows, the slot of its episode's first step."""
    steps = jnp.arange(len(first)).reshape(-1, *[1] * (first.ndim - 1))
    return jax.lax.cummax(jnp.where(first, steps, 0))


def from_start(x: Array, first: Bool[Array, "T B"]) -> Array:
    """At every step of time-major rows `T B ...`, the value of its episode's first step."""
    began = start_index(first)
    return jnp.take_along_axis(x, began.reshape(*began.shape, *[1] * (x.ndim - began.ndim)), axis=0)


def latent_outcome(episodes: Episodes) -> LatentOutcome:
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
