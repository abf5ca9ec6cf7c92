"""An episode as a GIF, by the environment's own viewer."""

from pathlib import Path
from typing import Any

import jax

from maven_jax.acting.rollout import rollout, start_episodes
from maven_jax.algorithms.table import Algorithm
from maven_jax.errors import ConfigError, StorageError
from maven_jax.functional.exploration import act_greedily
from maven_jax.types import MarlEnv, NetworkParams, Params, ScalarKey
from maven_jax.validation.files import AnyPath

FRAMES_A_SECOND = 5


def record_episode(
    env: MarlEnv,
    algorithm: Algorithm,
    params: Params,
    latent_params: NetworkParams,
    key: ScalarKey,
) -> list[Any]:
    """The environment's states of one greedy episode, the first and the last included.

    Args:
        env: whose episode it is.
        algorithm: the parts of `params`.
        params: weights of one seed.
        latent_params: the latent policy, which z is drawn from.
        key: of the episode's draws.
    """

    @jax.jit
    def play(params: Params, latent_params: NetworkParams, key: ScalarKey) -> Any:
        start_key, latent_key, act_key = jax.random.split(key, 3)
        start = start_episodes(env, start_key, 1)
        z = algorithm.latent.sample(latent_params, latent_key, start.initial_state)
        played = rollout(env, algorithm.agent, params.agent, act_key, start, z, act_greedily)
        return played.env_states, played.episodes.mask.sum()

    states, num_steps = play(params, latent_params, key)
    return [jax.tree.map(lambda x, t=t: x[t, 0], states) for t in range(int(num_steps) + 1)]


def check_gif(env: MarlEnv, path: AnyPath) -> None:
    """Raises `ConfigError` where no GIF can be written there, or the environment draws nothing."""
    path = Path(path)
    if path.suffix != ".gif":
        raise ConfigError(f"render is '{path}'; allowed: a name ending in .gif")
    if not hasattr(env, "animate"):
        raise ConfigError(f"environment {type(env).__name__} has no viewer to render it")


def write_gif(env: Any, states: list[Any], path: AnyPath) -> None:
    """Draws states and writes them as an animation; on no screen.

    Raises:
        StorageError: the file cannot be written.
    """
    path = Path(path)
    import matplotlib
    from matplotlib.animation import PillowWriter

    shown_by = matplotlib.get_backend()
    matplotlib.use("Agg")
    try:
        animation = env.animate(states, interval=1000 // FRAMES_A_SECOND)
        path.parent.mkdir(parents=True, exist_ok=True)
        animation.save(path, writer=PillowWriter(fps=FRAMES_A_SECOND))
    except OSError as error:
        raise StorageError(f"'{path}' cannot be written: {error.strerror or error}") from None
    finally:
        matplotlib.use(shown_by)
