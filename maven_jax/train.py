"""A whole training run as one pure function of a key and hyperparameters."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer
from jaxtyping import Array, Bool

from maven_jax.algorithms import make_algorithm
from maven_jax.config import Config, Hyperparameters, TrainingConfig
from maven_jax.config.checks import validate
from maven_jax.errors import check
from maven_jax.evaluation import evaluate
from maven_jax.exploration import (
    Behaviour,
    boltzmann_actions,
    epsilon_greedy,
    linear_schedule,
    team_epsilon_greedy,
)
from maven_jax.learner import make_optimizer, update, update_latent
from maven_jax.replay import add_unless, as_floats, latent_outcome, make_replay, swap_time_and_batch
from maven_jax.rollout import env_spec, rollout, start_episodes
from maven_jax.types import Episode, MarlEnv, Metrics, NetworkParams, Params, ScalarKey, TrainState


class Trainer(NamedTuple):
    """The pieces of a run: pure functions of one seed, to `jit`, `vmap` and drive in chunks."""

    init: Callable[..., TrainState]
    """From a key, hyperparameters and, if they are not to be fresh, weights (`Params`, and those of
    the latent policy): a state with one batch of episodes in its replay."""
    chunk: Callable[[TrainState, Hyperparameters], tuple[TrainState, Metrics]]
    """Rounds of episodes and updates, `updates_per_evaluation` in all, then an evaluation. Once the
    run is finished the state stays as it is, and the metrics are those of a chunk that is thrown
    away. So it does, but for its replay, where a chunk ends with weights that are not finite: then
    `diverged` is set."""
    finished: Callable[[TrainState], jax.Array]
    """Whether `env_steps` has reached `total_env_steps`, or the run has diverged."""
    max_chunks: int
    """An episode takes at least one step: no run is longer."""


def rest_if(done: jax.Array, old: TrainState, new: TrainState) -> TrainState:
    """The old state where the run is done, but for the replay, which `add_unless` keeps."""
    small_old, small_new = (s._replace(replay=None, latent_replay=None) for s in (old, new))
    kept = jax.tree.map(lambda a, b: jnp.where(done, a, b), small_old, small_new)
    return kept._replace(replay=new.replay, latent_replay=new.latent_replay)


def in_single_precision(hyperparameters: Hyperparameters) -> Hyperparameters:
    """Each number as float32, so that none widens what it meets in JAX's 64-bit mode."""
    return jax.tree.map(jnp.float32, hyperparameters)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether no array of a tree holds a NaN or an infinity."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def first_batch_steps(training: TrainingConfig, time_limit: int) -> int:
    """Environment steps that the episodes before the first update take at most."""
    return _first_rounds(training) * training.num_envs * time_limit


def _first_rounds(training: TrainingConfig) -> int:
    return -(-training.batch_size // training.num_envs)


def make_trainer(config: Config, env: MarlEnv) -> Trainer:
    """Builds `init` and `chunk` for an experiment.

    Raises:
        ConfigError: a value of the configuration that cannot work.
    """
    validate(config)
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    training, latent = config.training, algorithm.latent
    first_rounds = _first_rounds(training)
    first_steps = first_batch_steps(training, spec.time_limit)
    check(
        training.total_env_steps > first_steps,
        "training.total_env_steps",
        training.total_env_steps,
        f"more than training.batch_size times the environment's time limit, {first_steps}, which "
        "the first batch may take",
    )
    rounds_per_chunk = training.updates_per_evaluation // training.updates_per_round
    longest = 2**31 - rounds_per_chunk * training.num_envs * spec.time_limit
    check(
        longest > first_steps,
        "training.num_envs",
        training.num_envs,
        f"fewer, so that {rounds_per_chunk} rounds of {spec.time_limit} steps are below 2**31",
    )
    check(
        training.total_env_steps <= longest,
        "training.total_env_steps",
        training.total_env_steps,
        f"at most {longest}, so that the chunk that passes it still counts below 2**31",
    )
    replay = make_replay(training.replay_size, training.batch_size)
    latent_replay = None
    if latent.learnt:
        latent_replay = make_replay(config.latent.replay_size, config.latent.batch_size)
    index_type = jnp.int8 if spec.num_actions <= 2**7 else jnp.int32  # what the replay stores

    def collect(state: TrainState, key: ScalarKey, hyperparameters: Hyperparameters):
        """A round of episodes, played with z from the latent policy and exploration."""
        start_key, latent_key, act_key = jax.random.split(key, 3)
        start = start_episodes(env, start_key, training.num_envs)
        z = algorithm.played_latent.sample(state.latent_params, latent_key, start.initial_state)
        epsilon = linear_schedule(
            state.env_steps,
            hyperparameters.epsilon_start,
            hyperparameters.epsilon_finish,
            hyperparameters.epsilon_steps,
        )
        behaviour: Behaviour
        match config.exploration.kind:
            case "epsilon_greedy":
                behaviour = partial(epsilon_greedy, epsilon=epsilon)
            case "team_epsilon_greedy":
                behaviour = partial(team_epsilon_greedy, epsilon=epsilon)
            case "boltzmann":
                temperature = hyperparameters.exploration_temperature
                behaviour = partial(boltzmann_actions, temperature=temperature)
        episodes = rollout(
            env, algorithm.agent, state.params.agent, act_key, start, z, behaviour
        ).episodes
        metrics = {"epsilon": epsilon, "train_return": episodes.reward.sum(0).mean()}
        return episodes._replace(actions=episodes.actions.astype(index_type)), metrics

    def store(state: TrainState, episodes: Episode, rests: jax.Array) -> TrainState:
        state = state._replace(
            replay=add_unless(rests, replay, state.replay, swap_time_and_batch(episodes)),
            env_steps=state.env_steps + episodes.mask.sum(dtype=jnp.int32),
        )
        if latent_replay is None:
            return state
        outcome = latent_outcome(episodes)
        stored = add_unless(rests, latent_replay, state.latent_replay, outcome)
        return state._replace(latent_replay=stored)

    def improve_latent(
        outcomes: TrajectoryBuffer,
        state: TrainState,
        key: ScalarKey,
        hyperparameters: Hyperparameters,
    ):
        keys = jax.random.split(key, config.latent.updates)
        sample = jax.vmap(outcomes.sample, in_axes=(None, 0))
        batches = sample(state.latent_replay, keys).experience

        def latent_step(carry, batch):
            params, opt_state = carry
            return (
                update_latent(params, opt_state, batch, hyperparameters, latent, config),
                None,
            )

        carry = (state.latent_params, state.latent_opt_state)
        (latent_params, latent_opt_state), _ = jax.lax.scan(latent_step, carry, batches)
        return state._replace(latent_params=latent_params, latent_opt_state=latent_opt_state)

    def train_step(
        state: TrainState, keys: tuple[ScalarKey, ScalarKey], hyperparameters: Hyperparameters
    ):
        """One gradient step of everything that is learnt."""
        sample_key, latent_key = keys
        sampled = replay.sample(state.replay, sample_key).experience
        batch = as_floats(swap_time_and_batch(sampled))
        params, opt_state, metrics = update(
            state.params,
            state.target_params,
            state.opt_state,
            state.latent_params,
            batch,
            hyperparameters,
            algorithm,
            config,
        )
        num_updates = state.num_updates + 1
        state = state._replace(
            params=params,
            target_params=optax.periodic_update(
                params, state.target_params, num_updates, training.target_update_interval
            ),
            opt_state=opt_state,
            num_updates=num_updates,
        )
        if latent_replay is not None:
            state = improve_latent(latent_replay, state, latent_key, hyperparameters)
        return state, metrics

    def play_round(state: TrainState, hyperparameters: Hyperparameters, rests: jax.Array):
        """Episodes, then gradient steps."""
        key, collect_key, *keys = jax.random.split(state.key, 4)
        episodes, metrics = collect(state, collect_key, hyperparameters)
        state = store(state._replace(key=key), episodes, rests)
        if training.updates_per_round == 1:
            state, update_metrics = train_step(state, tuple(keys), hyperparameters)
        else:
            step_keys = tuple(jax.random.split(k, training.updates_per_round) for k in keys)

            def step(state, keys):
                return train_step(state, keys, hyperparameters)

            state, history = jax.lax.scan(step, state, step_keys)
            update_metrics = jax.tree.map(jnp.mean, history)
        return state, metrics | update_metrics

    def init(
        key: ScalarKey,
        hyperparameters: Hyperparameters,
        weights: tuple[Params, NetworkParams] | None = None,
    ) -> TrainState:
        hyperparameters = in_single_precision(hyperparameters)
        key, agent_key, mixer_key, discriminator_key, latent_key, play_key = jax.random.split(
            key, 6
        )
        discriminator = algorithm.discriminator
        params = Params(
            agent=algorithm.agent.init_params(agent_key, spec, latent.size),
            mixer=algorithm.mixer.init_params(mixer_key, spec, latent.size),
            discriminator=discriminator.init_params(discriminator_key, spec, latent.size)
            if discriminator
            else {},
        )
        latent_params = latent.init_params(latent_key, spec.state_size)
        params, latent_params = weights or (params, latent_params)
        state = TrainState(
            params=params,
            target_params=params,
            opt_state=make_optimizer(hyperparameters).init(params),
            latent_params=latent_params,
            latent_opt_state=latent.optimizer(hyperparameters).init(latent_params),
            replay=None,
            latent_replay=None,
            key=key,
            num_updates=jnp.int32(0),
            env_steps=jnp.int32(0),
            diverged=jnp.array(False),
        )
        play_keys = jax.random.split(play_key, first_rounds)
        episodes = jax.eval_shape(collect, state, play_key, hyperparameters)[0]
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), episodes)
        one = jax.tree.map(lambda x: x[0], (swap_time_and_batch(empty), latent_outcome(empty)))
        state = state._replace(
            replay=replay.init(one[0]),
            latent_replay=latent_replay.init(one[1]) if latent_replay else None,
        )

        def play(state, key):
            return store(state, collect(state, key, hyperparameters)[0], jnp.array(False)), None

        return jax.lax.scan(play, state, play_keys)[0]

    def finished(state: TrainState) -> jax.Array:
        return jnp.greater_equal(state.env_steps, training.total_env_steps) | state.diverged

    def chunk(state: TrainState, hyperparameters: Hyperparameters) -> tuple[TrainState, Metrics]:
        hyperparameters = in_single_precision(hyperparameters)
        was_finished = finished(state)

        def body(state, _):
            return play_round(state, hyperparameters, was_finished)

        new, history = jax.lax.scan(body, state, length=rounds_per_chunk)
        key, test_key = jax.random.split(new.key)
        test = evaluate(
            new.params,
            new.latent_params,
            test_key,
            hyperparameters.temperature,
            env,
            algorithm,
            config,
        )
        broken = ~all_finite((new.params, new.latent_params))
        state = rest_if(was_finished | broken, state, new._replace(key=key))
        state = state._replace(diverged=state.diverged | (broken & ~was_finished))
        counts = {"env_steps": state.env_steps, "num_updates": state.num_updates}
        return state, counts | jax.tree.map(jnp.mean, history) | test

    return Trainer(
        init=init,
        chunk=chunk,
        finished=finished,
        max_chunks=-(-training.total_env_steps // (rounds_per_chunk * training.num_envs)),
    )


def make_train(
    config: Config, env: MarlEnv
) -> Callable[[ScalarKey, Hyperparameters], tuple[TrainState, Metrics]]:
    """The whole run: `train(key, hyperparameters) -> (state, metrics)`, to jit, vmap or embed.

    The hyperparameters are the argument's, traced and unchecked; `config.hyperparameters` is not
    read.

    Each metric has a leading axis of `max_chunks` rows, a row for each chunk in the order they were
    run. Seeds take different numbers of chunks: rows past a seed's last chunk repeat its last row,
    so `[-1]` is where it ended, a maximum is over its rows, and `env_steps`, which grows with every
    chunk, stands still from there on. A run whose weights turn non-finite ends there:
    `state.diverged` says so, `state` is that of the chunk before, and its last row, repeated or
    not, is to be thrown away.

    Raises:
        ConfigError: a value of the configuration that cannot work.
    """
    trainer = make_trainer(config, env)

    def train(key: ScalarKey, hyperparameters: Hyperparameters) -> tuple[TrainState, Metrics]:
        state = trainer.init(key, hyperparameters)
        _, row = jax.eval_shape(trainer.chunk, state, hyperparameters)
        blank = jax.tree.map(lambda x: jnp.zeros((trainer.max_chunks, *x.shape), x.dtype), row)

        def body(carry):
            state, metrics, index = carry
            state, row = trainer.chunk(state, hyperparameters)
            metrics = jax.tree.map(lambda m, r: m.at[index].set(r), metrics, row)
            return state, metrics, index + 1

        state, metrics, num_chunks = jax.lax.while_loop(
            lambda carry: ~trainer.finished(carry[0]), body, (state, blank, jnp.int32(0))
        )
        rows = jnp.minimum(jnp.arange(trainer.max_chunks), num_chunks - 1)
        return state, jax.tree.map(lambda m: m[rows], metrics)

    return train
