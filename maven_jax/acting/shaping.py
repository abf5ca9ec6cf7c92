"""Reward shaping that training alone sees, with a weight that falls to 0.

An environment reports in `timestep.extras["shaped_return"]` the sum so far of the rewards that only
help to learn. Its own reward has no part of them, so returns of test episodes have none either.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from maven_jax.config import Hyperparameters
from maven_jax.errors import check
from maven_jax.functional.exploration import linear_schedule
from maven_jax.types import MarlEnv, ScalarKey

SHAPED_RETURN = "shaped_return"


class ShapedEnv:
    """An environment whose reward is `reward + weight * (what shaped_return rose by)`.

    Its state is the environment's own beside `shaped_return`.

    Attributes:
        env: reports `shaped_return`.
        weight: may be traced.
    """

    def __init__(self, env: MarlEnv, weight: Float[Array, ""]) -> None:
        self.env, self.weight = env, weight
        self.num_agents, self.num_actions = env.num_agents, env.num_actions
        self.time_limit = env.time_limit

    def reset(self, key: ScalarKey) -> tuple[Any, Any]:
        """Starts an episode."""
        state, first = self.env.reset(key)
        return (state, first.extras[SHAPED_RETURN]), first

    def step(self, state: Any, action: Int[Array, "N"]) -> tuple[Any, Any]:
        """Plays one joint action."""
        inner, before = state
        inner, timestep = self.env.step(inner, action)
        after = timestep.extras[SHAPED_RETURN]
        reward = timestep.reward + self.weight * (after - before)
        replace = getattr(timestep, "_replace", None) or timestep.replace  # a NamedTuple, or chex's
        return (inner, after), replace(reward=reward)


def is_shaped(env: MarlEnv) -> bool:
    """Whether an environment reports `shaped_return`; it is traced, not run."""
    _, first = jax.eval_shape(env.reset, jax.eval_shape(lambda: jax.random.key(0)))
    return SHAPED_RETURN in (first.extras or {})


def shaped(env: MarlEnv, env_steps: Int[Array, ""], hyperparameters: Hyperparameters) -> MarlEnv:
    """The environment that training plays in after so many environment steps.

    It is `env` itself where that reports no `shaped_return`.
    """
    if not is_shaped(env):
        return env
    duration = jnp.float32(hyperparameters.shaping_steps)
    left = 1 - linear_schedule(env_steps, 0.0, 1.0, jnp.maximum(duration, 1.0))
    weight = hyperparameters.shaping_weight * jnp.where(duration > 0, left, 1.0)
    return ShapedEnv(env, weight)


def check_shaping(env: MarlEnv, hyperparameters: Hyperparameters) -> None:
    """Raises `ConfigError` for a weight, of any lane, of what the environment does not report."""
    weight = float(np.max(np.abs(hyperparameters.shaping_weight)))
    allowed = f"0, since {type(env).__name__} reports no {SHAPED_RETURN} in its extras"
    check(not weight or is_shaped(env), "hyperparameters.shaping_weight", weight, allowed)
