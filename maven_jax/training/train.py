"""A whole training run as one pure function of a key and hyperparameters."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int

from maven_jax.acting.shaping import check_shaping
from maven_jax.config import Config, Hyperparameters
from maven_jax.episodes import swap_time_and_batch
from maven_jax.functional.loops import pack
from maven_jax.functional.losses import weighted_mean
from maven_jax.functional.target_moments import fresh_moments
from maven_jax.learning.learner import make_optimizer
from maven_jax.training.budget import check_steps, first_rounds, max_chunks, rounds_per_chunk
from maven_jax.training.evaluation import evaluate
from maven_jax.training.rounds import Parts, collect, make_parts, play_round, store
from maven_jax.types import MarlEnv, Metrics, NetworkParams, Params, ScalarKey, TrainState
from maven_jax.validation.checks import validate

EVALUATION = 2**31 - 1
"""Folded into a run's key it gives the key of test episodes, which no split of that key gives: how
often and how long a run is evaluated changes nothing that it learns."""


class Trainer(NamedTuple):
    """The pieces of a run: pure functions of one seed, to `jit`, `vmap` and drive in chunks."""

    init: Callable[..., TrainState]
    """`init(key, hyperparameters, weights=fresh ones)` plays one batch of episodes into the replay
    of a new state. Weights are `Params` and those of the latent policy. It is jitted."""
    chunk: Callable[..., tuple[TrainState, Metrics]]
    """`chunk(state, hyperparameters, total_env_steps=configured)` plays and learns in rounds
    until `updates_per_evaluation` updates are made, then evaluates. All arguments are traced.
    A finished run's state is returned unchanged: ignore the metrics. Where a chunk ends with
    weights that are not finite, the state before it is returned with `diverged` set; only its
    replay is the new one."""
    finished: Callable[[TrainState], jax.Array]
    """Whether `env_steps` has reached `total_env_steps`, or the run has diverged."""
    total_env_steps: int
    """The configuration's."""
    max_chunks: int
    """An episode takes at least one step: no run is longer."""


def rest_if(done: jax.Array, old: TrainState, new: TrainState) -> TrainState:
    """The old state where the run is done, but for the replay: none is added to a finished one."""
    small_old, small_new = (s._replace(replay=None, latent_replay=None) for s in (old, new))
    kept = jax.tree.map(lambda a, b: jnp.where(done, a, b), small_old, small_new)
    return kept._replace(replay=new.replay, latent_replay=new.latent_replay)


def in_single_precision(hyperparameters: Hyperparameters) -> Hyperparameters:
    """Each number as float32, so that none widens what it meets in JAX's 64-bit mode."""
    return jax.tree.map(jnp.float32, hyperparameters)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether no array of a tree holds a NaN or an infinity."""
    return jnp.isfinite(ravel_pytree(tree)[0]).all()


def static_part(config: Config) -> Config:
    """What of a configuration a program is compiled for: where this is equal, so is the program.

    Hyperparameters and `total_env_steps` are arguments of the program: here they are those of no
    experiment, so that nothing traced can depend on the configuration's.
    """
    training = replace(config.training, total_env_steps=0)
    return replace(config, training=training, hyperparameters=Hyperparameters())


def make_trainer(config: Config, env: MarlEnv) -> Trainer:
    """Builds `init` and `chunk` for an experiment.

    Raises:
        ConfigError: a value of the configuration that cannot work.
    """
    validate(config)
    parts = make_parts(static_part(config), env)
    check_shaping(env, config.hyperparameters)
    check_steps(config.training, parts.spec.time_limit)
    total_env_steps = config.training.total_env_steps

    def init(
        key: ScalarKey,
        hyperparameters: Hyperparameters,
        weights: tuple[Params, NetworkParams] | None = None,
    ) -> TrainState:
        return init_state(parts, key, hyperparameters, weights)

    def chunk(
        state: TrainState,
        hyperparameters: Hyperparameters,
        total_env_steps: int | Int[Array, ""] = total_env_steps,
    ) -> tuple[TrainState, Metrics]:
        return run_chunk(parts, state, hyperparameters, total_env_steps)

    def finished(state: TrainState) -> jax.Array:
        return is_finished(state, total_env_steps)

    return Trainer(
        init=jax.jit(init, inline=True),  # traced once, though it is asked for its shapes before
        chunk=chunk,
        finished=finished,
        total_env_steps=total_env_steps,
        max_chunks=max_chunks(config.training),
    )


def init_state(
    parts: Parts,
    key: ScalarKey,
    hyperparameters: Hyperparameters,
    weights: tuple[Params, NetworkParams] | None = None,
) -> TrainState:
    """A state with one batch of episodes in its replay, played before any update."""
    hyperparameters = in_single_precision(hyperparameters)
    key, *network_keys, latent_key, play_key = jax.random.split(key, 6)
    latent = parts.algorithm.latent
    params, latent_params = weights or (
        _fresh_params(parts, *network_keys),
        latent.init_params(latent_key, parts.spec.state_size),
    )
    moments = fresh_moments() if parts.config.training.normalize_targets else None
    state = TrainState(
        params=params,
        target_params=params,
        opt_state=make_optimizer(parts.config.training.optimizer, hyperparameters).init(params),
        latent_params=latent_params,
        latent_opt_state=latent.optimizer(hyperparameters).init(latent_params),
        replay=None,
        latent_replay=None,
        key=key,
        num_updates=jnp.int32(0),
        env_steps=jnp.int32(0),
        diverged=jnp.array(False),
        moments=moments,
        target_moments=moments,
    )
    playing = jax.jit(partial(collect, parts))  # traced once for its shapes and to be run
    shapes = jax.eval_shape(playing, state, play_key, hyperparameters)[0]
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    row, outcome = jax.tree.map(
        lambda x: x[0], (swap_time_and_batch(empty.episodes), empty.outcomes)
    )
    state = state._replace(
        replay=parts.replay.init(row),
        latent_replay=parts.latent_replay.init(outcome) if parts.latent_replay else None,
    )

    def play(state, key):
        without_replays = state._replace(replay=None, latent_replay=None)
        collected, _ = playing(without_replays, key, hyperparameters)
        return store(parts, state, collected, jnp.array(False)), None

    play_keys = jax.random.split(play_key, first_rounds(parts.config.training))
    return jax.lax.scan(play, state, play_keys)[0]


def _fresh_params(
    parts: Parts, agent_key: ScalarKey, mixer_key: ScalarKey, discriminator_key: ScalarKey
) -> Params:
    algorithm, spec = parts.algorithm, parts.spec
    size, discriminator = algorithm.latent.size, algorithm.discriminator
    return Params(
        agent=algorithm.agent.init_params(agent_key, spec, size),
        mixer=algorithm.mixer.init_params(mixer_key, spec, size),
        discriminator=discriminator.init_params(discriminator_key, spec, size)
        if discriminator
        else {},
    )


def run_chunk(
    parts: Parts,
    state: TrainState,
    hyperparameters: Hyperparameters,
    total_env_steps: int | Int[Array, ""],
) -> tuple[TrainState, Metrics]:
    """Rounds up to the next evaluation, and it; see `Trainer.chunk`."""
    hyperparameters = in_single_precision(hyperparameters)
    was_finished = is_finished(state, total_env_steps)

    def body(state, _):
        state, metrics = play_round(parts, state, hyperparameters, was_finished)
        return state, pack(metrics)

    length = rounds_per_chunk(parts.config.training)
    new, history = jax.lax.scan(body, state, length=length)
    test = evaluate(
        new.params,
        new.latent_params,
        jax.random.fold_in(new.key, EVALUATION),
        hyperparameters.temperature,
        parts.env,
        parts.algorithm,
        parts.config,
    )
    broken = ~all_finite((new.params, new.latent_params))
    state = rest_if(was_finished | broken, state, new)
    state = state._replace(diverged=state.diverged | (broken & ~was_finished))
    counts = {"env_steps": state.env_steps, "num_updates": state.num_updates}
    return state, counts | _over_rounds(history.rows()) | test


def _over_rounds(rows: Metrics) -> Metrics:
    """Means over rounds; of `train_return` over all their episodes."""
    num_episodes = rows.pop("train_episodes")
    means = jax.tree.map(jnp.mean, rows)
    return means | {"train_return": weighted_mean(rows["train_return"], num_episodes)}


def is_finished(state: TrainState, total_env_steps: int | Int[Array, ""]) -> jax.Array:
    """Whether the environment steps are spent, or the run has diverged."""
    return jnp.greater_equal(state.env_steps, total_env_steps) | state.diverged


def make_train(config: Config, env: MarlEnv) -> Callable[..., tuple[TrainState, Metrics]]:
    """The whole run: `train(key, hyperparameters=None) -> (state, metrics)`, to jit, vmap or embed.

    The hyperparameters are traced and unchecked; by default they are `config.hyperparameters`.

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
    run_one_chunk = jax.jit(trainer.chunk, inline=True)  # traced once, though it is asked twice

    def train(
        key: ScalarKey, hyperparameters: Hyperparameters | None = None
    ) -> tuple[TrainState, Metrics]:
        hyperparameters = hyperparameters or config.hyperparameters
        state = trainer.init(key, hyperparameters)
        _, row = jax.eval_shape(run_one_chunk, state, hyperparameters)
        blank = jax.tree.map(lambda x: jnp.zeros((trainer.max_chunks, *x.shape), x.dtype), row)

        def body(carry):
            state, metrics, index = carry
            state, row = run_one_chunk(state, hyperparameters)
            metrics = jax.tree.map(lambda m, r: m.at[index].set(r), metrics, row)
            return state, metrics, index + 1

        state, metrics, num_chunks = jax.lax.while_loop(
            lambda carry: ~trainer.finished(carry[0]), body, (state, blank, jnp.int32(0))
        )
        rows = jnp.minimum(jnp.arange(trainer.max_chunks), num_chunks - 1)
        return state, jax.tree.map(lambda m: m[rows], metrics)

    return train
