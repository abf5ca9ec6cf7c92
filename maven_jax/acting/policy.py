"""Trained agents in a loop of your own: from an observation to the actions, a step at a time."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from maven_jax.acting.rollout import Acting, act, initial_acting
from maven_jax.functional.exploration import act_greedily
from maven_jax.latents import Latent
from maven_jax.networks.agents import RecurrentAgent
from maven_jax.networks.layers import apply
from maven_jax.types import NetworkParams, ScalarKey


class Carry(NamedTuple):
    """What a team carries from step to step of an episode."""

    hidden: Float[Array, "N H"]
    """The recurrent state of each agent."""
    last_action: Int[Array, "N"]
    """-1 before the first."""
    latent: Float[Array, "Z"]
    """z of the episode; empty where the algorithm has none. `carry._replace(latent=z)` plays
    another."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "latent_params"),
    meta_fields=("agent", "latent", "num_agents"),
)
@dataclass(frozen=True)
class Policy:
    """Greedy agents of one run: `reset` at an episode's start, then `act` at every step.

    Both methods are pure and jitted, and a policy is a pytree of its weights. So it can be an
    argument of `jit`, `jax.vmap(policy.act)` acts in many environments, and `jax.vmap(Policy.act)`
    over stacked weights acts with many policies.

    Attributes:
        agent: the utility network.
        latent: the distribution that z is drawn from.
        num_agents: `N`.
        params: weights of the utility network.
        latent_params: weights of the latent policy.
    """

    agent: RecurrentAgent
    latent: Latent
    num_agents: int
    params: NetworkParams
    latent_params: NetworkParams

    @jax.jit
    def reset(self, key: ScalarKey, observation: Any) -> Carry:
        """What the team carries into an episode's first step.

        Args:
            key: for the draw of z.
            observation: the first of the episode; its `global_state` `[S]` is read.
        """
        initial_state = observation.global_state[None].astype("float32")
        latent = self.latent.sample(self.latent_params, key, initial_state)
        acting = initial_acting(self.agent, 1, self.num_agents)
        return Carry(acting.hidden[0], acting.last_action[0], latent[0])

    @jax.jit
    def act(self, carry: Carry, observation: Any) -> tuple[Int[Array, "N"], Carry]:
        """The legal action of highest utility of each agent, and what the team carries on.

        Args:
            carry: from `reset`, or from the previous step.
            observation: `agents_view` `[N, O]` and `action_mask` `[N, A]` are read.
        """
        one = jax.tree.map(lambda x: x[None], (carry, observation))  # an environment
        (hidden, last_action, latent), observation = one
        head_weights = apply(
            self.agent, self.params, latent, self.num_agents, method="head_weights"
        )
        unread = jax.random.key(0)  # greedy actions draw nothing
        acting, _, actions = act(
            self.agent,
            self.params,
            unread,
            Acting(hidden, last_action),
            observation,
            head_weights,
            act_greedily,
        )
        return actions[0], Carry(acting.hidden[0], acting.last_action[0], carry.latent)
