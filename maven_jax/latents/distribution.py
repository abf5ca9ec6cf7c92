"""What follows from a distribution over z whose weights learn by its score function."""

from abc import ABC, abstractmethod

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from maven_jax.functional.losses import latent_policy_loss
from maven_jax.latents.latent import Support
from maven_jax.networks.layers import Linear, relu_layers
from maven_jax.types import NetworkParams


class DistributionLatent(ABC):
    """What follows from a distribution over z whose weights learn by its score function.

    Mahajan et al. 2019, section 3: theta ascends J_RL by the gradient of log p(z | s0), with Adam.
    A subclass gives `size`, `discrete` and `distribution`.
    """

    size: int
    discrete: bool

    @abstractmethod
    def distribution(
        self, params: NetworkParams, initial_state: Float[Array, "*L S"]
    ) -> distrax.Distribution:
        """p(z | s0)."""

    def sample(self, params, key, initial_state):
        with jax.numpy_rank_promotion("allow"):  # distrax broadcasts its parameters
            return self.distribution(params, initial_state).sample(seed=key)

    def log_prob(self, params, initial_state, latent):
        return self.distribution(params, initial_state).log_prob(latent)

    def entropy(self, params, initial_state):
        return self.distribution(params, initial_state).entropy()

    def support(self, params, key, initial_state, num_draws):
        num_starts = initial_state.shape[0]
        if not self.discrete:

            def draw(initial_state):  # the key is shared, and so is the noise
                policy = self.distribution(params, initial_state)
                with jax.numpy_rank_promotion("allow"):
                    return policy.sample(seed=key, sample_shape=(num_draws,))

            draws = jax.vmap(draw, out_axes=1)(initial_state)
            return Support(draws, jnp.full((num_draws, num_starts), 1 / num_draws, draws.dtype))
        values = jnp.eye(self.size, dtype=initial_state.dtype)[:, None]
        values = jnp.broadcast_to(values, (self.size, num_starts, self.size))
        log_probs = jax.vmap(lambda z: self.log_prob(params, initial_state, z))(values)
        return Support(values, jnp.exp(log_probs))

    def loss(self, params, batch, hyperparameters, *, reference):
        policy = self.distribution(params, batch.initial_state)
        return latent_policy_loss(
            policy.log_prob(batch.latent),
            hyperparameters.latent_return_scale * batch.episode_return,
            policy.entropy(),
            hyperparameters.latent_entropy_weight,
            reference=reference,
        )

    def optimizer(self, hyperparameters):
        return optax.adam(hyperparameters.latent_learning_rate)


class StateNetwork(nn.Module):
    """Hidden ReLU layers of one width, then a linear layer: what every latent reads s0 with."""

    hidden_size: int
    hidden_layers: int
    num_outputs: int

    @nn.compact
    def __call__(self, initial_state: Float[Array, "*L S"]) -> Float[Array, "*L F"]:
        hidden = relu_layers(initial_state, self.hidden_size, self.hidden_layers)
        return Linear(self.num_outputs, name="output")(hidden)
