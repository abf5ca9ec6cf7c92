"""One round of training: episodes are played and stored, then gradient steps are taken.

Every function is of one seed, pure, and of use alone; `train` puts them together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer
from jaxtyping import Array, Bool

from maven_jax.algorithms import Algorithm, make_algorithm
from maven_jax.config import Config, Hyperparameters
from maven_jax.episodes import as_floats, latent_outcome, swap_time_and_batch
from maven_jax.errors import unknown
from maven_jax.exploration import EXPLORATIONS, linear_schedule
from maven_jax.learner import READS, update, update_latent
from maven_jax.replay import add_unless, make_replay
from maven_jax.rollout import env_spec, rollout, start_episodes
from maven_jax.types import EnvSpec, Episode, MarlEnv, Metrics, ScalarKey, TrainState


class Parts(NamedTuple):
    """What all steps of a run share. No arrays: what is learnt is in a `TrainState`."""

    config: Config
    env: MarlEnv
    spec: EnvSpec
    """The sizes of `env`."""
    algorithm: Algorithm
    replay: TrajectoryBuffer
    """Of whole episodes."""
    latent_replay: TrajectoryBuffer | None
    """Of `LatentOutcome`s; None where no latent policy learns."""


def make_parts(config: Config, env: MarlEnv) -> Parts:
    """The parts of an experiment.

    Raises:
        ConfigError: a kind that is not known, or an environment that does not follow `MarlEnv`.
    """
    for field, kind, known in (
        ("exploration.kind", config.exploration.kind, EXPLORATIONS),
        ("discriminator.reads", config.discriminator.reads, READS),
    ):
        if kind not in known:
            raise unknown(field, kind, known)
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


def collect(
    parts: Parts, state: TrainState, key: ScalarKey, hyperparameters: Hyperparameters
) -> tuple[Episode, Metrics]:
    """Plays `training.num_envs` episodes, with z from the latent policy and with exploration.

    Returns:
        Time-major episodes `T E ...`, their actions in the replay's type, and `epsilon` and
        `train_return`, the mean undiscounted return.
    """
    config, env, algorithm = parts.config, parts.env, parts.algorithm
    start_key, latent_key, act_key = jax.random.split(key, 3)
    start = start_episodes(env, start_key, config.training.num_envs)
    z = algorithm.played_latent.sample(state.latent_params, latent_key, start.initial_state)
    epsilon = linear_schedule(
        state.env_steps,
        hyperparameters.epsilon_start,
        hyperparameters.epsilon_finish,
        hyperparameters.epsilon_steps,
    )
    explore = EXPLORATIONS[config.exploration.kind]
    behaviour = explore(epsilon, hyperparameters.exploration_temperature)
    agent, params = algorithm.agent, state.params.agent
    episodes = rollout(env, agent, params, act_key, start, z, behaviour).episodes
    metrics = {"epsilon": epsilon, "train_return": episodes.reward.sum(0).mean()}
    stored_type = jnp.int8 if parts.spec.num_actions <= 2**7 else jnp.int32
    return episodes._replace(actions=episodes.actions.astype(stored_type)), metrics


def store(parts: Parts, state: TrainState, episodes: Episode, rests: Bool[Array, ""]) -> TrainState:
    """The state with time-major episodes in its replays and their steps counted.

    Args:
        parts: the run's.
        state: where to store them.
        episodes: from `collect`.
        rests: the replays stay as they are, since the run has finished; see `add_unless`.
    """
    batch = swap_time_and_batch(episodes)
    state = state._replace(
        replay=add_unless(rests, parts.replay, state.replay, batch),
        env_steps=state.env_steps + episodes.mask.sum(dtype=jnp.int32),
    )
    if parts.latent_replay is None:
        return state
    outcome = latent_outcome(episodes)
    stored = add_unless(rests, parts.latent_replay, state.latent_replay, outcome)
    return state._replace(latent_replay=stored)


def gradient_step(
    parts: Parts, state: TrainState, key: ScalarKey, hyperparameters: Hyperparameters
) -> tuple[TrainState, Metrics]:
    """One gradient step on a replayed batch, and the target network's copy when it is due."""
    sampled = parts.replay.sample(state.replay, key).experience
    params, opt_state, metrics = update(
        state.params,
        state.target_params,
        state.opt_state,
        state.latent_params,
        as_floats(swap_time_and_batch(sampled)),
        hyperparameters,
        parts.algorithm,
        parts.config,
    )
    num_updates = state.num_updates + 1
    interval = parts.config.training.target_update_interval
    target = optax.periodic_update(params, state.target_params, num_updates, interval)
    state = state._replace(
        params=params, target_params=target, opt_state=opt_state, num_updates=num_updates
    )
    return state, metrics


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
    (params, opt_state), _ = jax.lax.scan(step, carry, batches)
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
    parts: Parts, state: TrainState, hyperparameters: Hyperparameters, rests: Bool[Array, ""]
) -> tuple[TrainState, Metrics]:
    """Episodes, then `training.updates_per_round` times `learn`; metrics are means over these."""
    key, collect_key, *keys = jax.random.split(state.key, 4)
    episodes, metrics = collect(parts, state, collect_key, hyperparameters)
    state = store(parts, state._replace(key=key), episodes, rests)
    num_updates = parts.config.training.updates_per_round
    if num_updates == 1:
        state, update_metrics = learn(parts, state, tuple(keys), hyperparameters)
    else:
        step_keys = tuple(jax.random.split(k, num_updates) for k in keys)

        def step(state, keys):
            return learn(parts, state, keys, hyperparameters)

        state, history = jax.lax.scan(step, state, step_keys)
        update_metrics = jax.tree.map(jnp.mean, history)
    return state, metrics | update_metrics
