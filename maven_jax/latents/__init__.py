"""The latent z = g_theta(x, s0): drawn once an episode and shared by all agents.

Each latent is a frozen dataclass of sizes whose methods are pure functions of parameters and
arrays. A null latent has size 0, so that concatenating it is a no-op.
"""

from maven_jax.latents.bandit import BanditLatent
from maven_jax.latents.categorical import CategoricalLatent
from maven_jax.latents.distribution import DistributionLatent, StateNetwork
from maven_jax.latents.latent import Latent, Support
from maven_jax.latents.location_scale import LocationScaleLatent
from maven_jax.latents.null import NullLatent
from maven_jax.latents.uniform import UniformLatent

__all__ = [
    "BanditLatent",
    "CategoricalLatent",
    "DistributionLatent",
    "Latent",
    "LocationScaleLatent",
    "NullLatent",
    "StateNetwork",
    "Support",
    "UniformLatent",
]
