"""What jumanji's environments have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from maven_jax.envs.adapters.adapter import Adapter, Advance


class JumanjiAdapter(Adapter):
    """An environment of jumanji whose episodes end by themselves, or at the adapter's limit."""

    def _start(self, key: PRNGKeyArray) -> Any:
        return self.env.reset(key)[0]

    def _advance(self, key: PRNGKeyArray, env_state: Any, action: Int[Array, "N"]) -> Advance:
        env_state, timestep = self.env.step(env_state, action)
        return Advance(env_state, timestep.reward, timestep.last())


def one_hot_places(position: Int[Array, "K 2"], size: int) -> Float[Array, "K 2 size"]:
    """Rows and columns one-hot: numbers as large as a grid would swamp the mixer's features."""
    return jax.nn.one_hot(position, size)


def side_by_side(features: list[Array], dtype: Any) -> Array:
    """All features side by side."""
    return jnp.concatenate([feature.astype(dtype).ravel() for feature in features])


def checked(make: Callable[..., Any]) -> Callable[..., Any]:
    """A constructor whose refusals are `ValueError`s of one line."""

    def call(*arguments: Any) -> Any:
        try:
            return make(*arguments)
        except (AssertionError, TypeError) as error:
            raise ValueError(str(error)) from None

    return call
