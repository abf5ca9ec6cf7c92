"""A custom latent: a learnt p(z | s0) with a minimum probability for every value of z.

python docs/examples/own_latent.py
"""

from dataclasses import dataclass

import distrax
import jax.numpy as jnp

import maven_jax
from maven_jax.latents import CategoricalLatent


@dataclass(frozen=True)
class FlooredLatent(CategoricalLatent):
    """Categorical z, each value of which has a probability of at least `floor / size`."""

    floor: float = 0.2

    def distribution(self, params, initial_state):
        """p(z | s0) of first states `[..., S]`; its samples are one-hot, `[..., Z]`."""
        learnt = super().distribution(params, initial_state).probs
        probs = (1 - self.floor) * learnt + self.floor / self.size
        return distrax.OneHotCategorical(probs=probs, dtype=jnp.float32)


maven_jax.register_latent("floored", lambda config: FlooredLatent(config.size, config.hidden_size))

if __name__ == "__main__":
    config = {"algorithm": "maven", "latent": {"kind": "floored"}}
    frame = maven_jax.train(config, seeds=2, overrides="smoke").frame()
    print(frame[["seed", "return", "latent_probs_0", "latent_probs_1"]].tail())
