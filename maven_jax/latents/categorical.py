"""z one-hot, from a softmax of s0."""

from dataclasses import dataclass

import distrax
import jax.numpy as jnp

from maven_jax.latents.distribution import DistributionLatent, StateNetwork
from maven_jax.networks.layers import apply, fresh_params


@dataclass(frozen=True)
class CategoricalLatent(DistributionLatent):
    """z one-hot, p(z | s0) = softmax(g_theta(s0)): Mahajan et al. 2019, x uniform, z categorical.

    Attributes:
        size: number `Z` of values of z.
        hidden_size: width of the policy's hidden layer.
    """

    size: int
    hidden_size: int
    learnt: bool = True
    discrete: bool = True

    @property
    def network(self) -> StateNetwork:
        return StateNetwork(self.hidden_size, 1, self.size)

    def init_params(self, key, state_size):
        return fresh_params(self.network, key, jnp.zeros(state_size))

    def distribution(self, params, initial_state):
        logits = apply(self.network, params, initial_state)
        return distrax.OneHotCategorical(logits, dtype=jnp.float32)
