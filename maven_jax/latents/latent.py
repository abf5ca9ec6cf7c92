"""What every latent is: a distribution over z given s0, and how it is learnt."""

from typing import NamedTuple, Protocol, runtime_checkable

import optax
from jaxtyping import Array, Float

from maven_jax.config import Hyperparameters
from maven_jax.types import LatentOutcome, NetworkParams, ScalarKey


class Support(NamedTuple):
    """Values of z that stand for p(z | s0) at each first state, and the weight of each."""

    latent: Float[Array, "K E Z"]
    probs: Float[Array, "K E"]
    """Of a discrete z p(z | s0), of draws of a continuous one 1 / K; each column sums to 1."""


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
        """Every value of a discrete z, with its probabilities; else `num_draws` equal draws.

        Draws at each first state are of its own p(z | s0). They share their noise x: draw k is
        g(x_k, s0) at every s0.
        """
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
