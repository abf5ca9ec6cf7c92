"""A run's trained agents, and the environment that they play in: its own or another."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from maven_jax.acting.rollout import env_spec
from maven_jax.algorithms.table import Algorithm, make_algorithm
from maven_jax.config import Config
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError, check
from maven_jax.experiments.evaluating import evaluate_lanes, evaluation_key, trained_weights
from maven_jax.experiments.grid import Lanes
from maven_jax.experiments.provenance import env_of_run
from maven_jax.experiments.run import Run
from maven_jax.experiments.sweep import spread
from maven_jax.types import EnvSpec, MarlEnv, NetworkParams, Params


def with_episodes(config: Config, episodes: int, seed: int) -> Config:
    """The configuration with so many test episodes.

    Raises:
        ConfigError: their number, or their seed, is out of range.
    """
    check(1 <= episodes <= 10**5, "episodes", episodes, "a whole number from 1 to 100000")
    check(0 <= seed < 2**31, "seed", seed, "a whole number from 0 to 2**31 - 1")
    return replace(config, evaluation=replace(config.evaluation, episodes=episodes))


class Trained(NamedTuple):
    """The agents of all lanes of a run, where they play."""

    env: MarlEnv
    algorithm: Algorithm
    params: Params
    """Host arrays with a leading axis of lanes, in the order of `Run.lanes`."""
    latent_params: NetworkParams
    """The same, of the latent policy."""


def load_trained(
    run: Run,
    env: MarlEnv | None = None,
    make_env: Callable[[Config], MarlEnv] = make_env,
    say: Callable[[str], None] = warnings.warn,
) -> Trained:
    """The newest weights of a run, and the environment to play in.

    Args:
        run: from `load_run`; nothing in its folder is changed.
        env: to play in; by default the one that the run was trained in.
        make_env: builds the environment of the run's configuration.
        say: is called with a line about weights from before the run's end, or that are damaged.

    Raises:
        ConfigError: `env` has other sizes than the run's environment, or the latter cannot be made.
        StorageError: there are no weights, or they are damaged.
    """
    try:
        own = env_of_run(run.path, run.config, run.info, make_env)
    except ConfigError:
        if env is None:
            raise
        own = env  # whose sizes the weights are compared with
    env = own if env is None else env
    spec = env_spec(env)
    refuse_other_sizes(env_spec(own), spec)
    params, latent_params = trained_weights(run, own, say)
    return Trained(env, make_algorithm(run.config, spec), params, latent_params)


SIZES = {
    "num_agents": "agents",
    "num_actions": "actions",
    "view_size": "features in an agent's view",
    "state_size": "features in the global state",
}
"""What weights are of, and how an error calls it; the time limit may differ."""


def refuse_other_sizes(trained: EnvSpec, played: EnvSpec) -> None:
    """Raises `ConfigError` where weights of one environment cannot play in the other."""
    for name, words in SIZES.items():
        of_weights, found = getattr(trained, name), getattr(played, name)
        if found != of_weights:
            raise ConfigError(f"environment has {found} {words}; the weights are of {of_weights}")


def play_tests(
    params: Params,
    latent_params: NetworkParams,
    seed: int,
    lanes: Lanes,
    config: Config,
    env: MarlEnv,
) -> dict[str, np.ndarray]:
    """Metrics of test episodes with the weights of every lane, as `evaluate_lanes` returns them."""
    algorithm = make_algorithm(config, env_spec(env))
    num_lanes = len(lanes.seeds)
    temperatures = np.asarray(spread(lanes.hyperparameters, num_lanes).temperature)
    keys = jax.random.split(evaluation_key(seed, "table"), num_lanes)
    return evaluate_lanes(params, latent_params, keys, temperatures, env, algorithm, config)
