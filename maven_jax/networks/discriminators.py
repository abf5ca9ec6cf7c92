"""The variational posterior q_v(z | sigma(tau)): what the trajectory tells about z.

It reads the states and the agents' Boltzmann policies (Mahajan et al. 2019, section 3.1).
"""

from typing import NamedTuple

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from maven_jax.episodes import last_step
from maven_jax.networks.gru import GRU, gru_unroll
from maven_jax.networks.layers import Linear, apply, fresh_params, relu_layers
from maven_jax.types import EnvSpec, NetworkParams, ScalarKey


class Posterior(NamedTuple):
    """Log q_v of the z that was played, at the steps where the discriminator speaks.

    A feed-forward discriminator speaks at every step taken, a recurrent one at the last: `weight`
    is 1 there and 0 elsewhere.
    """

    log_prob: Float[Array, "T B"]
    weight: Float[Array, "T B"]


def trajectory_features(
    policies: Float[Array, "T B N A"], global_state: Float[Array, "T B S"]
) -> Float[Array, "T B N*A+S"]:
    """What the discriminators read at each step: every agent's policy, then the state.

    `policies` are probabilities, or actions one-hot.
    """
    return jnp.concatenate([policies.reshape(*policies.shape[:-2], -1), global_state], axis=-1)


def feature_size(spec: EnvSpec) -> int:
    """The last axis of `trajectory_features`."""
    return spec.num_agents * spec.num_actions + spec.state_size


class CategoricalHead(nn.Module):
    """Hidden ReLU layers, then log q(z | .) of a one-hot z."""

    hidden_size: int
    hidden_layers: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "*L F"], latent: Float[Array, "*L Z"]
    ) -> Float[Array, "*L"]:
        features = relu_layers(features, self.hidden_size, self.hidden_layers)
        logits = Linear(latent.shape[-1], name="logits")(features)
        return (jax.nn.log_softmax(logits) * latent).sum(-1)


class GaussianHead(nn.Module):
    """Hidden ReLU layers, then log q(z | .) of a continuous z: a diagonal Gaussian, in nats."""

    hidden_size: int
    hidden_layers: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "*L F"], latent: Float[Array, "*L Z"]
    ) -> Float[Array, "*L"]:
        features = relu_layers(features, self.hidden_size, self.hidden_layers)
        location = Linear(latent.shape[-1], name="location")(features)
        scale = jnp.exp(Linear(latent.shape[-1], name="log_scale")(features))
        return distrax.Normal(location, scale).log_prob(latent).sum(-1)


class Discriminator(nn.Module):
    """A network from `features [T B F]`, `mask [T B]` and z to a `Posterior`."""

    def posterior(
        self,
        params: NetworkParams,
        features: Float[Array, "T B F"],
        mask: Bool[Array, "T B"],
        latent: Float[Array, "*#L B Z"],
        first: Bool[Array, "T B"] | None = None,
    ) -> Posterior:
        """Log q_v of the given z after trajectories of `trajectory_features`.

        Args:
            params: weights.
            features: at every step.
            mask: steps really taken.
            latent: z, of every row or of every step.
            first: where episodes begin; None where each row is one.
        """
        return apply(self, params, features, mask, latent, first)

    def init_params(self, key: ScalarKey, spec: EnvSpec, latent_size: int) -> NetworkParams:
        """Fresh weights for an environment's sizes."""
        features = jnp.zeros((1, 1, feature_size(spec)))
        mask = jnp.ones((1, 1), bool)
        return fresh_params(self, key, features, mask, jnp.zeros((1, latent_size)))


class FeedForwardDiscriminator(Discriminator):
    """Guesses z from each step alone.

    Attributes:
        hidden_size: width of the hidden layers.
        hidden_layers: how many there are.
        discrete: whether z is one-hot; else the head is Gaussian.
    """

    hidden_size: int
    hidden_layers: int
    discrete: bool = True

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "T B F"],
        mask: Bool[Array, "T B"],
        latent: Float[Array, "*#L B Z"],
        first: Bool[Array, "T B"] | None = None,
    ) -> Posterior:
        latent = jnp.broadcast_to(latent, (*features.shape[:-1], latent.shape[-1]))
        head = _head(self.discrete)(self.hidden_size, self.hidden_layers, name="head")
        return Posterior(head(features, latent), mask.astype(features.dtype))


class RecurrentDiscriminator(Discriminator):
    """Guesses z from the whole trajectory: a GRU read at each episode's last step.

    Attributes:
        hidden_size: width of the hidden layers.
        hidden_layers: how many there are.
        recurrent_size: width of the recurrent state.
        discrete: whether z is one-hot; else the head is Gaussian.
        reference: start from a carry of ones, and read every episode at the last step of the
            batch's longest, padding included, as the published code does.
    """

    hidden_size: int
    hidden_layers: int
    recurrent_size: int
    discrete: bool = True
    reference: bool = False

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "T B F"],
        mask: Bool[Array, "T B"],
        latent: Float[Array, "*#L B Z"],
        first: Bool[Array, "T B"] | None = None,
    ) -> Posterior:
        gru = GRU(self.recurrent_size, name="gru")(features.shape[-1])
        carry = jnp.full(
            (features.shape[1], self.recurrent_size), float(self.reference), features.dtype
        )
        hidden = gru_unroll(gru, carry, features, first)
        if self.reference:
            mask = jnp.broadcast_to(mask.any(axis=1, keepdims=True), mask.shape)
        weight = last_step(mask).astype(hidden.dtype)
        head = _head(self.discrete)(self.hidden_size, self.hidden_layers, name="head")
        if first is None:  # one step of each row is read
            hidden = (hidden * weight[..., None]).sum(0)
        return Posterior(jnp.broadcast_to(head(hidden, latent), weight.shape) * weight, weight)


def _head(discrete: bool) -> type[CategoricalHead] | type[GaussianHead]:
    return CategoricalHead if discrete else GaussianHead
