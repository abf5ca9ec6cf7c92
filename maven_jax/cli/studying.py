"""Commands that run studies: `figure3`, `matrix-games`."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from maven_jax.algorithms import ALGORITHMS
from maven_jax.cli import smoke
from maven_jax.cli.shared import options_of, seeds_of
from maven_jax.config import Config
from maven_jax.config.files import load_config
from maven_jax.environments import complete, make_env
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.envs.matrix_game import PAYOFFS
from maven_jax.errors import check, unknown
from maven_jax.runs.checkpoint import Checkpointing
from maven_jax.runs.folder import refuse_existing
from maven_jax.runs.grid import (
    make_lanes,
)
from maven_jax.runs.programs import check_run
from maven_jax.runs.runner import train_run
from maven_jax.studies.figure3 import draw_figure3, figure3_data, figure3_summary, figure3_table
from maven_jax.studies.matrix_games import study, study_table

FIGURE_3 = ("maven", "qmix", "maven_team")
"""The packaged configurations whose curves the figure shows."""


@dataclass(frozen=True)
class Figure3:
    """Train MAVEN, QMIX and MAVEN team on the matrix game: Figure 3(b) of the MAVEN paper."""

    out: Path = Path("runs/figure3")
    """Folder to make: one run for each algorithm, the picture and its data."""
    seed: int = 0
    """The first seed."""
    seeds: int = 20
    """Seeds of each algorithm."""
    steps: int = 100_000
    """Environment steps of each seed."""
    m: int = 10
    """Length of the game."""
    tensorboard: bool = True
    """Write events for TensorBoard."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)


@dataclass(frozen=True)
class MatrixGames:
    """Learn one-step games with every mixer, under uniform and epsilon-greedy behaviour."""

    games: tuple[str, ...] = tuple(PAYOFFS)
    """Names of games, all of one shape."""
    algorithms: tuple[str, ...] = ("iql", "vdn", "qmix", "qmix_unconstrained", "qtran")
    """Names of algorithms without a latent."""
    seeds: int = 10
    """Seeds of each."""
    steps: int = 4000
    """Gradient steps of each."""


def figure3(command: Figure3, console: Console) -> None:
    """`maven-jax figure3`."""
    refuse_existing("output folder", command.out)
    seeds = seeds_of(command.seed, command.seeds)
    seeds = seeds[: smoke.cut(len(seeds), smoke.SEEDS)]
    configs = {name: _figure3_config(name, command, len(seeds)) for name in FIGURE_3}
    best = MStepMatrixGame(command.m).optimal_return
    runs = {
        name: train_run(
            config,
            make_env(config),
            command.out / name,
            make_lanes(config.hyperparameters, seeds),
            options_of(command.tensorboard, command.checkpoint),
        )
        for name, config in configs.items()
    }
    picture = command.out / "figure3.png"
    draw_figure3(runs, picture)
    data = command.out / "figure3.csv"
    data.write_text(figure3_data(runs))
    console.print(figure3_table(runs))
    console.print(figure3_summary(runs, best), highlight=False, soft_wrap=True)
    console.print(f"picture: {picture}\ndata:    {data}", highlight=False, soft_wrap=True)


def matrix_games(command: MatrixGames, console: Console) -> None:
    """`maven-jax matrix-games`."""
    check(1 <= command.seeds <= 10**4, "seeds", command.seeds, "a whole number from 1 to 10000")
    check(1 <= command.steps <= 10**6, "steps", command.steps, "a whole number from 1 to 1000000")
    without_latent = [name for name, row in ALGORITHMS.items() if not row.has_latent]
    for kind, given, known in (
        ("game", command.games, list(PAYOFFS)),
        ("algorithm", command.algorithms, without_latent),
    ):
        check(len(given) > 0, f"{kind}s", given, f"one or more of {', '.join(known)}")
        for name in given:
            if name not in known:
                raise unknown(kind, name, known)
    seeds, steps = smoke.cut(command.seeds, smoke.SEEDS), smoke.cut_steps(command.steps, 1)
    games = {name: np.array(PAYOFFS[name], np.float32) for name in command.games}
    tables, env = np.stack(list(games.values())), MatrixGame(command.games[0])
    for algorithm in command.algorithms:
        learnt = study(algorithm, env, tables, seeds, steps)
        for name, values, greedy in zip(command.games, *learnt, strict=True):
            console.print(study_table(f"{algorithm} on {name}", games[name], values, greedy))


def _figure3_config(name: str, command: Figure3, num_seeds: int) -> Config:
    config = complete(load_config(name))
    config = dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, options={**config.env.options, "m": command.m}),
        training=dataclasses.replace(config.training, total_env_steps=command.steps),
    )
    config = smoke.cut_config(config)
    check_run(config, make_env(config), num_seeds)  # all, before the first run starts
    return config
