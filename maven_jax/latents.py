"""The latent z = g_theta(x, s0): drawn once an episode and shared by all agents.

Each latent is a frozen dataclass of sizes whose methods are pure functions of parameters and
arrays. A null latent has size 0, so that concatenating it is a no-op.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import distrax
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from maven_jax.layers import Linear, apply
from maven_jax.types import NetworkParams, ScalarKey


@runtime_checkable
class Latent(Protocol):
    """A distribution over z given an episode's first state."""

    @property
    def size(self) -> int: ...

    @property
    def learnt(self) -> bool:
        """Whether there is a policy over z to update."""
        ...

    def init_params(self, key: ScalarKey, state_size: int) -> NetworkParams: ...

    def sample(
        self, params: NetworkParams, key: ScalarKey, initial_state: Float[Array, "E S"]
    ) -> Float[Array, "E Z"]: ...

    def log_prob(
        self,
        params: NetworkParams,
        initial_state: Float[Array, "*L S"],
        latent: Float[Array, "*L Z"],
    ) -> Float[Array, "*L"]: ...

    def entropy(
        self, params: NetworkParams, initial_state: Float[Array, "*L S"]
    ) -> Float[Array, "*L"]: ...


@dataclass(frozen=True)
class NullLatent:
    """No latent: size 0, probability 1, entropy 0 (QMIX)."""

    size: int = 0
    learnt: bool = False

    def init_params(self, key, state_size):
        return {}

    def sample(self, params, key, initial_state):
        return jnp.zeros((initial_state.shape[0], 0))

    def log_prob(self, params, initial_state, latent):
        return jnp.zeros(initial_state.shape[:-1])

    def entropy(self, params, initial_state):
        return jnp.zeros(initial_state.shape[:-1])


class LatentPolicyNetwork(nn.Module):
    """Logits of p(z | s0): one hidden ReLU layer."""

    latent_size: int
    hidden_size: int

    @nn.compact
    def __call__(self, initial_state: Float[Array, "*L S"]) -> Float[Array, "*L Z"]:
        hidden = nn.relu(Linear(self.hidden_size, name="hidden")(initial_state))
        return Linear(self.latent_size, name="logits")(hidden)


@dataclass(frozen=True)
class CategoricalLatent:
    """z one-hot, p(z | s0) = softmax(g_theta(s0)): Mahajan et al. 2019, x uniform, z categorical.

    Attributes:
        size: number `Z` of values of z.
        hidden_size: width of the policy's hidden layer.
    """

    size: int
    hidden_size: int
    learnt: bool = True

    def distribution(
        self, params: NetworkParams, initial_state: Float[Array, "*L S"]
    ) -> distrax.OneHotCategorical:
        network = LatentPolicyNetwork(self.size, self.hidden_size)
        return distrax.OneHotCategorical(apply(network, params, initial_state), dtype=jnp.float32)

    def init_params(self, key, state_size):
        network = LatentPolicyNetwork(self.size, self.hidden_size)
        return network.init(key, jnp.zeros(state_size))

    def sample(self, params, key, initial_state):
        return self.distribution(params, initial_state).sample(seed=key)

    def log_prob(self, params, initial_state, latent):
        return self.distribution(params, initial_state).log_prob(latent)

    def entropy(self, params, initial_state):
        return self.distribution(params, initial_state).entropy()


@dataclass(frozen=True)
class UniformLatent:
    """z one-hot and uniform, nothing learnt."""

    size: int
    learnt: bool = False

    def init_params(self, key, state_size):
        return {}

    def sample(self, params, key, initial_state):
        logits = jnp.zeros((*initial_state.shape[:-1], self.size))
        return distrax.OneHotCategorical(logits, dtype=jnp.float32).sample(seed=key)

    def log_prob(self, params, initial_state, latent):
        return jnp.full(initial_state.shape[:-1], -jnp.log(self.size))

    def entropy(self, params, initial_state):
        return jnp.full(initial_state.shape[:-1], jnp.log(self.size))
