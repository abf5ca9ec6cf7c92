"""Gradient steps: one on a replayed batch of episodes, and those of the latent policy."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from maven_jax.agents import episode_inputs
from maven_jax.algorithms import Algorithm
from maven_jax.config import Config, Hyperparameters
from maven_jax.discriminators import Discriminator, Posterior, trajectory_features
from maven_jax.exploration import boltzmann_policy, greedy_actions, greedy_policy
from maven_jax.latents import Latent
from maven_jax.layers import apply
from maven_jax.losses import (
    intrinsic_reward,
    latent_policy_loss,
    td_loss,
    weighted_mean,
)
from maven_jax.types import Episode, LatentOutcome, Metrics, NetworkParams, Params


def make_optimizer(hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """RMSprop after clipping by global norm; epsilon outside the root, as published."""
    return optax.chain(
        optax.clip_by_global_norm(hyperparameters.max_grad_norm),
        optax.scale_by_rms(
            hyperparameters.rms_decay, hyperparameters.rms_epsilon, eps_in_sqrt=False
        ),
        optax.scale(-hyperparameters.learning_rate),
    )


def make_latent_optimizer(hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """Adam, for the latent policy."""
    return optax.adam(hyperparameters.latent_learning_rate)


def utilities(algorithm: Algorithm, params: Params, batch: Episode) -> Float[Array, "T1 B N A"]:
    """Q_i(tau_i, u; z) along time-major episodes."""
    inputs = episode_inputs(batch.agents_view, batch.actions, batch.action_mask.shape[-1])
    return apply(algorithm.agent, params.agent, inputs, batch.latent, method="unroll")


def mixed(
    algorithm: Algorithm,
    params: Params,
    chosen: Float[Array, "T B N"],
    global_state: Float[Array, "T B S"],
    latent: Float[Array, "B Z"],
) -> Float[Array, "T B"]:
    """Q_tot of the chosen utilities."""
    latent = jnp.broadcast_to(latent, (*chosen.shape[:2], latent.shape[-1]))
    return apply(algorithm.mixer, params.mixer, chosen, global_state, latent)


def select(q_values: Float[Array, "*L A"], actions: Array) -> Float[Array, "*L"]:
    """The utilities of the given actions, without a gather: its transpose, a scatter, is slow."""
    return (q_values * jax.nn.one_hot(actions, q_values.shape[-1])).sum(-1)


def posterior(
    discriminator: Discriminator,
    config: Config,
    params: Params,
    q_values: Float[Array, "T B N A"],
    batch: Episode,
    temperature: Float[Array, ""] | float,
) -> Posterior:
    """Log q_v(z | sigma(tau)) of the z that each episode was played with."""
    legal = batch.action_mask[:-1]
    if config.discriminator.hard_actions:
        policies = greedy_policy(q_values, legal)
    else:
        policies = boltzmann_policy(q_values, legal, temperature)
    features = trajectory_features(policies, batch.global_state[:-1])
    if config.discriminator.signal == "reward":
        features = jax.lax.stop_gradient(features)
    return discriminator.posterior(params.discriminator, features, batch.mask, batch.latent)


def loss(
    params: Params,
    target_params: Params,
    latent_params: NetworkParams,
    batch: Episode,
    hyperparameters: Hyperparameters,
    algorithm: Algorithm,
    config: Config,
) -> tuple[Float[Array, ""], Metrics]:
    """L_QL - lambda_MI J_V, up to the constant H(z): what phi, eta, psi and v descend.

    Mahajan et al. 2019, section 3 (the overall objective) and Algorithm 1.

    Args:
        params: online weights, differentiated.
        target_params: target network.
        latent_params: the latent policy, for log p(z) in r_aux.
        batch: time-major episodes.
        hyperparameters: traced numbers.
        algorithm: the parts.
        config: static choices of the loss terms.
    """
    q_values = utilities(algorithm, params, batch)
    target_q_values = utilities(algorithm, target_params, batch)
    chooser = q_values if config.training.double_q else target_q_values
    next_actions = greedy_actions(chooser[1:], batch.action_mask[1:])
    q_taken = mixed(
        algorithm,
        params,
        select(q_values[:-1], batch.actions),
        batch.global_state[:-1],
        batch.latent,
    )
    q_next = mixed(
        algorithm,
        target_params,
        select(target_q_values[1:], next_actions),
        batch.global_state[1:],
        batch.latent,
    )
    reward, mi_loss = batch.reward, jnp.float32(0.0)
    metrics: Metrics = {}
    if algorithm.discriminator is not None:
        log_q, weight = posterior(
            algorithm.discriminator,
            config,
            params,
            q_values[:-1],
            batch,
            hyperparameters.temperature,
        )
        mi_loss = -weighted_mean(log_q, weight)
        metrics["discriminator_loss"] = mi_loss
        if config.discriminator.signal == "reward":
            log_p = algorithm.latent.log_prob(latent_params, batch.global_state[0], batch.latent)
            auxiliary = intrinsic_reward(log_q, log_p, reference=config.fidelity == "reference")
            reward = reward + hyperparameters.intrinsic_weight * auxiliary
            metrics["intrinsic_reward"] = weighted_mean(auxiliary, batch.mask)
    discount = hyperparameters.gamma * batch.discount
    q_loss, q_metrics = td_loss(q_taken, q_next, reward, discount, batch.mask)
    total = q_loss + hyperparameters.mi_weight * mi_loss
    return total, {"loss": total} | q_metrics | metrics


def update(
    params: Params,
    target_params: Params,
    opt_state: Any,
    latent_params: NetworkParams,
    batch: Episode,
    hyperparameters: Hyperparameters,
    algorithm: Algorithm,
    config: Config,
) -> tuple[Params, Any, Metrics]:
    """One gradient step on a time-major batch; the arguments are those of `loss`."""
    grads, metrics = jax.grad(loss, has_aux=True)(
        params, target_params, latent_params, batch, hyperparameters, algorithm, config
    )
    optimizer = make_optimizer(hyperparameters)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    metrics["grad_norm"] = optax.global_norm(grads)
    return optax.apply_updates(params, updates), opt_state, metrics


def update_latent(
    params: NetworkParams,
    opt_state: Any,
    batch: LatentOutcome,
    hyperparameters: Hyperparameters,
    latent: Latent,
    config: Config,
) -> tuple[NetworkParams, Any]:
    """One gradient step of the latent policy on replayed outcomes (J_RL, Algorithm 1)."""

    def latent_loss(params: NetworkParams) -> Float[Array, ""]:
        return latent_policy_loss(
            latent.log_prob(params, batch.initial_state, batch.latent),
            hyperparameters.latent_return_scale * batch.episode_return,
            latent.entropy(params, batch.initial_state),
            hyperparameters.latent_entropy_weight,
            reference=config.fidelity == "reference",
        )

    updates, opt_state = make_latent_optimizer(hyperparameters).update(
        jax.grad(latent_loss)(params), opt_state, params
    )
    return optax.apply_updates(params, updates), opt_state
