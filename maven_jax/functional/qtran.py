"""QTRAN's two constraints, in the "alt" form: arrays in, scalar out (Son et al. 2019, section 4).

They tie the sum of utilities Q' = sum_i Q_i to the joint value Q_jt, which they do not train: equal
at the greedy joint action, up to V, and nowhere below it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from maven_jax.functional.losses import weighted_mean


def optimum_loss(
    q_greedy: Float[Array, "*L N"],
    q_joint_greedy: Float[Array, "*L N"],
    value: Float[Array, "*L"],
    mask: Bool[Array, "*L"],
    *,
    reference: bool = False,
) -> Float[Array, ""]:
    """L_opt: squared `sum_i Q_i(u*_i) - Q_jt(u*) + V` at the greedy joint action u*.

    Args:
        q_greedy: each agent's utility of its greedy action.
        q_joint_greedy: Q_jt(s, u*), as each agent's row of the critic gives it.
        value: V(s).
        mask: steps that count.
        reference: no gradient to the utilities, as in the published code.
    """
    q_greedy = jax.lax.stop_gradient(q_greedy) if reference else q_greedy
    error = (q_greedy.sum(-1) + value)[..., None] - jax.lax.stop_gradient(q_joint_greedy)
    return weighted_mean((error**2).mean(-1), mask)


def nonoptimum_loss(
    q_values: Float[Array, "*L N A"],
    q_taken: Float[Array, "*L N"],
    q_joint: Float[Array, "*L N A"],
    value: Float[Array, "*L"],
    action_mask: Bool[Array, "*L N A"],
    mask: Bool[Array, "*L"],
    *,
    reference: bool = False,
) -> Float[Array, ""]:
    """L_nopt-min: squared `min_a Q_i(a) + sum_{j != i} Q_j(u_j) - Q_jt(s, a, u_-i) + V`.

    Args:
        q_values: utilities of every action.
        q_taken: utilities of the actions taken.
        q_joint: Q_jt of every agent's every action, beside what the others took.
        value: V(s).
        action_mask: legal actions, over which the minimum goes.
        mask: steps that count.
        reference: count the agent's own taken utility among the others', and let the minimum go
            over illegal actions too, as the published code does.
    """
    total = q_taken.sum(-1, keepdims=True)
    others = total + jnp.zeros_like(q_taken) if reference else total - q_taken
    error = q_values + (others + value[..., None])[..., None]
    error = error - jax.lax.stop_gradient(q_joint)
    if not reference:
        error = jnp.where(action_mask, error, jnp.inf)
    smallest = error.min(-1)
    smallest = jnp.where(mask[..., None], smallest, 0.0)
    return weighted_mean((smallest**2).mean(-1), mask)
