"""Losses: arrays in, scalar and metrics out. They know nothing of networks, replay or state."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from maven_jax.types import Metrics


def weighted_mean(x: Float[Array, "*L"], weight: Array) -> Float[Array, ""]:
    """Mean of `x` under non-negative weights; 0 where all weights are 0."""
    weight = weight.astype(x.dtype)
    total = weight.sum()
    return (x * weight).sum() / jnp.where(total > 0, total, 1.0)


def td_loss(
    q_taken: Float[Array, "*L"],
    q_next: Float[Array, "*L"],
    reward: Float[Array, "*L"],
    discount: Float[Array, "*L"],
    mask: Bool[Array, "*L"],
) -> tuple[Float[Array, ""], Metrics]:
    """Mean squared one-step TD error: the Q-learning loss L_QL (Mahajan et al. 2019, section 3).

    The target is `reward + discount * q_next`; no gradient flows through it.

    Args:
        q_taken: Q_tot of the actions taken.
        q_next: the value of the next state; with double Q-learning the target network's value of
            the online network's greedy actions.
        reward: team reward, of any unit; Q is in the same.
        discount: gamma where the episode goes on or was cut by a time limit, 0 where it ended.
        mask: steps really taken; the others count for nothing, whatever they hold.
    """
    q_taken, q_next, reward, discount = (
        jnp.where(mask, x, 0.0) for x in (q_taken, q_next, reward, discount)
    )
    target = jax.lax.stop_gradient(reward + discount * q_next)
    error = q_taken - target
    loss = weighted_mean(error**2, mask)
    metrics = {
        "td_loss": loss,
        "td_error_abs": weighted_mean(jnp.abs(error), mask),
        "q_taken": weighted_mean(q_taken, mask),
        "q_target": weighted_mean(target, mask),
    }
    return loss, metrics


def lambda_next_values(
    q_next: Float[Array, "T *L"],
    reward: Float[Array, "T *L"],
    discount: Float[Array, "T *L"],
    mask: Bool[Array, "T *L"],
    td_lambda: Float[Array, ""] | float,
) -> Float[Array, "T *L"]:
    """Values of the next states that mix in the rewards that followed: `q_next` of `td_loss`.

    The lambda-return of greedy next values, without an off-policy correction (Peng and Williams
    1996): `N_t = (1 - lambda) q_next_t + lambda (reward_{t+1} + discount_{t+1} N_{t+1})`. The last
    step of an episode takes `q_next` itself, so one cut by a time limit is bootstrapped there.

    Args:
        q_next: the value of the next state, time first.
        reward: team reward.
        discount: gamma, or 0 where the episode ended.
        mask: steps really taken.
        td_lambda: 0 gives `q_next`, one-step targets; 1 the returns as they were played.
    """
    following = jnp.concatenate([mask[1:], jnp.zeros_like(mask[:1])])
    weight = td_lambda * following.astype(q_next.dtype)
    next_reward, next_discount = (
        jnp.where(following, jnp.roll(x, -1, axis=0), 0.0) for x in (reward, discount)
    )

    def compose(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        (shift, slope), (shift_before, slope_before) = later, earlier
        return shift_before + slope_before * shift, slope_before * slope

    q_next = jnp.where(mask, q_next, 0.0)
    steps = (1 - weight) * q_next + weight * next_reward, weight * next_discount
    return jax.lax.associative_scan(compose, steps, reverse=True)[0]


def monotonicity_penalty(slopes: Float[Array, "*L N"], mask: Bool[Array, "*L"]) -> Float[Array, ""]:
    """Mean of `max(0, -dQ_tot/dQ_i)`: what a mixer without `abs` pays for a falling Q_tot.

    Args:
        slopes: dQ_tot/dQ_i for every agent.
        mask: steps that count.
    """
    return weighted_mean(jax.nn.relu(-slopes).mean(-1), mask)


def mi_lower_bound(
    log_q: Float[Array, "*L"], weight: Float[Array, "*L"], latent_entropy: Float[Array, ""]
) -> Float[Array, ""]:
    """The variational bound J_V = H(z) + E[log q_v(z | sigma(tau))] <= I(z; sigma(tau)), in nats.

    Mahajan et al. 2019, section 3.1 (equation of the variational lower bound).

    Args:
        log_q: log-probability of the z that was played.
        weight: weight of each entry in the expectation, as the discriminator gave it.
        latent_entropy: H(z) in nats; constant in everything but the latent policy.
    """
    return latent_entropy + weighted_mean(log_q, weight)


def intrinsic_reward(
    log_q: Float[Array, "T B"], log_p: Float[Array, "*#T B"], *, reference: bool = False
) -> Float[Array, "T B"]:
    """r_aux = log q_v(z | tau) - log p(z): the bound as a reward, with no gradient.

    Mahajan et al. 2019, section 3.1: used where the path through the Boltzmann policies is cut.

    Args:
        log_q: log q_v at every step, in nats.
        log_p: log p(z | s0) in nats, of each row's episode or of each step's.
        reference: `-log q_v` instead, the opposite sign, as the published code has it.
    """
    log_p = jnp.broadcast_to(log_p, log_q.shape)
    return jax.lax.stop_gradient(-log_q if reference else log_q - log_p)


def latent_policy_loss(
    log_prob: Float[Array, "B"],
    episode_return: Float[Array, "B"],
    entropy: Float[Array, "B"],
    entropy_weight: Float[Array, ""] | float,
    *,
    reference: bool = False,
) -> Float[Array, ""]:
    """Score-function loss of the latent policy: `-(log p(z|s0) return + w H(z|s0))`, summed.

    Mahajan et al. 2019, section 3 (J_RL). The sum over the batch, not its mean, is what the
    published code minimises; Adam makes the two all but equal.

    Args:
        log_prob: log p(z | s0) of the z that was played.
        episode_return: undiscounted return of its episode, in units of reward.
        entropy: H(z | s0) in nats.
        entropy_weight: weight w of the entropy, in units of reward.
        reference: `w log p(z | s0)` of the replayed z in place of `-w H(z | s0)`, which only shifts
            the return by -w, as the published code has it.
    """
    score = log_prob * jax.lax.stop_gradient(episode_return)
    bonus = -log_prob if reference else entropy
    return -(score + entropy_weight * bonus).sum()
