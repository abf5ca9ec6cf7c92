"""No latent."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax

from maven_jax.latents.latent import Support


@dataclass(frozen=True)
class NullLatent:
    """No latent: size 0, probability 1, entropy 0."""

    size: int = 0
    learnt: bool = False
    discrete: bool = True

    def init_params(self, key, state_size):
        return {}

    def sample(self, params, key, initial_state):
        return jnp.zeros((initial_state.shape[0], 0), initial_state.dtype)

    def log_prob(self, params, initial_state, latent):
        return jnp.zeros(initial_state.shape[:-1], initial_state.dtype)

    def entropy(self, params, initial_state):
        return jnp.zeros(initial_state.shape[:-1], initial_state.dtype)

    def support(self, params, key, initial_state, num_draws):
        num_envs, dtype = initial_state.shape[0], initial_state.dtype
        return Support(jnp.zeros((0, num_envs, 0), dtype), jnp.zeros((0, num_envs), dtype))

    def loss(self, params, batch, hyperparameters, *, reference):
        return jnp.float32(0.0)

    def optimizer(self, hyperparameters):
        return optax.identity()
