"""z one-hot and uniform."""

from dataclasses import dataclass

import distrax
import jax.numpy as jnp

from maven_jax.latents.distribution import DistributionLatent


@dataclass(frozen=True)
class UniformLatent(DistributionLatent):
    """z one-hot and uniform, nothing learnt."""

    size: int
    learnt: bool = False
    discrete: bool = True

    def init_params(self, key, state_size):
        return {}

    def distribution(self, params, initial_state):
        logits = jnp.zeros((*initial_state.shape[:-1], self.size), initial_state.dtype)
        return distrax.OneHotCategorical(logits, dtype=jnp.float32)
