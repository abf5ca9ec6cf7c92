"""z one-hot, by estimates of its return."""

from dataclasses import dataclass

import distrax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from maven_jax.latents.distribution import DistributionLatent, StateNetwork
from maven_jax.networks.layers import apply, fresh_params
from maven_jax.types import NetworkParams


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
        return fresh_params(self.network, key, jnp.zeros(state_size))

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
