"""Greedy test episodes: returns, what each z does, and how much z tells about the actions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from maven_jax.algorithms import Algorithm
from maven_jax.config import Config
from maven_jax.episodes import as_floats
from maven_jax.exploration import act_greedily
from maven_jax.information import action_information, entropy
from maven_jax.learner import posterior
from maven_jax.losses import mi_lower_bound, weighted_mean
from maven_jax.rollout import Rollout, Start, env_sizes, rollout, start_episodes
from maven_jax.types import MarlEnv, Metrics, NetworkParams, Params, ScalarKey

FEW_STEPS = 16
"""Up to so long a time limit, looking for an early end costs more than it saves."""


def starts_for_each(
    env: MarlEnv, key: ScalarKey, num_sampled: int, num_values: int, per_value: int
) -> Start:
    """`num_sampled` starts, then the same `per_value` more for every one of `num_values` z.

    What z does is then told apart from what starts do: a start is all that an environment draws.
    """
    index = jnp.arange(num_sampled + per_value)
    index = jnp.concatenate([index[:num_sampled], jnp.tile(index[num_sampled:], num_values)])
    start = start_episodes(env, key, num_sampled + per_value)
    return jax.tree.map(lambda x: x[index], start)


def _play_greedily(
    env: MarlEnv,
    algorithm: Algorithm,
    params: Params,
    key: ScalarKey,
    start: Start,
    latent: Float[Array, "E Z"],
) -> Rollout:
    """Test episodes, with no step computed after the last of them has ended if that pays."""
    stop_early = env_sizes(env)[2] > FEW_STEPS
    agent, weights = algorithm.agent, params.agent
    return rollout(env, agent, weights, key, start, latent, act_greedily, stop_early=stop_early)


class LatentBehaviour(NamedTuple):
    """What each value of z does in greedy episodes."""

    probs: Float[Array, "K"]
    """p(z), the latent policy's mean over the first states."""
    returns: Float[Array, "K"]
    """Mean undiscounted returns."""
    action_share: Float[Array, "K N A"]
    """How often each agent takes each action, of all its steps."""


def latent_behaviour(
    params: Params,
    latent_params: NetworkParams,
    key: ScalarKey,
    env: MarlEnv,
    algorithm: Algorithm,
    config: Config,
    episodes: int,
) -> LatentBehaviour:
    """Plays greedy episodes from the same starts with every z, or every draw of a continuous one.

    Args:
        params: weights of one seed.
        latent_params: its latent policy.
        key: of all draws.
        env: where it is played.
        algorithm: the parts of `params`, with a latent.
        config: says how many draws stand for a continuous z.
        episodes: how many starts.
    """
    policy = algorithm.latent
    num_values = policy.size if policy.discrete else config.evaluation.latent_draws
    start_key, support_key, act_key = jax.random.split(key, 3)
    start = starts_for_each(env, start_key, 0, num_values, episodes)
    support = policy.support(latent_params, support_key, start.initial_state, num_values)
    latent = jnp.repeat(support.latent, episodes, axis=0)
    played = _play_greedily(env, algorithm, params, act_key, start, latent).episodes
    taken = jax.nn.one_hot(played.actions, played.action_mask.shape[-1], dtype=jnp.float32)
    taken = taken * played.mask[..., None, None]
    taken = taken.sum(0).reshape(num_values, episodes, *taken.shape[2:]).sum(1)
    returns = played.reward.sum(0).reshape(num_values, episodes).mean(1)
    return LatentBehaviour(support.probs.mean(-1), returns, taken / taken.sum(-1, keepdims=True))


@jax.named_scope("evaluation")
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
    agent takes its own argmax. The episodes of each z have the same starts, whatever z.

    Returns:
        `return`: mean undiscounted return with z from the latent policy; `extras/...`: the means of
        the environment's own measures over the same episodes. With a latent also, over the values
        of a discrete z, or over `latent_draws` draws of a continuous one, in nats: `return_z` (of
        each), `action_information` (I(z; joint actions | start), exact), `latent_entropy` and, with
        a discriminator, `mi_bound_test` (J_V on the same episodes, with H(z | s0)). With a
        discrete z also `return_uniform` (z uniform), and `latent_probs`, the latent policy's mean
        over all first states, of which `latent_entropy` is the entropy.
    """
    policy = algorithm.latent
    num_values = policy.size if policy.discrete else config.evaluation.latent_draws
    per_value = config.evaluation.episodes_per_latent if policy.size else 0
    num_sampled = config.evaluation.episodes
    start_key, latent_key, support_key, act_key = jax.random.split(key, 4)
    start = starts_for_each(env, start_key, num_sampled, num_values, per_value)
    sampled = policy.sample(latent_params, latent_key, start.initial_state[:num_sampled])
    support = policy.support(latent_params, support_key, start.initial_state, num_values)
    each = jnp.repeat(support.latent, per_value, axis=0)
    latent = jnp.concatenate([sampled, each])
    episodes, q_values, _, extras = _play_greedily(env, algorithm, params, act_key, start, latent)
    returns = episodes.reward.sum(0)
    metrics = {"return": returns[:num_sampled].mean()}
    metrics |= {f"extras/{name}": x[:num_sampled].mean() for name, x in extras.items()}
    if not policy.size:
        return metrics

    own = jax.tree.map(lambda x: x[:, num_sampled:], episodes)._replace(latent=each)
    own = as_floats(own, policy.size)
    return_z = returns[num_sampled:].reshape(num_values, per_value).mean(-1)
    given_start = support.probs[:, num_sampled : num_sampled + per_value]
    metrics |= {
        "return_z": return_z,
        "action_information": action_information(given_start, own.actions, own.mask),
    }
    if policy.discrete:
        latent_probs = support.probs.mean(-1)
        metrics |= {
            "return_uniform": return_z.mean(),
            "latent_probs": latent_probs,
            "latent_entropy": entropy(latent_probs),
        }
    else:
        metrics["latent_entropy"] = policy.entropy(latent_params, start.initial_state).mean()
    if algorithm.discriminator is not None:
        log_q, weight = posterior(
            algorithm.discriminator, config, params, q_values[:, num_sampled:], own, temperature
        )
        episode_log_q = jax.vmap(weighted_mean, in_axes=1)(log_q, weight)
        own_entropy = policy.entropy(latent_params, own.global_state[0]).mean()
        metrics["mi_bound_test"] = mi_lower_bound(episode_log_q, given_start.ravel(), own_entropy)
    return metrics
