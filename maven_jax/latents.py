"""The latent z = g_theta(x, s0): drawn once an episode and shared by all agents.

Each latent is a frozen dataclass of sizes whose methods are pure functions of parameters and
arrays. A null latent has size 0, so that concatenating it is a no-op.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from maven_jax.config import Hyperparameters
from maven_jax.layers import Linear, apply, relu_layers
from maven_jax.losses import latent_policy_loss
from maven_jax.types import LatentOutcome, NetworkParams, ScalarKey


class Support(NamedTuple):
    """Values of z that stand for the whole distribution, and the probability of each."""

    latent: Float[Array, "K Z"]
    probs: Float[Array, "K E"]
    """Given each episode's first state."""


@runtime_checkable
class Latent(Protocol):
    """A distribution over z given an episode's first state, and how it is learnt."""

    @property
    def size(self) -> int:
        """`Z`."""
        ...

    @property
    def learnt(self) -> bool:
        """Whether there are weights to update."""
        ...

    @property
    def discrete(self) -> bool:
        """Whether z is one-hot; else a vector of real numbers."""
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
    ) -> Float[Array, "*L"]:
        """Log p(z | s0); for a continuous z the density's, in nats."""
        ...

    def entropy(
        self, params: NetworkParams, initial_state: Float[Array, "*L S"]
    ) -> Float[Array, "*L"]:
        """H(z | s0) in nats; for a continuous z the differential entropy."""
        ...

    def support(
        self,
        params: NetworkParams,
        key: ScalarKey,
        initial_state: Float[Array, "E S"],
        num_draws: int,
    ) -> Support:
        """Every value of a discrete z, with its probabilities; else `num_draws` equal draws."""
        ...

    def loss(
        self,
        params: NetworkParams,
        batch: LatentOutcome,
        hyperparameters: Hyperparameters,
        *,
        reference: bool,
    ) -> Float[Array, ""]:
        """What a gradient step on replayed outcomes descends."""
        ...

    def optimizer(self, hyperparameters: Hyperparameters) -> optax.GradientTransformation: ...


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
        return Support(jnp.zeros((0, 0), dtype), jnp.zeros((0, num_envs), dtype))

    def loss(self, params, batch, hyperparameters, *, reference):
        return jnp.float32(0.0)

    def optimizer(self, hyperparameters):
        return optax.identity()


class DistributionLatent(ABC):
    """What follows from a distribution over z whose weights learn by its score function.

    Mahajan et al. 2019, section 3: theta ascends J_RL by the gradient of log p(z | s0), with Adam.
    A subclass gives `size`, `discrete` and `distribution`.
    """

    size: int
    discrete: bool

    @abstractmethod
    def distribution(
        self, params: NetworkParams, initial_state: Float[Array, "*L S"]
    ) -> distrax.Distribution:
        """p(z | s0)."""

    def sample(self, params, key, initial_state):
        return self.distribution(params, initial_state).sample(seed=key)

    def log_prob(self, params, initial_state, latent):
        return self.distribution(params, initial_state).log_prob(latent)

    def entropy(self, params, initial_state):
        return self.distribution(params, initial_state).entropy()

    def support(self, params, key, initial_state, num_draws):
        if not self.discrete:
            starts = jnp.resize(initial_state, (num_draws, initial_state.shape[-1]))
            draws = self.sample(params, key, starts)
            shape = num_draws, initial_state.shape[0]
            return Support(draws, jnp.full(shape, 1 / num_draws, draws.dtype))
        values = jnp.eye(self.size, dtype=initial_state.dtype)
        log_probs = jax.vmap(
            lambda z: self.log_prob(
                params, initial_state, jnp.broadcast_to(z, (initial_state.shape[0], self.size))
            )
        )(values)
        return Support(values, jnp.exp(log_probs))

    def loss(self, params, batch, hyperparameters, *, reference):
        return latent_policy_loss(
            self.log_prob(params, batch.initial_state, batch.latent),
            hyperparameters.latent_return_scale * batch.episode_return,
            self.entropy(params, batch.initial_state),
            hyperparameters.latent_entropy_weight,
            reference=reference,
        )

    def optimizer(self, hyperparameters):
        return optax.adam(hyperparameters.latent_learning_rate)


class StateNetwork(nn.Module):
    """Hidden ReLU layers of one width, then a linear layer: what every latent reads s0 with."""

    hidden_size: int
    hidden_layers: int
    num_outputs: int

    @nn.compact
    def __call__(self, initial_state: Float[Array, "*L S"]) -> Float[Array, "*L F"]:
        hidden = relu_layers(initial_state, self.hidden_size, self.hidden_layers)
        return Linear(self.num_outputs, name="output")(hidden)


@dataclass(frozen=True)
class UniformLatent(DistributionLatent):
    """z one-hot and uniform, nothing learnt."""

    size: int
    learnt: bool = False
    discrete: bool = True

    def init_params(self, key, state_size):
        return {}

    def distribution(self, params, initial_state):
        logits = jnp.zeros((*initial_state.shape[:-1], self.size), initial_state.dtype)
        return distrax.OneHotCategorical(logits, dtype=jnp.float32)


@dataclass(frozen=True)
class CategoricalLatent(DistributionLatent):
    """z one-hot, p(z | s0) = softmax(g_theta(s0)): Mahajan et al. 2019, x uniform, z categorical.

    Attributes:
        size: number `Z` of values of z.
        hidden_size: width of the policy's hidden layer.
    """

    size: int
    hidden_size: int
    learnt: bool = True
    discrete: bool = True

    @property
    def network(self) -> StateNetwork:
        return StateNetwork(self.hidden_size, 1, self.size)

    def init_params(self, key, state_size):
        return self.network.init(key, jnp.zeros(state_size))

    def distribution(self, params, initial_state):
        logits = apply(self.network, params, initial_state)
        return distrax.OneHotCategorical(logits, dtype=jnp.float32)


@dataclass(frozen=True)
class LocationScaleLatent(DistributionLatent):
    """z = mu(s0) + sigma(s0) f(x): continuous, `Z` independent numbers (Mahajan et al. 2019).

    With x standard normal z is Gaussian; with x uniform and f the logit, z is logistic.

    Attributes:
        size: dimensions `Z` of z.
        hidden_size: width of the policy's hidden layer.
        base: the distribution's family.
    """

    size: int
    hidden_size: int
    base: type[distrax.Normal] | type[distrax.Logistic]
    learnt: bool = True
    discrete: bool = False

    @property
    def network(self) -> StateNetwork:
        return StateNetwork(self.hidden_size, 1, 2 * self.size)

    def init_params(self, key, state_size):
        return self.network.init(key, jnp.zeros(state_size))

    def distribution(self, params, initial_state):
        location, log_scale = jnp.split(apply(self.network, params, initial_state), 2, axis=-1)
        return distrax.Independent(
            self.base(location, jnp.exp(log_scale)), reinterpreted_batch_ndims=1
        )


@dataclass(frozen=True)
class BanditLatent(DistributionLatent):
    """z one-hot, chosen by estimates of its return: the value-based form of the published code.

    p(z | s0) = (1 - epsilon) softmax(R(s0) / temperature) + epsilon / Z, where R(s0), the estimated
    return of each z, learns by squared error with RMSprop. Which z were replayed does not bias it.

    Attributes:
        size: number `Z` of values of z.
        hidden_size: width of the two hidden layers.
        scale: factor on the network's output, in units of return.
        temperature: of the softmax, in units of return.
        epsilon: probability of a uniform z.
    """

    size: int
    hidden_size: int
    scale: float
    temperature: float
    epsilon: float
    learnt: bool = True
    discrete: bool = True

    @property
    def network(self) -> StateNetwork:
        return StateNetwork(self.hidden_size, 2, self.size)

    def init_params(self, key, state_size):
        return self.network.init(key, jnp.zeros(state_size))

    def estimates(
        self, params: NetworkParams, initial_state: Float[Array, "*L S"]
    ) -> Float[Array, "*L Z"]:
        """R(s0): the return to expect of each z."""
        return self.scale * apply(self.network, params, initial_state)

    def distribution(self, params, initial_state):
        greedy = jax.nn.log_softmax(self.estimates(params, initial_state) / self.temperature)
        # in log space: however far apart estimates are, no z is quite impossible
        of_greedy = greedy + jnp.log1p(-jnp.float32(self.epsilon))
        log_probs = jnp.logaddexp(of_greedy, jnp.log(jnp.float32(self.epsilon / self.size)))
        return distrax.OneHotCategorical(log_probs, dtype=jnp.float32)

    def loss(self, params, batch, hyperparameters, *, reference):
        estimate = (self.estimates(params, batch.initial_state) * batch.latent).sum(-1)
        returns = hyperparameters.latent_return_scale * batch.episode_return
        return ((estimate - returns) ** 2).mean()

    def optimizer(self, hyperparameters):
        return optax.chain(
            optax.scale_by_rms(0.99, 1e-8, eps_in_sqrt=False),
            optax.scale(-hyperparameters.latent_learning_rate),
        )
