"""One round of training: episodes are played and stored, then gradient steps are taken.

Every function is of one seed, pure, and of use alone; `train` puts them together.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer
from jaxtyping import Array, Bool, Float

from maven_jax.acting.rollout import env_spec, keep, rollout, start_episodes
from maven_jax.acting.rows import play_rows, row_outcomes
from maven_jax.acting.shaping import shaped
from maven_jax.algorithms.table import OPTIMIZERS, Algorithm, make_algorithm
from maven_jax.config import Config, Hyperparameters
from maven_jax.episodes import (
    as_floats,
    as_stored,
    last_step,
    latent_outcome,
    swap_time_and_batch,
)
from maven_jax.errors import unknown
from maven_jax.functional.exploration import EXPLORATIONS, Behaviour, linear_schedule
from maven_jax.functional.loops import pack, scan
from maven_jax.functional.losses import weighted_mean
from maven_jax.functional.target_moments import update_moments
from maven_jax.learning.learner import READS, step_size, update, update_latent
from maven_jax.learning.replay import add_where, make_replay
from maven_jax.training.budget import updates_per_round
from maven_jax.types import (
    EnvSpec,
    Episodes,
    LatentOutcome,
    MarlEnv,
    Metrics,
    ScalarKey,
    TrainState,
)


class Parts(NamedTuple):
    """What all steps of a run share. No arrays: what is learnt is in a `TrainState`."""

    config: Config
    env: MarlEnv
    spec: EnvSpec
    """The sizes of `env`."""
    algorithm: Algorithm
    replay: TrajectoryBuffer
    """Of rows of `Episodes`."""
    latent_replay: TrajectoryBuffer | None
    """Of `LatentOutcome`s; None where no latent policy learns."""


def make_parts(config: Config, env: MarlEnv) -> Parts:
    """The parts of an experiment.

    Raises:
        ConfigError: a kind that is not known, or an environment that does not follow `MarlEnv`.
    """
    EXPLORATIONS.find(config.exploration.kind)
    OPTIMIZERS.find(config.training.optimizer)
    if config.discriminator.reads not in READS:
        raise unknown("discriminator.reads", config.discriminator.reads, READS)
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    training, latent = config.training, config.latent
    learns = algorithm.latent.learnt
    return Parts(
        config=config,
        env=env,
        spec=spec,
        algorithm=algorithm,
        replay=make_replay(training.replay_size, training.batch_size),
        latent_replay=make_replay(latent.replay_size, latent.batch_size) if learns else None,
    )


class Collected(NamedTuple):
    """What a round's acting leaves for the replays."""

    episodes: Episodes
    """Time-major rows `T E ...`, in the replay's types, `reward` times `reward_scale`."""
    outcomes: LatentOutcome | None
    """`K ...`, for the latent policy; None where none learns."""
    counted: Bool[Array, "K"] | None
    """Which of them are outcomes; None where all are."""


@jax.named_scope("acting")
def collect(
    parts: Parts, state: TrainState, key: ScalarKey, hyperparameters: Hyperparameters
) -> tuple[Collected, Metrics]:
    """Plays `training.num_envs` rows, with z from the latent policy and with exploration.

    A row is one episode or, with `training.row_slots`, as many as it holds.

    Returns:
        What was played, and metrics: `epsilon`; `train_return`, the mean undiscounted return,
        shaped rewards included, in packed sequences of the `PlayedRows.counted` episodes alone;
        `train_episodes`, how many these are: the weight of `train_return` in a mean over rounds.
    """
    algorithm, training = parts.algorithm, parts.config.training
    sample_latent = partial(algorithm.training_latent.sample, state.latent_params)
    agent, params = algorithm.agent, state.params.agent
    env = shaped(parts.env, state.env_steps, hyperparameters)
    outcomes, counted = None, None
    if training.row_slots:
        epsilon, behaviour = _explore(parts, state, hyperparameters)
        size = training.num_envs, training.row_slots
        played = play_rows(env, agent, params, key, sample_latent, behaviour, *size)
        episodes, ended = played.episodes, played.ended
        train_return = weighted_mean(played.returns, played.counted)
        num_episodes = played.counted.sum(dtype=jnp.int32)
        if parts.latent_replay is not None:
            outcomes, counted = row_outcomes(played)
    else:
        start_key, latent_key, act_key = jax.random.split(key, 3)
        start = start_episodes(env, start_key, training.num_envs)
        z = sample_latent(latent_key, start.initial_state)
        epsilon, behaviour = _explore(parts, state, hyperparameters)
        episodes = rollout(env, agent, params, act_key, start, z, behaviour).episodes
        ended = last_step(episodes.mask)
        train_return = episodes.reward.sum(0).mean()
        num_episodes = jnp.int32(training.num_envs)
        if parts.latent_replay is not None:
            outcomes = latent_outcome(episodes)
    if not training.bootstrap_at_limit:
        episodes = episodes._replace(discount=keep(~ended, episodes.discount))
    episodes = episodes._replace(reward=hyperparameters.reward_scale * episodes.reward)
    one_hot = algorithm.latent.size > 0 and algorithm.latent.discrete
    episodes = as_stored(episodes, parts.spec.num_actions, one_hot=one_hot)
    metrics = {"epsilon": epsilon, "train_return": train_return, "train_episodes": num_episodes}
    return Collected(episodes, outcomes, counted), metrics


def _explore(
    parts: Parts, state: TrainState, hyperparameters: Hyperparameters
) -> tuple[Float[Array, ""], Behaviour]:
    """Epsilon after the steps taken so far, and how utilities become actions."""
    epsilon = linear_schedule(
        state.env_steps,
        hyperparameters.epsilon_start,
        hyperparameters.epsilon_finish,
        hyperparameters.epsilon_steps,
    )
    explore = EXPLORATIONS.find(parts.config.exploration.kind)
    return epsilon, explore(epsilon, hyperparameters.exploration_temperature)


@jax.named_scope("storing")
def store(
    parts: Parts, state: TrainState, collected: Collected, is_finished: Bool[Array, ""]
) -> TrainState:
    """The state with what was collected in its replays and its steps counted.

    Args:
        parts: the run's.
        state: where to store it.
        collected: from `collect`.
        is_finished: whether the run has finished: then nothing is added.
    """
    episodes, outcomes, counted = collected
    state = state._replace(
        replay=add_where(~is_finished, state.replay, swap_time_and_batch(episodes)),
        env_steps=state.env_steps + episodes.mask.sum(dtype=jnp.int32),
    )
    if parts.latent_replay is None:
        return state
    counted = ~is_finished if counted is None else counted & ~is_finished
    return state._replace(latent_replay=add_where(counted, state.latent_replay, outcomes))


def gradient_step(
    parts: Parts, state: TrainState, key: ScalarKey, hyperparameters: Hyperparameters
) -> tuple[TrainState, Metrics]:
    """One gradient step on a replayed batch, and the target network's update when it is due."""
    with jax.named_scope("sampling"):
        sampled = parts.replay.sample(state.replay, key).experience
    learning_rate: Any = step_size(state.env_steps, hyperparameters)
    params, opt_state, metrics = update(
        state.params,
        state.target_params,
        state.opt_state,
        state.latent_params,
        as_floats(swap_time_and_batch(sampled), parts.algorithm.latent.size),
        hyperparameters._replace(learning_rate=learning_rate),
        parts.algorithm,
        parts.config,
        state.moments,
        state.target_moments,
    )
    num_updates = state.num_updates + 1
    interval = parts.config.training.target_update_interval
    moments = state.moments
    if moments is not None:
        batch = metrics["q_target"], metrics["q_target_variance"]
        moments = update_moments(moments, state.num_updates, *batch)
    with jax.named_scope("optimizer"):
        rate, old = hyperparameters.target_update_rate, (state.target_params, state.target_moments)
        moved = optax.incremental_update((params, moments), old, rate)
        target, target_moments = optax.periodic_update(moved, old, num_updates, interval)
    state = state._replace(
        params=params,
        target_params=target,
        opt_state=opt_state,
        num_updates=num_updates,
        moments=moments,
        target_moments=target_moments,
    )
    return state, metrics


@jax.named_scope("latent_steps")
def latent_steps(
    parts: Parts, state: TrainState, key: ScalarKey, hyperparameters: Hyperparameters
) -> TrainState:
    """`latent.updates` gradient steps of the latent policy; none where nothing of it is learnt."""
    if parts.latent_replay is None:
        return state
    config, latent = parts.config, parts.algorithm.latent
    keys = jax.random.split(key, config.latent.updates)
    sample = jax.vmap(parts.latent_replay.sample, in_axes=(None, 0))
    batches = sample(state.latent_replay, keys).experience

    def step(carry, batch):
        params, opt_state = carry
        return update_latent(params, opt_state, batch, hyperparameters, latent, config), None

    carry = state.latent_params, state.latent_opt_state
    (params, opt_state), _ = scan(step, carry, batches)
    return state._replace(latent_params=params, latent_opt_state=opt_state)


def learn(
    parts: Parts,
    state: TrainState,
    keys: tuple[ScalarKey, ScalarKey],
    hyperparameters: Hyperparameters,
) -> tuple[TrainState, Metrics]:
    """One `gradient_step`, by the first key, then the `latent_steps`, by the second."""
    step_key, latent_key = keys
    state, metrics = gradient_step(parts, state, step_key, hyperparameters)
    return latent_steps(parts, state, latent_key, hyperparameters), metrics


def play_round(
    parts: Parts, state: TrainState, hyperparameters: Hyperparameters, is_finished: Bool[Array, ""]
) -> tuple[TrainState, Metrics]:
    """Episodes, then `updates_per_round` times `learn`; metrics are means over these."""
    key, collect_key, *keys = jax.random.split(state.key, 4)
    collected, metrics = collect(parts, state, collect_key, hyperparameters)
    state = store(parts, state._replace(key=key), collected, is_finished)
    num_updates = updates_per_round(parts.config.training)
    if num_updates == 1:
        state, update_metrics = learn(parts, state, tuple(keys), hyperparameters)
    else:
        step_keys = tuple(jax.random.split(k, num_updates) for k in keys)

        def step(state, keys):
            state, metrics = learn(parts, state, keys, hyperparameters)
            return state, pack(metrics)

        state, history = jax.lax.scan(step, state, step_keys)
        update_metrics = jax.tree.map(jnp.mean, history.rows())
    return state, metrics | update_metrics
