"""z of real numbers: Gaussian and logistic."""

from dataclasses import dataclass

import distrax
import jax.numpy as jnp

from maven_jax.latents.distribution import DistributionLatent, StateNetwork
from maven_jax.networks.layers import apply, fresh_params


@dataclass(frozen=True)
class LocationScaleLatent(DistributionLatent):
    """z = mu(s0) + sigma(s0) f(x): continuous, `Z` independent numbers (Mahajan et al. 2019).

    With x standard normal z is Gaussian; with x uniform and f the logit, z is logistic.

    Attributes:
        size: dimensions `Z` of z.
        hidden_size: width of the policy's hidden layer.
        base: the distribution's family.
    """

    size: int
    hidden_size: int
    base: type[distrax.Normal] | type[distrax.Logistic]
    learnt: bool = True
    discrete: bool = False

    @property
    def network(self) -> StateNetwork:
        return StateNetwork(self.hidden_size, 1, 2 * self.size)

    def init_params(self, key, state_size):
        return fresh_params(self.network, key, jnp.zeros(state_size))

    def distribution(self, params, initial_state):
        location, log_scale = jnp.split(apply(self.network, params, initial_state), 2, axis=-1)
        return distrax.Independent(
            self.base(location, jnp.exp(log_scale)), reinterpreted_batch_ndims=1
        )
