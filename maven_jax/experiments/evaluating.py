"""A run's weights, and test episodes of many lanes in pieces whose memory is bounded."""

import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maven_jax.acting.rollout import rollout, start_episodes
from maven_jax.algorithms.table import Algorithm
from maven_jax.config import Config
from maven_jax.experiments.memory import num_bytes
from maven_jax.experiments.restoring import newest_weights
from maven_jax.experiments.run import Run
from maven_jax.experiments.weights import fit_lanes
from maven_jax.functional.exploration import act_greedily
from maven_jax.functional.information import entropy
from maven_jax.training.evaluation import LatentBehaviour, evaluate, latent_behaviour
from maven_jax.training.train import make_trainer, static_part
from maven_jax.types import MarlEnv, NetworkParams, Params

PIECE_BYTES = 2**28
"""Memory of one batch of test episodes, without weights; a single episode may exceed it."""

COPIES = 3
"""How often a program holds its episodes: as played, as floats, and in between."""


def trained_weights(
    run: Run, env: MarlEnv, say: Callable[[str], None] = warnings.warn
) -> tuple[Params, NetworkParams]:
    """The newest weights of a run, of its end or of its last checkpoint.

    Args:
        run: from `load_run`; nothing in its folder is changed.
        env: of its configuration, for the networks' sizes.
        say: is called with a line about weights from before the run's end, or that are damaged.

    Returns:
        Weights and those of the latent policy, as host arrays with a leading axis of lanes, in the
        order of `run.lanes`.

    Raises:
        StorageError: there are none, or they are damaged.
        ConfigError: they do not fit the run's configuration.
    """
    what = f"weights of run '{run.path}' do not fit its config.yaml"
    trainer = make_trainer(run.config, env)
    return fit_lanes(newest_weights(run, say), trainer, run.config, run.num_lanes, what)


def evaluation_key(seed: int, use: str) -> jax.Array:
    """The key of a command's test episodes; each use has its own stream.

    Training splits `jax.random.key(seed)`, and with threefry `fold_in(key, i)` equals
    `split(key, n)[i]`. A long hash is no such index. A second one keeps the streams of uses apart;
    it must differ from the first, since `unsafe_rbg` folds in by XOR.
    """
    key = jax.random.key(seed)
    for text in (f"test episodes: {use}", f"{use}: test episodes"):
        key = jax.random.fold_in(key, zlib.crc32(text.encode()) | 2**31)
    return key


def evaluate_lanes(
    params: Params,
    latent_params: NetworkParams,
    keys: jax.Array,
    temperatures: np.ndarray,
    env: MarlEnv,
    algorithm: Algorithm,
    config: Config,
) -> dict[str, np.ndarray]:
    """`evaluate` of every lane, in pieces that stay within `PIECE_BYTES`.

    The pieces depend on the experiment and the number of lanes alone, not on what memory is free.
    `return` and `extras/...` are means over all episodes, `latent_probs` and `latent_entropy` over
    all distinct starts. The episodes of each z are played in the first piece alone:
    `episodes_per_latent`, however many `episodes` there are.

    All arrays have a leading axis of lanes; the metrics are in the host's memory.
    """
    lanes = params, latent_params
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), lanes)
    sizes, group_size = cut(one, len(keys), env, algorithm, config)
    piece_keys = jax.vmap(lambda key: jax.random.split(key, len(sizes)))(keys)
    per_latent, groups = config.evaluation.episodes_per_latent, []
    for start in range(0, len(keys), group_size):
        # The last lane stands in for those that a group lacks: one shape, one program.
        index = np.minimum(np.arange(start, start + group_size), len(keys) - 1)
        group = jax.tree.map(lambda x, index=index: x[index], lanes)
        rows = []
        for number, size in enumerate(sizes):
            each = 0 if number else per_latent
            test = replace(config.evaluation, episodes=size, episodes_per_latent=each)
            own = static_part(replace(config, evaluation=test))
            own_keys = piece_keys[index, number]
            row = _test_lanes(
                *group, own_keys, temperatures[index], _ByIdentity(env), algorithm, own
            )
            rows.append(jax.device_get(row))
        groups.append(_over_all(rows, sizes, per_latent))
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(keys)], *groups)


class _ByIdentity:
    """An environment as a static argument of `jit`, also where it has no hash of its own."""

    def __init__(self, env: MarlEnv) -> None:
        self.env = env

    def __hash__(self) -> int:
        return id(self.env)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.env is other.env


@partial(jax.jit, static_argnames=("env", "algorithm", "config"))
def _test_lanes(
    params: Params,
    latent_params: NetworkParams,
    keys: jax.Array,
    temperatures: jax.Array,
    env: _ByIdentity,
    algorithm: Algorithm,
    config: Config,
) -> dict[str, jax.Array]:
    """`evaluate` of lanes, in one program for all runs of the same experiment."""
    test = partial(evaluate, env=env.env, algorithm=algorithm, config=config)
    return jax.vmap(test)(params, latent_params, keys, temperatures)


def _over_all(
    rows: list[dict[str, np.ndarray]], sizes: list[int], per_latent: int
) -> dict[str, np.ndarray]:
    """Metrics of all pieces: means over their episodes, or over their distinct starts.

    The first piece alone has metrics of each z, and `per_latent` further starts, which every z
    plays; `sizes` are the other test episodes of each piece.
    """
    num_starts = [sizes[0] + per_latent, *sizes[1:]]
    metrics = dict(rows[0])
    if len(rows) == 1:
        return metrics
    for name in rows[-1]:
        weights = num_starts if name.startswith("latent_") else sizes
        means = np.average([row[name] for row in rows], axis=0, weights=weights)
        metrics[name] = means.astype(rows[0][name].dtype)
    if "latent_probs" in metrics:  # the entropy of the mean is no mean of entropies
        metrics["latent_entropy"] = np.asarray(entropy(jnp.asarray(metrics["latent_probs"])))
    return metrics


def play_behaviour(
    params: Params,
    latent_params: NetworkParams,
    key: jax.Array,
    env: MarlEnv,
    algorithm: Algorithm,
    config: Config,
    starts: int,
) -> LatentBehaviour:
    """`latent_behaviour` of one lane over all `starts`, in pieces within `PIECE_BYTES`."""
    an_episode = _episode_bytes((params, latent_params), env, algorithm)
    sizes = _sizes(starts, an_episode * _num_values(algorithm, config))

    @partial(jax.jit, static_argnames="size")
    def play(params: Params, latent_params: NetworkParams, key: jax.Array, size: int) -> Any:
        return latent_behaviour(params, latent_params, key, env, algorithm, config, size)

    keys = jax.random.split(key, len(sizes))
    pieces = [
        jax.device_get(play(params, latent_params, own, size))
        for own, size in zip(keys, sizes, strict=True)
    ]
    probs, returns, counts = (np.stack(values) for values in zip(*pieces, strict=True))
    probs, returns = (np.average(values, axis=0, weights=sizes) for values in (probs, returns))
    return LatentBehaviour(jnp.float32(probs), jnp.float32(returns), jnp.asarray(counts.sum(0)))


def cut(
    params: Any, num_lanes: int, env: MarlEnv, algorithm: Algorithm, config: Config
) -> tuple[list[int], int]:
    """Test episodes of each piece, with z from the latent policy, and how many lanes play at once.

    As few pieces as stay within `PIECE_BYTES`. `params` are the shapes of one lane's weights.
    """
    an_episode = _episode_bytes(params, env, algorithm)
    test = config.evaluation
    num_each = test.episodes_per_latent * _num_values(algorithm, config)
    sizes = _sizes(test.episodes, an_episode)
    lanes = max(1, PIECE_BYTES // (an_episode * (sizes[0] + num_each)))
    return sizes, min(lanes, num_lanes)


def _episode_bytes(params: Any, env: MarlEnv, algorithm: Algorithm) -> int:
    """What an episode takes in memory while it is played."""

    def play(params: Params, latent_params: NetworkParams, key: jax.Array) -> Any:
        start = start_episodes(env, key, 1)
        z = algorithm.latent.sample(latent_params, key, start.initial_state)
        played = rollout(env, algorithm.agent, params.agent, key, start, z, act_greedily)
        hidden = algorithm.agent.initial_carry(1, env.num_agents)
        return played._replace(env_states=None), hidden

    key = jax.eval_shape(lambda: jax.random.key(0))
    return COPIES * num_bytes(jax.eval_shape(play, *params, key))


def _num_values(algorithm: Algorithm, config: Config) -> int:
    """How many values of z, or draws of a continuous one, play every start."""
    latent = algorithm.latent
    return latent.size if latent.discrete or not latent.size else config.evaluation.latent_draws


def _sizes(number: int, bytes_each: int) -> list[int]:
    """Episodes of each piece: as few pieces as stay within `PIECE_BYTES`, none of them empty."""
    count = min(number, -(-number * bytes_each // PIECE_BYTES))
    return [len(piece) for piece in np.array_split(np.arange(number), count)]
