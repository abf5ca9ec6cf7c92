"""The recurrent utility network Q_i(tau_i, u; z), shared by all agents."""

from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from maven_jax.config.sections import LatentHeadKind
from maven_jax.errors import unknown
from maven_jax.networks.gru import GRU, GRUParams, gru_project, gru_step, gru_unroll
from maven_jax.networks.layers import Linear, fresh_params, normalised
from maven_jax.types import EnvSpec


def agent_inputs(
    agents_view: Float[Array, "*L N O"], last_action: Float[Array, "*L N A"]
) -> Float[Array, "*L N O+A+N"]:
    """What an agent reads: its view, its last action one-hot (zeros at t = 0), its id one-hot."""
    num_agents = agents_view.shape[-2]
    agent_id = jnp.broadcast_to(
        jnp.eye(num_agents, dtype=agents_view.dtype), (*agents_view.shape[:-1], num_agents)
    )
    return jnp.concatenate([agents_view, last_action, agent_id], axis=-1)


def episode_inputs(
    agents_view: Float[Array, "T1 B N O"],
    actions: Int[Array, "T B N"],
    num_actions: int,
    first: Bool[Array, "T1 B"] | None = None,
) -> Float[Array, "T1 B N I"]:
    """`agent_inputs` along rows: the last action in an episode's first slot is zeros.

    Args:
        agents_view: what was seen in every slot.
        actions: those taken.
        num_actions: `A`.
        first: where episodes begin; None where each row is one.
    """
    taken = jax.nn.one_hot(actions, num_actions, dtype=agents_view.dtype)
    last_action = jnp.concatenate([jnp.zeros_like(taken[:1]), taken])
    if first is not None:
        last_action = jnp.where(first[..., None, None], 0, last_action)
    return agent_inputs(agents_view, last_action)


class PlainHead(nn.Module):
    """Utilities linear in the hidden state; the latent is not read (QMIX)."""

    num_actions: int

    def setup(self) -> None:
        self.utilities = Linear(self.num_actions)

    def weights(self, latent: Float[Array, "*L Z"], num_agents: int) -> None:
        """Nothing depends on z."""

    def __call__(
        self, hidden: Float[Array, "*T B N H"], latent: Float[Array, "*#T B Z"]
    ) -> Float[Array, "*T B N A"]:
        return self.weighted(hidden, None)

    def weighted(self, hidden: Float[Array, "*T B N H"], weights: Any) -> Float[Array, "*T B N A"]:
        """Utilities by what `weights` gave."""
        return self.utilities(hidden)


LATENT_HEADS = get_args(LatentHeadKind)


class LatentHead(nn.Module):
    """Utilities `W(z, id) @ h`, with W one linear layer of the latent and the agent's id.

    Mahajan et al. 2019, section 3: the hypernetwork that conditions the agents on z. Where z is one
    for a whole episode, W is computed once. Where it changes along a row, no W is: `W(z, id) @ h`
    is linear in z and id and in h, so it is their products with one matrix.

    Attributes:
        num_actions: `A`.
        hidden_size: `H`.
        kind: `additive`, as published. `paired` reads the outer product of z and id, without a
            bias, in place of the two side by side: with a one-hot z no two values of z share a
            weight of this layer. `residual` adds W(z, id), scaled so that with a one-hot z its
            fresh weights are as large, to the linear layer of a plain head.
        scale: a further factor on W(z, id).
    """

    num_actions: int
    hidden_size: int
    kind: str = "additive"
    scale: float = 1.0

    def setup(self) -> None:
        if self.kind not in LATENT_HEADS:
            raise unknown("latent head", self.kind, LATENT_HEADS)
        self.hypernetwork = Linear(self.num_actions * self.hidden_size, self.kind != "paired")
        if self.kind == "residual":
            self.utilities = Linear(self.num_actions)

    def weights(self, latent: Float[Array, "*L Z"], num_agents: int) -> Float[Array, "*L N A H"]:
        """W of every agent: the same for as long as z is."""
        condition = self._condition(latent, num_agents)
        return self._weights_of(condition).reshape(*condition.shape[:-1], -1, self.hidden_size)

    def weighted(self, hidden: Float[Array, "*T B N H"], weights: Any) -> Float[Array, "*T B N A"]:
        """Utilities by what `weights` gave."""
        return self._added_to(jnp.einsum("...h,...ah->...a", hidden, weights), hidden)

    def __call__(
        self, hidden: Float[Array, "*T B N H"], latent: Float[Array, "*#T B Z"]
    ) -> Float[Array, "*T B N A"]:
        num_agents, size = hidden.shape[-2:]
        if latent.ndim == 2:
            return self.weighted(hidden, self.weights(latent, num_agents))
        condition = self._condition(latent, num_agents)
        each = jnp.eye(condition.shape[-1], dtype=condition.dtype)
        offset = self._weights_of(jnp.zeros_like(each[0])).reshape(-1, size)
        slopes = self._weights_of(each).reshape(len(each), -1, size) - offset[None]
        by_entry = jnp.einsum("...h,kah->...ka", hidden, slopes)
        utilities = jnp.einsum("...ka,...k->...a", by_entry, condition) + hidden @ offset.T
        return self._added_to(utilities, hidden)

    def _weights_of(self, condition: Float[Array, "*L K"]) -> Float[Array, "*L AH"]:
        scale = self.scale
        if self.kind == "residual":
            # A weight is a sum of three (of z, of the id, a bias), each drawn for K inputs, not H.
            scale *= (condition.shape[-1] / (3 * self.hidden_size)) ** 0.5
        return scale * self.hypernetwork(condition)

    def _added_to(
        self, utilities: Float[Array, "*T B N A"], hidden: Float[Array, "*T B N H"]
    ) -> Float[Array, "*T B N A"]:
        return utilities + self.utilities(hidden) if self.kind == "residual" else utilities

    def _condition(
        self, latent: Float[Array, "*L Z"], num_agents: int
    ) -> Float[Array, "*L {num_agents} K"]:
        """What the hypernetwork reads: z and every agent's id."""
        own = jnp.eye(num_agents, dtype=latent.dtype)
        lead = (*latent.shape[:-1], num_agents)
        who = jnp.broadcast_to(own, (*lead, num_agents))
        what = jnp.broadcast_to(latent[..., None, :], (*lead, latent.shape[-1]))
        if self.kind == "paired":
            return (who[..., None] * what[..., None, :]).reshape(*lead, -1)
        return jnp.concatenate([what, who], axis=-1)


class RecurrentAgent(nn.Module):
    """Linear, ReLU, GRU, head: the recurrent agent of QMIX and MAVEN.

    Attributes:
        hidden_size: width `H` of the hidden layers and of the recurrent state.
        num_actions: `A`.
        latent_head: the kind of `LatentHead` that reads the latent z (MAVEN); None for none.
        layer_norm: normalise each hidden layer before its ReLU.
        latent_head_scale: the `scale` of that head.
        hidden_layers: how many there are before the GRU.
    """

    hidden_size: int
    num_actions: int
    latent_head: str | None = None
    layer_norm: bool = False
    latent_head_scale: float = 1.0
    hidden_layers: int = 1

    def setup(self) -> None:
        self.input_layer = Linear(self.hidden_size)
        self.further_layers = [Linear(self.hidden_size) for _ in range(self.hidden_layers - 1)]
        self.gru = GRU(self.hidden_size)
        self.head = (
            LatentHead(self.num_actions, self.hidden_size, self.latent_head, self.latent_head_scale)
            if self.latent_head
            else PlainHead(self.num_actions)
        )

    def initial_carry(self, num_envs: int, num_agents: int) -> Float[Array, "E N H"]:
        """The recurrent state before the first observation: zeros."""
        return jnp.zeros((num_envs, num_agents, self.hidden_size), jnp.float32)

    def _encode(self, inputs: Float[Array, "*L N I"]) -> tuple[GRUParams, Float[Array, "*L N H"]]:
        hidden = inputs
        for layer in (self.input_layer, *self.further_layers):
            hidden = layer(hidden)
            hidden = nn.relu(normalised(hidden) if self.layer_norm else hidden)
        return self.gru(self.hidden_size), hidden

    def head_weights(
        self, latent: Float[Array, "E Z"], num_agents: int
    ) -> Float[Array, "E N A H"] | None:
        """What `step` needs of z, to compute where z changes; None where z is not read."""
        return self.head.weights(latent, num_agents)

    def step(
        self,
        carry: Float[Array, "E N H"],
        inputs: Float[Array, "E N I"],
        head_weights: Float[Array, "E N A H"] | None,
    ) -> tuple[Float[Array, "E N H"], Float[Array, "E N A"]]:
        """One time step: the new recurrent state and the utilities of every action."""
        gru, encoded = self._encode(inputs)
        carry = gru_step(gru, carry, gru_project(gru, encoded))
        return carry, self.head.weighted(carry, head_weights)

    def __call__(
        self,
        carry: Float[Array, "E N H"],
        inputs: Float[Array, "E N I"],
        latent: Float[Array, "E Z"],
    ) -> tuple[Float[Array, "E N H"], Float[Array, "E N A"]]:
        """`step` by a latent: of one step alone."""
        return self.step(carry, inputs, self.head_weights(latent, inputs.shape[-2]))

    def unroll(
        self,
        inputs: Float[Array, "T B N I"],
        latent: Float[Array, "*#L B Z"],
        first: Bool[Array, "T B"] | None = None,
    ) -> Float[Array, "T B N A"]:
        """The utilities along rows, from the initial state on.

        Args:
            inputs: what is read in every slot.
            latent: z, of every row or of every slot.
            first: where episodes begin, and with them the recurrent state; None where a row is one.
        """
        gru, encoded = self._encode(inputs)
        carry = self.initial_carry(*inputs.shape[1:3]).astype(encoded.dtype)
        if first is not None:
            first = first[..., None]
        return self.head(gru_unroll(gru, carry, encoded, first), latent)

    def init_params(self, key: Array, spec: EnvSpec, latent_size: int):
        """Fresh weights for an environment's sizes."""
        inputs = jnp.zeros(
            (1, spec.num_agents, spec.view_size + spec.num_actions + spec.num_agents)
        )
        carry = self.initial_carry(1, spec.num_agents)
        return fresh_params(self, key, carry, inputs, jnp.zeros((1, latent_size)))
