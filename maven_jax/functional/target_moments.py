"""Normalised targets: values are learnt in units of the targets' own mean and deviation.

The adaptive rescaling of targets (ART) of Pop-Art, van Hasselt et al. 2016, section 2. Outputs are
not preserved (Pop): where the moments change, so does for a while what the values stand for. The
target network keeps the moments that its weights were copied with, so that its values are fixed.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from maven_jax.types import Moments

SMALLEST_STEP = 0.005
"""Weight of a new batch once many have been met: the moments are those of the last 200 or so."""
SMALLEST_DEVIATION = 1e-4
"""That of targets which are all alike."""


def fresh_moments() -> Moments:
    """Before any batch: values are in units of the reward."""
    return Moments(jnp.float32(0.0), jnp.float32(1.0))


def standard_deviation(moments: Moments) -> Float[Array, ""]:
    """Of the targets, in units of the reward; never below `SMALLEST_DEVIATION`."""
    return jnp.sqrt(jnp.maximum(moments.variance, SMALLEST_DEVIATION**2))


def denormalize(moments: Moments, values: Float[Array, "*L"]) -> Float[Array, "*L"]:
    """Normalised values in units of the reward."""
    return moments.mean + standard_deviation(moments) * values


def update_moments(
    moments: Moments,
    num_batches: Int[Array, ""],
    batch_mean: Float[Array, ""],
    batch_variance: Float[Array, ""],
) -> Moments:
    """The moments with one more batch of targets: of all batches alike, later of the last ones.

    Args:
        moments: without it.
        num_batches: how many they are of.
        batch_mean: of its targets, in units of the reward.
        batch_variance: likewise.
    """
    weight = jnp.maximum(1 / (num_batches.astype(jnp.float32) + 1), SMALLEST_STEP)
    moved = batch_mean - moments.mean
    return Moments(
        mean=moments.mean + weight * moved,
        variance=(1 - weight) * (moments.variance + weight * moved**2) + weight * batch_variance,
    )
