"""What the utilities learn from a batch: Q-learning on mixed values, or QTRAN's three terms.

An objective belongs to a mixer and knows how to call it. It reads utilities along rows of episodes,
so it never touches the recurrent networks. Every loss takes the mixer, the online networks, which
are differentiated, the target networks, the reward (r_aux included), a time-major batch, the traced
hyperparameters and the configuration.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from maven_jax.config import Config, Hyperparameters
from maven_jax.episodes import next_latent, step_latent
from maven_jax.functional.exploration import greedy_actions
from maven_jax.functional.losses import (
    lambda_next_values,
    monotonicity_penalty,
    td_loss,
    weighted_mean,
)
from maven_jax.functional.qtran import nonoptimum_loss, optimum_loss
from maven_jax.functional.target_moments import denormalize, standard_deviation
from maven_jax.networks.layers import apply
from maven_jax.networks.mixers import CounterfactualValues, JointCritic, Mixer
from maven_jax.types import Episodes, Metrics, Moments, NetworkParams


class Networks(NamedTuple):
    """One set of weights at work on a batch: its utilities, and the weights of its mixer."""

    q_values: Float[Array, "T1 B N A"]
    mixer: NetworkParams
    moments: Moments | None = None
    """By which their outputs are normalised; None: outputs are in units of the reward."""


Loss = Callable[
    [
        Mixer,
        Networks,
        Networks,
        Float[Array, "T B"],
        Episodes,
        Hyperparameters,
        Config,
    ],
    tuple[Float[Array, ""], Metrics],
]
"""From mixer, online and target networks, reward (r_aux included), batch, hyperparameters and
configuration to loss and metrics; where networks have moments, `q_target` and `q_target_variance`
of the batch are among these."""

JointValue = Callable[[Mixer, Networks, Episodes], Float[Array, "T B *K"]]
"""The values that are learnt of the joint actions taken: one, or one for each agent."""


class Objective(NamedTuple):
    """How utilities and mixer learn, and what value they then give a joint action."""

    loss: Loss
    joint_value: JointValue


def select(q_values: Float[Array, "*L A"], actions: Int[Array, "*L"]) -> Float[Array, "*L"]:
    """The values of the given actions, without a gather: its transpose, a scatter, is slow."""
    one_hot = jax.nn.one_hot(actions, q_values.shape[-1], dtype=q_values.dtype)
    return (q_values * one_hot).sum(-1)


def mixed(
    mixer: Mixer,
    params: NetworkParams,
    chosen: Float[Array, "T B N"],
    global_state: Float[Array, "T B S"],
    latent: Float[Array, "*#L B Z"],
) -> Float[Array, "T B *K"]:
    """The mixer's values of the chosen utilities: Q_tot, or one for each agent."""
    return apply(mixer, params, chosen, global_state, _at_each_step(latent, global_state))


def mixed_value(mixer: Mixer, networks: Networks, batch: Episodes) -> Float[Array, "T B *K"]:
    """The mixer's values of the utilities of the actions taken."""
    taken = select(networks.q_values[:-1], batch.actions)
    return mixed(mixer, networks.mixer, taken, batch.global_state[:-1], step_latent(batch))


def q_learning_loss(
    mixer: Mixer,
    online: Networks,
    target: Networks,
    reward: Float[Array, "T B"],
    batch: Episodes,
    hyperparameters: Hyperparameters,
    config: Config,
) -> tuple[Float[Array, ""], Metrics]:
    """L_QL: squared TD errors of the mixed values (Rashid et al. 2018, equation 6)."""
    next_state, latent = batch.global_state[1:], next_latent(batch)
    next_actions = _next_actions(online, target, batch, double_q=config.training.double_q)
    q_taken = mixed_value(mixer, online, batch)
    next_chosen = select(target.q_values[1:], next_actions)
    q_next = mixed(mixer, target.mixer, next_chosen, next_state, latent)
    of_networks = online.moments, target.moments
    return _td_loss(q_taken, q_next, reward, batch, hyperparameters, *of_networks)


def penalised_q_learning_loss(
    mixer: Mixer,
    online: Networks,
    target: Networks,
    reward: Float[Array, "T B"],
    batch: Episodes,
    hyperparameters: Hyperparameters,
    config: Config,
) -> tuple[Float[Array, ""], Metrics]:
    """`q_learning_loss`, plus a penalty where Q_tot falls as a utility rises.

    The soft form of QMIX's constraint: `monotonicity_weight` times `losses.monotonicity_penalty` of
    dQ_tot/dQ_i at the utilities taken. Weight 0 leaves the mixer unconstrained.
    """
    loss, metrics = q_learning_loss(mixer, online, target, reward, batch, hyperparameters, config)

    def total(utilities: Float[Array, "T B N"]) -> Float[Array, ""]:
        state = batch.global_state[:-1]
        return mixed(mixer, online.mixer, utilities, state, step_latent(batch)).sum()

    slopes = jax.grad(total)(select(online.q_values[:-1], batch.actions))
    penalty = monotonicity_penalty(slopes, batch.mask)
    loss = loss + hyperparameters.monotonicity_weight * penalty
    return loss, metrics | {"monotonicity_penalty": penalty}


def counterfactual_value(
    mixer: Mixer, networks: Networks, batch: Episodes
) -> Float[Array, "T B N"]:
    """Q_jt of the actions taken, once in the row of every agent."""
    assert isinstance(mixer, JointCritic)
    state, latent = batch.global_state[:-1], step_latent(batch)
    taken = _joint(mixer, networks.mixer, batch.actions, state, latent)
    return select(taken.q_joint, batch.actions)


def qtran_loss(
    mixer: Mixer,
    online: Networks,
    target: Networks,
    reward: Float[Array, "T B"],
    batch: Episodes,
    hyperparameters: Hyperparameters,
    config: Config,
) -> tuple[Float[Array, ""], Metrics]:
    """L_td of Q_jt, and the two constraints that tie the utilities to it (Son et al. 2019)."""
    assert isinstance(mixer, JointCritic)
    reference = config.fidelity == "reference"
    legal, state, latent = batch.action_mask[:-1], batch.global_state, step_latent(batch)
    q_values = online.q_values[:-1]
    greedy = greedy_actions(q_values, legal)
    next_actions = _next_actions(
        online, target, batch, double_q=config.training.double_q and not reference
    )
    taken = _joint(mixer, online.mixer, batch.actions, state[:-1], latent)
    at_greedy = _joint(mixer, online.mixer, greedy, state[:-1], latent)
    following = _joint(mixer, target.mixer, next_actions, state[1:], next_latent(batch))
    loss, metrics = _td_loss(
        select(taken.q_joint, batch.actions),
        select(following.q_joint, next_actions),
        reward,
        batch,
        hyperparameters,
        online.moments,
        target.moments,
    )
    optimum = optimum_loss(
        select(q_values, greedy),
        select(at_greedy.q_joint, greedy),
        taken.value,
        batch.mask,
        reference=reference,
    )
    nonoptimum = nonoptimum_loss(
        q_values,
        select(q_values, batch.actions),
        taken.q_joint,
        taken.value,
        legal,
        batch.mask,
        reference=reference,
    )
    metrics |= {"optimum_loss": optimum, "nonoptimum_loss": nonoptimum}
    loss = loss + hyperparameters.optimum_weight * optimum
    return loss + hyperparameters.nonoptimum_weight * nonoptimum, metrics


def _next_actions(
    online: Networks, target: Networks, batch: Episodes, *, double_q: bool
) -> Int[Array, "T B N"]:
    """The greedy actions at each next step, by the online network with double Q-learning."""
    chooser = online if double_q else target
    return greedy_actions(chooser.q_values[1:], batch.action_mask[1:])


def _td_loss(
    q_taken: Float[Array, "T B *K"],
    q_next: Float[Array, "T B *K"],
    reward: Float[Array, "T B"],
    batch: Episodes,
    hyperparameters: Hyperparameters,
    moments: Moments | None,
    target_moments: Moments | None,
) -> tuple[Float[Array, ""], Metrics]:
    """`td_loss` of TD(lambda) targets; reward and mask for every agent where each has a value.

    `q_taken` is in units of `moments`, `q_next` in those of `target_moments`, and so is the loss in
    those of `moments`; the metrics are in those of the reward, with the targets' variance.
    """

    def for_each(x: Array) -> Array:
        missing = q_taken.ndim - x.ndim
        return jnp.broadcast_to(x.reshape(*x.shape, *[1] * missing), q_taken.shape)

    reward, discount, mask = (
        for_each(x) for x in (reward, hyperparameters.gamma * batch.discount, batch.mask)
    )
    if moments is not None:
        q_taken = denormalize(moments, q_taken)
    if target_moments is not None:
        q_next = denormalize(target_moments, q_next)
    q_next = lambda_next_values(q_next, reward, discount, mask, hyperparameters.td_lambda)
    loss, metrics = td_loss(q_taken, q_next, reward, discount, mask)
    if moments is None:
        return loss, metrics
    from_mean = jnp.where(mask, reward + discount * q_next - metrics["q_target"], 0.0)
    metrics["q_target_variance"] = weighted_mean(from_mean**2, mask)
    return loss / standard_deviation(moments) ** 2, metrics


def _joint(
    critic: JointCritic,
    params: NetworkParams,
    actions: Int[Array, "T B N"],
    global_state: Float[Array, "T B S"],
    latent: Float[Array, "*#L B Z"],
) -> CounterfactualValues:
    one_hot = jax.nn.one_hot(actions, critic.num_actions, dtype=global_state.dtype)
    return apply(critic, params, one_hot, global_state, _at_each_step(latent, global_state))


def _at_each_step(
    latent: Float[Array, "*#L B Z"], global_state: Float[Array, "T B S"]
) -> Float[Array, "T B Z"]:
    return jnp.broadcast_to(latent, (*global_state.shape[:2], latent.shape[-1]))


q_learning = Objective(q_learning_loss, mixed_value)
penalised_q_learning = Objective(penalised_q_learning_loss, mixed_value)
qtran = Objective(qtran_loss, counterfactual_value)
