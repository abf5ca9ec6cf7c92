"""A custom mixer, and an algorithm that learns with it: Q_tot = sum_i |w_i(s, z)| Q_i + V(s, z).

python docs/examples/own_mixer.py
"""

import flax.linen as nn
import jax.numpy as jnp

import maven_jax
from maven_jax.networks.layers import Linear


class WeightedSum(maven_jax.mixers.Mixer):
    """As monotonic as QMIX's mixer, but linear in the utilities."""

    @nn.compact
    def __call__(self, utilities, global_state, latent):
        """Q_tot `[...]` of utilities `[..., N]`, the global state `[..., S]` and z `[..., Z]`."""
        condition = jnp.concatenate([global_state, latent], axis=-1)
        weights = jnp.abs(Linear(utilities.shape[-1], name="weights")(condition))
        value = Linear(1, name="value")(condition)[..., 0]
        return (weights * utilities).sum(-1) + value


maven_jax.register_mixer("weighted_sum", lambda config, spec: WeightedSum())
maven_jax.register_algorithm("weighted", mixer="weighted_sum")
maven_jax.register_algorithm("maven_weighted", mixer="weighted_sum", latent=True)

if __name__ == "__main__":
    results = maven_jax.train({"algorithm": "weighted"}, seeds=2, overrides="smoke")
    print(results.frame()[["seed", "env_steps", "return"]].tail())
