"""How agents act: masked epsilon-greedy and Boltzmann actions, and the policies behind them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from maven_jax.extensions import Table
from maven_jax.types import ScalarKey


@runtime_checkable
class Behaviour(Protocol):
    """How utilities become actions: exploration, with its numbers bound."""

    def __call__(
        self, key: ScalarKey, q_values: Float[Array, "*L A"], action_mask: Bool[Array, "*L A"]
    ) -> Int[Array, "*L"]: ...


def greedy_actions(
    q_values: Float[Array, "*L A"], action_mask: Bool[Array, "*L A"]
) -> Int[Array, "*L"]:
    """Each agent's legal action of highest utility, the first of equals.

    Action 0 where no action is legal (padding).
    """
    return jnp.where(action_mask, q_values, -jnp.inf).argmax(-1)


def act_greedily(
    key: ScalarKey, q_values: Float[Array, "*L A"], action_mask: Bool[Array, "*L A"]
) -> Int[Array, "*L"]:
    """`greedy_actions` as a behaviour: what test episodes are played by. The key is not read."""
    del key
    return greedy_actions(q_values, action_mask)


def epsilon_greedy(
    key: ScalarKey,
    q_values: Float[Array, "*L A"],
    action_mask: Bool[Array, "*L A"],
    epsilon: Float[Array, ""] | float,
) -> Int[Array, "*L"]:
    """Greedy actions, each replaced with probability `epsilon` by a uniform legal one.

    Args:
        key: used once.
        q_values: utilities, one last axis of actions for every agent.
        action_mask: legal actions; where none is legal (padding), action 0 counts as greedy.
        epsilon: probability in [0, 1], for every agent on its own.
    """
    return _explore(key, q_values, action_mask, epsilon, coins=q_values.shape[:-1])


def team_epsilon_greedy(
    key: ScalarKey,
    q_values: Float[Array, "*L N A"],
    action_mask: Bool[Array, "*L N A"],
    epsilon: Float[Array, ""] | float,
) -> Int[Array, "*L N"]:
    """As `epsilon_greedy`, but one coin decides for the team, as one z does: all explore at once.

    A joint action that needs all of them to deviate is met with probability of order epsilon, not
    epsilon to the power of their number.

    Args:
        key: used once.
        q_values: utilities.
        action_mask: legal actions; where none is legal (padding), action 0 counts as greedy.
        epsilon: probability in [0, 1] that the team explores; then each agent on its own takes a
            uniform legal action.
    """
    return _explore(key, q_values, action_mask, epsilon, coins=(*q_values.shape[:-2], 1))


def _explore(
    key: ScalarKey,
    q_values: Float[Array, "*L A"],
    action_mask: Bool[Array, "*L A"],
    epsilon: Float[Array, ""] | float,
    coins: tuple[int, ...],
) -> Int[Array, "*L"]:
    """Greedy actions, or uniform legal ones where a coin says so; `coins` is their shape.

    The uniform ones are greedy in random numbers in the utilities' place, so one search finds both.
    """
    num_coins = math.prod(coins)
    draws = jax.random.uniform(key, (num_coins + q_values.size,), jnp.float32)
    explore = draws[:num_coins].reshape(*coins, 1) < epsilon
    dtype = np.promote_types(q_values.dtype, draws.dtype)  # half precision would tie the draws
    at_random = draws[num_coins:].reshape(q_values.shape).astype(dtype)
    return greedy_actions(jnp.where(explore, at_random, q_values.astype(dtype)), action_mask)


def _boltzmann_logits(
    q_values: Float[Array, "*L A"],
    action_mask: Bool[Array, "*L A"],
    temperature: Float[Array, ""] | float,
) -> Float[Array, "*L A"]:
    """(Q - max Q) / alpha over the legal actions: 0 at the best of them and -inf at illegal ones.

    Zeros where no action is legal. A temperature below the smallest normal number counts as that:
    XLA flushes what is smaller to 0. The difference is halved, and what it gives doubled, since
    that of two finite numbers may overflow.
    """
    half = jnp.where(action_mask, q_values, 0.0) / 2
    best = jnp.where(action_mask, half, -jnp.inf).max(-1, keepdims=True)
    any_legal = action_mask.any(-1, keepdims=True)
    best = jax.lax.stop_gradient(jnp.where(any_legal, best, 0.0))
    alpha = jnp.maximum(
        jnp.asarray(temperature, q_values.dtype), jnp.finfo(q_values.dtype).smallest_normal
    )
    logits = 2 * ((half - best) / alpha)
    return jnp.where(action_mask, logits, jnp.where(any_legal, -jnp.inf, 0.0))


def boltzmann_actions(
    key: ScalarKey,
    q_values: Float[Array, "*L A"],
    action_mask: Bool[Array, "*L A"],
    temperature: Float[Array, ""] | float,
) -> Int[Array, "*L"]:
    """Actions drawn from `boltzmann_policy`, every agent on its own; legal wherever one is.

    Args:
        key: used once.
        q_values: finite utilities.
        action_mask: legal actions; where none is legal (padding), any action may come.
        temperature: positive, in units of utility.
    """
    return jax.random.categorical(key, _boltzmann_logits(q_values, action_mask, temperature))


def boltzmann_policy(
    q_values: Float[Array, "*L A"],
    action_mask: Bool[Array, "*L A"],
    temperature: Float[Array, ""] | float,
) -> Float[Array, "*L A"]:
    """sigma(Q) = softmax(Q / alpha) over the legal actions; illegal ones have probability 0.

    Mahajan et al. 2019, section 3.1. Uniform where no action is legal (padding). Utilities are
    finite; the temperature alpha, in units of utility, is positive.
    """
    return jax.nn.softmax(_boltzmann_logits(q_values, action_mask, temperature))


def greedy_policy(
    q_values: Float[Array, "*L A"], action_mask: Bool[Array, "*L A"]
) -> Float[Array, "*L A"]:
    """The Boltzmann policy's limit at temperature 0: one-hot, with no gradient ("hard actions")."""
    actions = greedy_actions(q_values, action_mask)
    return jax.nn.one_hot(actions, q_values.shape[-1], dtype=q_values.dtype)


def linear_schedule(
    step: Int[Array, ""],
    start: Float[Array, ""] | float,
    finish: Float[Array, ""] | float,
    duration: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """From `start` at environment step 0 to `finish` at step `duration`, then constant."""
    return start + (finish - start) * jnp.clip(jnp.float32(step) / duration, 0.0, 1.0)


Number: TypeAlias = Float[Array, ""] | float

Explore: TypeAlias = Callable[[Number, Number], Behaviour]

EXPLORATIONS: Table[Explore] = Table(
    "exploration.kind",
    {
        "epsilon_greedy": lambda epsilon, _: partial(epsilon_greedy, epsilon=epsilon),
        "team_epsilon_greedy": lambda epsilon, _: partial(team_epsilon_greedy, epsilon=epsilon),
        "boltzmann": lambda _, temperature: partial(boltzmann_actions, temperature=temperature),
    },
)
"""From epsilon and the temperature to each `exploration.kind`."""
