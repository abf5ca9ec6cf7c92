"""Normalised targets: values are learnt in units of the targets' own mean and spread.

Van Hasselt et al. 2016, section 2.1: targets are rescaled as they are met. That outputs keep their
values when the units change (their section 2.2) is left out, since a mixer's outputs are no linear
function of one layer: the units change slowly instead.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from maven_jax.types import TargetUnits

SLOWEST = 0.005
"""Weight of a new batch once many have been met: of some 200 the units are those."""
LEAST_VARIANCE = 1e-8
"""Below it targets count as all alike."""


def fresh_units() -> TargetUnits:
    """Before any batch: values are in units of the reward."""
    return TargetUnits(jnp.float32(0.0), jnp.float32(0.0), jnp.float32(1.0))


def spread_of(units: TargetUnits) -> Float[Array, ""]:
    """The standard deviation, above 0."""
    return jnp.sqrt(jnp.maximum(units.variance, LEAST_VARIANCE))


def in_reward_units(units: TargetUnits, values: Float[Array, "*L"]) -> Float[Array, "*L"]:
    """What normalised values stand for."""
    return units.mean + spread_of(units) * values


def follow(
    units: TargetUnits, batch_mean: Float[Array, ""], batch_variance: Float[Array, ""]
) -> TargetUnits:
    """The units after one more batch of targets: exact moments of few batches, then running ones.

    Args:
        units: before it.
        batch_mean: of its targets, in units of the reward.
        batch_variance: likewise.
    """
    weight = jnp.maximum(1 / (units.num_batches + 1), SLOWEST)
    moved = batch_mean - units.mean
    return TargetUnits(
        num_batches=units.num_batches + 1,
        mean=units.mean + weight * moved,
        variance=(1 - weight) * (units.variance + weight * moved**2) + weight * batch_variance,
    )
