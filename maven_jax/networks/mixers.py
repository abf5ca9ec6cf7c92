"""Mixing networks: from the agents' utilities to the values that Q-learning fits.

A mixer is called with utilities, the global state and z, and gives the joint value Q_tot; the
independent mixer gives a value for every agent instead. `JointCritic` is QTRAN's: it reads actions.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from maven_jax.networks.layers import Linear, fresh_params
from maven_jax.types import EnvSpec, NetworkParams, ScalarKey


class Mixer(nn.Module):
    """A mixer's weights; how it is called is between it and its objective.

    Q-learning calls it with utilities `[*L N]`, the global state `[*L S]` and z `[*L Z]`, where Z
    is 0 without a latent; it returns Q_tot `[*L]`.
    """

    def init_params(self, key: ScalarKey, spec: EnvSpec, latent_size: int) -> NetworkParams:
        """Fresh weights for an environment's sizes, as each layer initialises them."""
        sizes = spec.num_agents, spec.state_size, latent_size
        return self.init(key, *map(jnp.zeros, sizes))


class IndependentMixer(Mixer):
    """Each agent learns the team's return alone: independent Q-learning (Tan 1993)."""

    @nn.compact
    def __call__(
        self,
        utilities: Float[Array, "*L N"],
        global_state: Float[Array, "*L S"],
        latent: Float[Array, "*L Z"],
    ) -> Float[Array, "*L N"]:
        return utilities


class SumMixer(Mixer):
    """`Q_tot = sum_i Q_i`: value decomposition networks (Sunehag et al. 2018)."""

    @nn.compact
    def __call__(
        self,
        utilities: Float[Array, "*L N"],
        global_state: Float[Array, "*L S"],
        latent: Float[Array, "*L Z"],
    ) -> Float[Array, "*L"]:
        return utilities.sum(-1)


class QMixer(Mixer):
    """QMIX's two-layer mixer, its weights produced by hypernetworks of (state, z).

    `Q_tot = w_final . elu(w_1 q + b_1) + V(s, z)` (Rashid et al. 2018, section 4; MAVEN adds z).
    A monotonic mixer takes the absolute value of the mixing weights, so dQ_tot/dQ_i >= 0. What is
    linear in the state and z is one matrix: w_1, w_final, b_1 and the hidden layer of V, stacked in
    that order along its outputs. With `hypernet_size` the mixing weights w_1 and w_final have a
    hidden ReLU layer each, which stands in that matrix in their place.

    Attributes:
        embed_size: width of the mixing layer.
        skip_connections: add `w_skip . q`, with w_skip a hypernetwork output of its own, whose
            fresh bias is 1, as published: w_skip is near 1, and this term near that of VDN.
        monotonic: take the absolute value of w_1, w_final and w_skip.
        hypernet_size: width of those hidden layers; 0 for none.
        init_scale: factor on fresh weights.
    """

    embed_size: int
    skip_connections: bool = False
    monotonic: bool = True
    hypernet_size: int = 0
    init_scale: float = 1.0

    @nn.compact
    def __call__(
        self,
        utilities: Float[Array, "*L N"],
        global_state: Float[Array, "*L S"],
        latent: Float[Array, "*L Z"],
    ) -> Float[Array, "*L"]:
        size, num_agents = self.embed_size, utilities.shape[-1]
        condition = jnp.concatenate([global_state, latent], axis=-1)
        of_w_1 = self.hypernet_size or size * num_agents
        of_w_final = self.hypernet_size or size
        sizes = of_w_1, of_w_final, size, size
        stacked = Linear(sum(sizes), name="hyper")(condition)
        w_1, w_final, b_1, v_hidden = jnp.split(stacked, np.cumsum(sizes)[:-1], axis=-1)
        if self.hypernet_size:
            w_1 = Linear(size * num_agents, name="hyper_w_1")(nn.relu(w_1))
            w_final = Linear(size, name="hyper_w_final")(nn.relu(w_final))
        w_1 = self._constrain(w_1).reshape(*w_1.shape[:-1], num_agents, size)
        hidden = nn.elu((utilities[..., None] * w_1).sum(-2) + b_1)
        value = Linear(1, name="value")(nn.relu(v_hidden))[..., 0]
        q_tot = (hidden * self._constrain(w_final)).sum(-1) + value
        if self.skip_connections:
            w_skip = self._constrain(Linear(num_agents, name="skip")(condition))
            q_tot = q_tot + (utilities * w_skip).sum(-1)
        return q_tot

    def _constrain(self, weights: Array) -> Array:
        return jnp.abs(weights) if self.monotonic else weights

    def init_params(self, key: ScalarKey, spec: EnvSpec, latent_size: int) -> NetworkParams:
        """Fresh weights for an environment's sizes."""
        params = fresh_params(
            self,
            key,
            jnp.zeros(spec.num_agents),
            jnp.zeros(spec.state_size),
            jnp.zeros(latent_size),
        )
        if self.skip_connections:
            skip = params["params"]["skip"]
            skip["bias"] = jnp.ones_like(skip["bias"])
        return jax.tree.map(lambda x: self.init_scale * x, params)


class CounterfactualValues(NamedTuple):
    """What `JointCritic` gives: for each agent, the joint value of every action it might take."""

    q_joint: Float[Array, "*L N A"]
    value: Float[Array, "*L"]


class JointCritic(Mixer):
    """QTRAN-alt's networks: Q_jt(s, ., u_-i) of every agent i, and V(s) (Son et al. 2019).

    Q_jt reads the state and z, the actions of the others (the agent's own are zeros) and the
    agent's id, through two hidden ReLU layers; V reads the state and z through one.

    Attributes:
        hidden_size: width of the hidden layers.
        num_actions: `A`.
    """

    hidden_size: int
    num_actions: int

    @nn.compact
    def __call__(
        self,
        actions: Float[Array, "*L N A"],
        global_state: Float[Array, "*L S"],
        latent: Float[Array, "*L Z"],
    ) -> CounterfactualValues:
        *lead, num_agents, _ = actions.shape
        condition = jnp.concatenate([global_state, latent], axis=-1)
        each = jnp.broadcast_to(condition[..., None, :], (*lead, num_agents, condition.shape[-1]))
        own = jnp.eye(num_agents, dtype=actions.dtype)
        apart = (1 - own).reshape(*[1] * len(lead), num_agents, num_agents, 1)
        others = (actions[..., None, :, :] * apart).reshape(*lead, num_agents, -1)
        ids = jnp.broadcast_to(own, (*lead, num_agents, num_agents))
        hidden = jnp.concatenate([each, others, ids], axis=-1)
        for layer in range(2):
            hidden = nn.relu(Linear(self.hidden_size, name=f"q_hidden_{layer}")(hidden))
        q_joint = Linear(self.num_actions, name="q")(hidden)
        value_hidden = nn.relu(Linear(self.hidden_size, name="value_hidden")(condition))
        return CounterfactualValues(q_joint, Linear(1, name="value")(value_hidden)[..., 0])

    def init_params(self, key: ScalarKey, spec: EnvSpec, latent_size: int) -> NetworkParams:
        """Fresh weights for an environment's sizes."""
        return fresh_params(
            self,
            key,
            jnp.zeros((spec.num_agents, spec.num_actions)),
            jnp.zeros(spec.state_size),
            jnp.zeros(latent_size),
        )
