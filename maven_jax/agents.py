"""The recurrent utility network Q_i(tau_i, u; z), shared by all agents."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from maven_jax.layers import GRU, GRUParams, Linear, gru_project, gru_step, gru_unroll
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
    agents_view: Float[Array, "T1 B N O"], actions: Int[Array, "T B N"], num_actions: int
) -> Float[Array, "T1 B N I"]:
    """`agent_inputs` for whole episodes: the last action at t = 0 is zeros."""
    taken = jax.nn.one_hot(actions, num_actions, dtype=agents_view.dtype)
    last_action = jnp.concatenate([jnp.zeros_like(taken[:1]), taken])
    return agent_inputs(agents_view, last_action)


class PlainHead(nn.Module):
    """Utilities linear in the hidden state; the latent is not read (QMIX)."""

    num_actions: int

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "*T B N H"], latent: Float[Array, "B Z"]
    ) -> Float[Array, "*T B N A"]:
        return Linear(self.num_actions, name="utilities")(hidden)


class LatentHead(nn.Module):
    """Utilities `W(z, id) @ h`, with W one linear layer of the latent and the agent's id.

    Mahajan et al. 2019, section 3: the hypernetwork that conditions the agents on z. W is constant
    over an episode: unrolling computes it once.

    Attributes:
        num_actions: `A`.
        paired: read the outer product of z and id, without a bias, in place of the two side by
            side: with a one-hot z no two values of z share a weight of this layer.
    """

    num_actions: int
    paired: bool = False

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "*T B N H"], latent: Float[Array, "B Z"]
    ) -> Float[Array, "*T B N A"]:
        *_, batch, num_agents, size = hidden.shape
        own = jnp.eye(num_agents, dtype=latent.dtype)
        who = jnp.broadcast_to(own, (batch, num_agents, num_agents))
        what = jnp.broadcast_to(latent[:, None], (batch, num_agents, latent.shape[-1]))
        if self.paired:
            pairs = (who[..., None] * what[..., None, :]).reshape(batch, num_agents, -1)
            condition, use_bias = pairs, False
        else:
            condition, use_bias = jnp.concatenate([what, who], axis=-1), True
        hypernetwork = Linear(self.num_actions * size, use_bias, name="hypernetwork")
        weights = hypernetwork(condition).reshape(batch, num_agents, self.num_actions, size)
        return jnp.einsum("...h,...ah->...a", hidden, weights)


class RecurrentAgent(nn.Module):
    """Linear, ReLU, GRU, head: the recurrent agent of QMIX and MAVEN.

    Attributes:
        hidden_size: width `H` of the first layer and of the recurrent state.
        num_actions: `A`.
        latent_head: condition the last layer on the latent z (MAVEN).
        paired_head: give every pair of z and agent a last layer of its own.
    """

    hidden_size: int
    num_actions: int
    latent_head: bool = False
    paired_head: bool = False

    def setup(self) -> None:
        self.input_layer = Linear(self.hidden_size)
        self.gru = GRU(self.hidden_size)
        self.head = (
            LatentHead(self.num_actions, self.paired_head)
            if self.latent_head
            else PlainHead(self.num_actions)
        )

    def initial_carry(self, num_envs: int, num_agents: int) -> Float[Array, "E N H"]:
        """The recurrent state before the first observation: zeros."""
        return jnp.zeros((num_envs, num_agents, self.hidden_size), jnp.float32)

    def _encode(self, inputs: Float[Array, "*L N I"]) -> tuple[GRUParams, Float[Array, "*L N H"]]:
        return self.gru(self.hidden_size), nn.relu(self.input_layer(inputs))

    def __call__(
        self,
        carry: Float[Array, "E N H"],
        inputs: Float[Array, "E N I"],
        latent: Float[Array, "E Z"],
    ) -> tuple[Float[Array, "E N H"], Float[Array, "E N A"]]:
        """One time step: the new recurrent state and the utilities of every action."""
        gru, encoded = self._encode(inputs)
        carry = gru_step(gru, carry, gru_project(gru, encoded))
        return carry, self.head(carry, latent)

    def unroll(
        self, inputs: Float[Array, "T B N I"], latent: Float[Array, "B Z"]
    ) -> Float[Array, "T B N A"]:
        """The utilities along whole episodes, from the initial state on."""
        gru, encoded = self._encode(inputs)
        carry = self.initial_carry(*inputs.shape[1:3])
        return self.head(gru_unroll(gru, carry, encoded), latent)

    def init_params(self, key: Array, spec: EnvSpec, latent_size: int):
        """Fresh weights for an environment's sizes."""
        inputs = jnp.zeros(
            (1, spec.num_agents, spec.view_size + spec.num_actions + spec.num_agents)
        )
        carry = self.initial_carry(1, spec.num_agents)
        return self.init(key, carry, inputs, jnp.zeros((1, latent_size)))
