"""Mixing networks: from the agents' utilities to the joint value Q_tot."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from maven_jax.layers import Linear
from maven_jax.types import EnvSpec


class MonotonicMixer(nn.Module):
    """QMIX's two-layer mixer, its weights produced by hypernetworks of (state, z).

    `Q_tot = w_final . elu(w_1 q + b_1) + V(s, z)` (Rashid et al. 2018, section 4; MAVEN adds z).
    The mixing weights pass through `weight_transform`; with `abs`, dQ_tot/dQ_i >= 0. The four
    hypernetworks are linear in the same input, so they are one matrix: w_1, w_final, b_1 and the
    hidden layer of V, stacked in that order along its outputs.

    Attributes:
        embed_size: width of the mixing layer.
        skip_connections: add `w_skip . q`, with w_skip a hypernetwork output of its own.
        weight_transform: applied to w_1, w_final and w_skip.
    """

    embed_size: int
    skip_connections: bool = False
    weight_transform: Callable[[Array], Array] = jnp.abs

    @nn.compact
    def __call__(
        self,
        utilities: Float[Array, "*L N"],
        global_state: Float[Array, "*L S"],
        latent: Float[Array, "*L Z"],
    ) -> Float[Array, "*L"]:
        size, num_agents = self.embed_size, utilities.shape[-1]
        condition = jnp.concatenate([global_state, latent], axis=-1)
        hyper = Linear(size * (num_agents + 3), name="hyper")(condition)
        w_1, w_final, b_1, v_hidden = jnp.split(
            hyper, [size * num_agents, size * (num_agents + 1), size * (num_agents + 2)], axis=-1
        )
        w_1 = self.weight_transform(w_1).reshape(*w_1.shape[:-1], num_agents, size)
        hidden = nn.elu((utilities[..., None] * w_1).sum(-2) + b_1)
        value = Linear(1, name="value")(nn.relu(v_hidden))[..., 0]
        q_tot = (hidden * self.weight_transform(w_final)).sum(-1) + value
        if self.skip_connections:
            w_skip = self.weight_transform(Linear(num_agents, name="skip")(condition))
            q_tot = q_tot + (utilities * w_skip).sum(-1)
        return q_tot

    def init_params(self, key: Array, spec: EnvSpec, latent_size: int):
        """Fresh weights for an environment's sizes."""
        return self.init(
            key,
            jnp.zeros(spec.num_agents),
            jnp.zeros(spec.state_size),
            jnp.zeros(latent_size),
        )
