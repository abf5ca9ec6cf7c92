"""Greedy test episodes: returns, what each z does, and how much z tells about the actions."""

import jax
import jax.numpy as jnp

from maven_jax.algorithms import Algorithm
from maven_jax.config import Config
from maven_jax.information import action_information, entropy
from maven_jax.learner import posterior
from maven_jax.losses import mi_lower_bound, weighted_mean
from maven_jax.rollout import rollout, start_episodes
from maven_jax.types import MarlEnv, Metrics, NetworkParams, Params, ScalarKey


def evaluate(
    params: Params,
    latent_params: NetworkParams,
    key: ScalarKey,
    temperature: jax.Array | float,
    env: MarlEnv,
    algorithm: Algorithm,
    config: Config,
) -> Metrics:
    """Plays `evaluation.episodes` greedy episodes, and `episodes_per_latent` more of each z.

    Mahajan et al. 2019, section 3 (test time): z is sampled at the start of the episode, then each
    agent takes its own argmax.

    Returns:
        `return`: mean undiscounted return with z from the latent policy; `extras/...`: the means of
        the environment's own measures over the same episodes. With a latent also `return_uniform`
        (z uniform), `return_z` and `latent_probs` (`Z` each), `latent_entropy`,
        `action_information` (I(z; joint actions), counted) and, with a discriminator,
        `mi_bound_test` (the variational bound on the same episodes), the last three in nats under
        p(z), the latent policy's mean over the first states.
    """
    latent_size = algorithm.latent.size
    per_latent = config.evaluation.episodes_per_latent if latent_size else 0
    num_sampled, num_each = config.evaluation.episodes, per_latent * latent_size
    start_key, latent_key, act_key = jax.random.split(key, 3)
    start = start_episodes(env, start_key, num_sampled + num_each)
    sampled = algorithm.latent.sample(latent_params, latent_key, start.initial_state[:num_sampled])
    each = jnp.repeat(jnp.eye(latent_size), per_latent, axis=0)
    latent = jnp.concatenate([sampled, each])
    episodes, q_values, extras = rollout(
        env, algorithm.agent, params.agent, act_key, start, latent, 0.0
    )
    returns = episodes.reward.sum(0)
    metrics = {"return": returns[:num_sampled].mean()}
    metrics |= {f"extras/{name}": x[:num_sampled].mean() for name, x in extras.items()}
    if not latent_size:
        return metrics

    own = jax.tree.map(lambda x: x[:, num_sampled:], episodes)._replace(latent=each)
    log_probs = jax.vmap(
        lambda z: algorithm.latent.log_prob(
            latent_params, start.initial_state, jnp.broadcast_to(z, latent.shape)
        )
    )(jnp.eye(latent_size))
    latent_probs = jnp.exp(log_probs).mean(-1)
    return_z = returns[num_sampled:].reshape(latent_size, per_latent).mean(-1)
    metrics |= {
        "return_uniform": return_z.mean(),
        "return_z": return_z,
        "latent_probs": latent_probs,
        "latent_entropy": entropy(latent_probs),
        "action_information": action_information(latent_probs, own.actions, own.mask),
    }
    if algorithm.discriminator is not None:
        log_q, weight = posterior(
            algorithm.discriminator, config, params, q_values[:, num_sampled:], own, temperature
        )
        log_q, weight = (x.reshape(-1, num_each) for x in (log_q, weight))
        episode_log_q = jax.vmap(weighted_mean, in_axes=1)(log_q, weight)
        probability = jnp.repeat(latent_probs, per_latent)
        metrics["mi_bound_test"] = mi_lower_bound(
            episode_log_q, probability, metrics["latent_entropy"]
        )
    return metrics
