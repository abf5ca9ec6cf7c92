"""Do seeds lose the same episodes? Greedy play of every seed of some runs from the same starts.

    python benchmarks/same_starts.py runs/smax-vdn runs/smax-qmix --starts 512

An episode is won where `--extra`, one of the environment's own measures, ends above one half. If
starts decided, the seeds' wins would agree: printed are how the wins of two seeds correlate, and
how many of the seeds win a start, beside what seeds that lose independently would.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax.acting.rollout import env_spec, rollout, start_episodes
from maven_jax.algorithms.table import make_algorithm
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError, MavenJaxError
from maven_jax.experiments.evaluating import trained_weights
from maven_jax.experiments.run import Run, load_run
from maven_jax.functional.exploration import act_greedily


def play(run: Run, extra: str, num_starts: int) -> Bool[np.ndarray, "K E"]:
    """Which starts each lane of a run wins; with a latent, by one z of its own for every start.

    Raises:
        MavenJaxError: the run has no sound weights, or its environment no such measure.
    """
    config, env = run.config, make_env(run.config)
    algorithm = make_algorithm(config, env_spec(env))
    weights = trained_weights(run, env)
    start_key, latent_key, act_key = jax.random.split(jax.random.key(0), 3)
    start = start_episodes(env, start_key, num_starts)

    def extras_of(params: Any, latent_params: Any) -> dict[str, jax.Array]:
        z = algorithm.latent.sample(latent_params, latent_key, start.initial_state)
        agent = algorithm.agent, params.agent
        played = rollout(env, *agent, act_key, start, z, act_greedily, stop_early=True)
        return played.extras

    extras = jax.jit(lambda weights: jax.lax.map(lambda lane: extras_of(*lane), weights))(weights)
    if extra not in extras:
        known = ", ".join(extras) or "none: the environment has no measures"
        raise ConfigError(f"extra is {extra!r}; allowed: {known}")
    return np.asarray(extras[extra]) > 0.5


def agreement(won: Bool[np.ndarray, "K E"]) -> dict[str, Any]:
    """How far the rows agree.

    Returns:
        `won`: the share of each row; `correlation`: mean over pairs of rows, not a number where a
        row is constant; `won_by`: the shares of starts that 0 to `K` rows win; `independent`: the
        same, were rows independent.
    """
    number = len(won)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = np.corrcoef(won)[np.triu_indices(number, 1)] if number > 1 else np.array([np.nan])
    shares = won.mean(1)
    independent = np.ones(1)
    for share in shares:
        independent = np.convolve(independent, [1 - share, share])
    return {
        "won": shares.tolist(),
        "correlation": float(pairs.mean()),
        "won_by": (np.bincount(won.sum(0), minlength=number + 1) / won.shape[1]).tolist(),
        "independent": independent.tolist(),
    }


def main(argv: list[str] | None = None) -> None:
    """Plays, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs of one environment")
    parser.add_argument("--extra", default="win_rate", help="measure that says who won")
    parser.add_argument("--starts", type=int, default=512)
    add_out(parser)
    arguments = parser.parse_args(argv)
    if arguments.starts < 1:
        parser.error("--starts; allowed: a whole number of at least 1")
    try:
        runs = [load_run(path) for path in arguments.runs]
        if len({run.config.env for run in runs}) > 1:
            parser.error("runs of several environments; allowed: of one")
        won = np.concatenate([play(run, arguments.extra, arguments.starts) for run in runs])
    except MavenJaxError as error:
        parser.error(str(error))
    found = agreement(won)
    table = Table("seeds that win a start", "share of starts", "if independent")
    for number, shares in enumerate(zip(found["won_by"], found["independent"], strict=True)):
        table.add_row(f"{number} of {len(won)}", *(f"{share:.3f}" for share in shares))
    console = Console()
    console.print(table)
    console.print("each seed wins", " ".join(f"{share:.3f}" for share in found["won"]))
    console.print(f"mean correlation of two seeds' wins: {found['correlation']:.2f}")
    write_record(arguments.out, starts=arguments.starts, **found)


if __name__ == "__main__":
    main()
