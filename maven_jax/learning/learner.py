"""Gradient steps: one on a replayed batch of episodes, and those of the latent policy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from maven_jax.algorithms.objectives import Networks
from maven_jax.algorithms.table import OPTIMIZERS, Algorithm
from maven_jax.config import Config, Hyperparameters
from maven_jax.episodes import from_start, step_latent
from maven_jax.functional.exploration import boltzmann_policy, greedy_policy, linear_schedule
from maven_jax.functional.losses import intrinsic_reward, weighted_mean
from maven_jax.latents import Latent
from maven_jax.networks.agents import episode_inputs
from maven_jax.networks.discriminators import Discriminator, Posterior, trajectory_features
from maven_jax.networks.layers import apply
from maven_jax.types import Episodes, LatentOutcome, Metrics, Moments, NetworkParams, Params


def make_optimizer(kind: str, hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """One of `OPTIMIZERS`, after clipping by global norm: that of one vector, in few launches."""
    return optax.chain(
        optax.flatten(optax.clip_by_global_norm(hyperparameters.max_grad_norm)),
        OPTIMIZERS.find(kind)(hyperparameters),
        optax.scale(-hyperparameters.learning_rate),
    )


def step_size(env_steps: Int[Array, ""], hyperparameters: Hyperparameters) -> Float[Array, ""]:
    """The learning rate after the environment steps taken so far."""
    duration = jnp.float32(hyperparameters.learning_rate_steps)
    left = 1 - linear_schedule(env_steps, 0.0, 1.0, jnp.maximum(duration, 1.0))
    return hyperparameters.learning_rate * jnp.where(duration > 0, left, 1.0)


def utilities(algorithm: Algorithm, params: Params, batch: Episodes) -> Float[Array, "T1 B N A"]:
    """Q_i(tau_i, u; z) along time-major rows."""
    num_actions, first = batch.action_mask.shape[-1], batch.first
    inputs = episode_inputs(batch.agents_view, batch.actions, num_actions, first)
    return apply(algorithm.agent, params.agent, inputs, batch.latent, first, method="unroll")


Reads = Callable[[Array, Array, Array, Float[Array, ""] | float], Float[Array, "T B N A"]]
"""From utilities, action mask and actions of the steps taken, and the temperature."""

READS: dict[str, Reads] = {
    "policies": lambda q_values, legal, _, temperature: boltzmann_policy(
        q_values, legal, temperature
    ),
    "greedy_actions": lambda q_values, legal, *_: greedy_policy(q_values, legal),
    "taken_actions": lambda q_values, _, actions, __: jax.nn.one_hot(
        actions, q_values.shape[-1], dtype=q_values.dtype
    ),
}
"""What the discriminator can read of the agents: `discriminator.reads`."""


def posterior(
    discriminator: Discriminator,
    config: Config,
    params: Params,
    q_values: Float[Array, "T B N A"],
    batch: Episodes,
    temperature: Float[Array, ""] | float,
) -> Posterior:
    """Log q_v(z | sigma(tau)) of the z that each episode was played with.

    Where rows hold several, a discriminator of trajectories reads each at its own last step.
    """
    reads = READS[config.discriminator.reads]
    policies = reads(q_values, batch.action_mask[:-1], batch.actions, temperature)
    features = trajectory_features(policies, batch.global_state[:-1])
    if config.discriminator.signal == "reward":
        features = jax.lax.stop_gradient(features)
    if batch.first is None:
        return discriminator.posterior(params.discriminator, features, batch.mask, batch.latent)
    return discriminator.posterior(
        params.discriminator, features, batch.mask, step_latent(batch), batch.first[:-1]
    )


def latent_log_prob(
    latent: Latent, latent_params: NetworkParams, batch: Episodes
) -> Float[Array, "*#L B"]:
    """Log p(z | s0): of every row that is an episode, else at every step, of its episode."""
    if batch.first is None:
        return latent.log_prob(latent_params, batch.global_state[0], batch.latent)
    states = batch.global_state[:-1]
    log_prob = latent.log_prob(latent_params, states, step_latent(batch))
    return from_start(log_prob, batch.first[:-1])


@jax.named_scope("loss")
def loss(
    params: Params,
    target_params: Params,
    latent_params: NetworkParams,
    batch: Episodes,
    hyperparameters: Hyperparameters,
    algorithm: Algorithm,
    config: Config,
    moments: Moments | None = None,
    target_moments: Moments | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """L_QL - lambda_MI J_V, up to the constant H(z): what phi, eta, psi and v descend.

    Mahajan et al. 2019, section 3 (the overall objective) and Algorithm 1.

    Args:
        params: online weights, differentiated.
        target_params: target network.
        latent_params: the latent policy, for log p(z) in r_aux.
        batch: time-major rows.
        hyperparameters: traced numbers.
        algorithm: the parts.
        config: static choices of the loss terms.
        moments: by which the outputs of `params` are normalised; None where they are not.
        target_moments: the same of `target_params`.
    """
    online = Networks(utilities(algorithm, params, batch), params.mixer, moments)
    target_values = utilities(algorithm, target_params, batch)
    target = Networks(target_values, target_params.mixer, target_moments)
    reward, mi_loss = batch.reward, jnp.float32(0.0)
    metrics: Metrics = {}
    if algorithm.discriminator is not None:
        log_q, weight = posterior(
            algorithm.discriminator,
            config,
            params,
            online.q_values[:-1],
            batch,
            hyperparameters.temperature,
        )
        mi_loss = -weighted_mean(log_q, weight)
        metrics["discriminator_loss"] = mi_loss
        if config.discriminator.signal == "reward":
            log_p = latent_log_prob(algorithm.training_latent, latent_params, batch)
            auxiliary = intrinsic_reward(log_q, log_p, reference=config.fidelity == "reference")
            reward = reward + hyperparameters.intrinsic_weight * weight * auxiliary
            metrics["intrinsic_reward"] = weighted_mean(auxiliary, weight)
    q_loss, q_metrics = algorithm.objective.loss(
        algorithm.mixer, online, target, reward, batch, hyperparameters, config
    )
    total = q_loss + hyperparameters.mi_weight * mi_loss
    return total, {"loss": total} | q_metrics | metrics


def update(
    params: Params,
    target_params: Params,
    opt_state: Any,
    latent_params: NetworkParams,
    batch: Episodes,
    hyperparameters: Hyperparameters,
    algorithm: Algorithm,
    config: Config,
    moments: Moments | None = None,
    target_moments: Moments | None = None,
) -> tuple[Params, Any, Metrics]:
    """One gradient step on a time-major batch; the arguments are those of `loss`."""
    grads, metrics = jax.grad(loss, has_aux=True)(
        params,
        target_params,
        latent_params,
        batch,
        hyperparameters,
        algorithm,
        config,
        moments,
        target_moments,
    )
    with jax.named_scope("optimizer"):
        optimizer = make_optimizer(config.training.optimizer, hyperparameters)
        updates, opt_state = _step(optimizer, grads, opt_state, params)
        metrics["grad_norm"] = optax.global_norm(ravel_pytree(grads)[0])
        return optax.apply_updates(params, updates), opt_state, metrics


def _step(
    optimizer: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """`optimizer.update`, where optax may mix floats and integers, whatever JAX is set to."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(grads, opt_state, params)


def update_latent(
    params: NetworkParams,
    opt_state: Any,
    batch: LatentOutcome,
    hyperparameters: Hyperparameters,
    latent: Latent,
    config: Config,
) -> tuple[NetworkParams, Any]:
    """One gradient step of the latent policy on replayed outcomes (J_RL, Algorithm 1)."""
    grads = jax.grad(latent.loss)(
        params, batch, hyperparameters, reference=config.fidelity == "reference"
    )
    optimizer = latent.optimizer(hyperparameters)
    updates, opt_state = _step(optimizer, grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state
