"""Greedy test episodes: returns, what each z does, and I(z; actions) beside the bound J_V."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from maven_jax.acting.rollout import Rollout, Start, env_sizes, rollout, start_episodes
from maven_jax.algorithms.table import Algorithm
from maven_jax.config import Config
from maven_jax.episodes import as_floats
from maven_jax.functional.exploration import act_greedily
from maven_jax.functional.information import action_information, entropy
from maven_jax.functional.losses import mi_lower_bound, weighted_mean
from maven_jax.latents import Latent
from maven_jax.learning.learner import posterior
from maven_jax.types import Episodes, MarlEnv, Metrics, NetworkParams, Params, ScalarKey

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
    """What each value of z, or each draw of a continuous one, does in greedy episodes."""

    probs: Float[Array, "K"]
    """p(z), the latent policy's mean over the starts; of draws 1 / K."""
    returns: Float[Array, "K"]
    """Mean undiscounted returns."""
    action_counts: Float[Array, "K N A"]
    """How often each agent takes each action."""

    @property
    def action_share(self) -> Float[Array, "K N A"]:
        """How often each agent takes each action, of all its steps."""
        return self.action_counts / self.action_counts.sum(-1, keepdims=True)


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
    support = policy.support(latent_params, support_key, start.initial_state[:episodes], num_values)
    latent = support.latent.reshape(num_values * episodes, policy.size)
    played = _play_greedily(env, algorithm, params, act_key, start, latent).episodes
    taken = jax.nn.one_hot(played.actions, played.action_mask.shape[-1], dtype=jnp.float32)
    taken = taken * played.mask[..., None, None]
    taken = taken.sum(0).reshape(num_values, episodes, *taken.shape[2:]).sum(1)
    returns = played.reward.sum(0).reshape(num_values, episodes).mean(1)
    return LatentBehaviour(support.probs.mean(-1), returns, taken)


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
    agent takes its own argmax. The episodes of each z have the same `episodes_per_latent` starts.
    A continuous z is represented by `latent_draws` equally likely draws from p(z | s0) of each
    start: draw k is z_k = g(x_k, s0), of the same noise x_k at every start.

    Returns:
        `return`: mean undiscounted return with z from the latent policy; `extras/...`: the means of
        the environment's own measures over the same episodes. With a latent also `latent_entropy`,
        in nats, and of a discrete z `latent_probs`: the latent policy's mean over all distinct
        starts, and the entropy of that mean; of a continuous z the mean of H(z | s0), a
        differential entropy.

        With `episodes_per_latent` above 0 also, of the episodes of each z: `return_z`, the mean
        return of each value or of each draw, and of a discrete z their mean `return_uniform`;
        `action_information`, I(z; joint actions | start); and with a discriminator
        `mi_bound_test`, J_V; the latter two in nats. Of a discrete z both are exact for these
        starts, and J_V of actions is at most `action_information`. Of a continuous z both are
        estimates. `action_information` is the information of the `latent_draws` draws, so at most
        the logarithm of their number; its expectation is at most I(z; joint actions | start).
        `mi_bound_test` is the mean of log q_v - log p(z | s0) over the draws, whose expectation is
        J_V, with `mi_bound_test_error`, its standard error over the draws (not with one draw). It
        may lie above `action_information`, by chance or where I exceeds that logarithm.
    """
    policy = algorithm.latent
    num_values = policy.size if policy.discrete else config.evaluation.latent_draws
    per_value = config.evaluation.episodes_per_latent if policy.size else 0
    num_sampled = config.evaluation.episodes
    start_key, latent_key, support_key, act_key = jax.random.split(key, 4)
    start = starts_for_each(env, start_key, num_sampled, num_values, per_value)
    distinct = start.initial_state[: num_sampled + per_value]
    sampled = policy.sample(latent_params, latent_key, distinct[:num_sampled])
    support = policy.support(latent_params, support_key, distinct, num_values)
    each = support.latent[:, num_sampled:].reshape(num_values * per_value, policy.size)
    latent = jnp.concatenate([sampled, each])
    episodes, q_values, _, extras = _play_greedily(env, algorithm, params, act_key, start, latent)
    returns = episodes.reward.sum(0)
    metrics = {"return": returns[:num_sampled].mean()}
    metrics |= {f"extras/{name}": x[:num_sampled].mean() for name, x in extras.items()}
    if not policy.size:
        return metrics

    if policy.discrete:
        latent_probs = support.probs.mean(-1)
        metrics |= {"latent_probs": latent_probs, "latent_entropy": entropy(latent_probs)}
    else:
        metrics["latent_entropy"] = policy.entropy(latent_params, distinct).mean()
    if not per_value:
        return metrics

    own = jax.tree.map(lambda x: x[:, num_sampled:], episodes)._replace(latent=each)
    own = as_floats(own, policy.size)
    return_z = returns[num_sampled:].reshape(num_values, per_value).mean(-1)
    weights = support.probs[:, num_sampled:]
    metrics["return_z"] = return_z
    metrics["action_information"] = action_information(weights, own.actions, own.mask)
    if policy.discrete:
        metrics["return_uniform"] = return_z.mean()
    if algorithm.discriminator is not None:
        log_q, weight = posterior(
            algorithm.discriminator, config, params, q_values[:, num_sampled:], own, temperature
        )
        episode_log_q = jax.vmap(weighted_mean, in_axes=1)(log_q, weight)
        metrics |= _bound(policy, latent_params, own, episode_log_q, weights)
    return metrics


def _bound(
    policy: Latent,
    latent_params: NetworkParams,
    own: Episodes,
    log_q: Float[Array, "E"],
    weights: Float[Array, "K P"],
) -> Metrics:
    """J_V of `E = K P` episodes, as `evaluate` returns it.

    For a continuous z, H(z | s0) is estimated from the draws that log q_v is of, so that the
    sampling error that they share cancels: all of it where q_v equals p(z | s0).
    """
    states = own.global_state[0]
    if policy.discrete:
        own_entropy = policy.entropy(latent_params, states).mean()
        return {"mi_bound_test": mi_lower_bound(log_q, weights.ravel(), own_entropy)}
    log_ratio = log_q - policy.log_prob(latent_params, states, own.latent)
    of_draws = log_ratio.reshape(weights.shape).mean(-1)  # starts share the noise of a draw
    metrics = {"mi_bound_test": of_draws.mean()}
    if len(of_draws) > 1:
        metrics["mi_bound_test_error"] = of_draws.std(ddof=1) / len(of_draws) ** 0.5
    return metrics
