"""Commands that run studies: `study`, `figure3`, `matrix-games`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.cli.shared import Execution, Overrides, execute, show_report
from maven_jax.config import override
from maven_jax.config.fields import with_field
from maven_jax.envs import MatrixGame
from maven_jax.envs.matrix_game import PAYOFFS
from maven_jax.errors import check, unknown
from maven_jax.studies.matrix_games import fit_games, fits_table
from maven_jax.studies.study import Study, load_study
from maven_jax.validation.files import load_overrides


@dataclass(frozen=True)
class StudySizes:
    """Arguments that `study` and `figure3` share."""

    seed: int = 0
    """The first seed of each run."""
    seeds: int | None = None
    """Seeds of each run; by default as many as the study says."""
    steps: int | None = None
    """Environment steps of each seed; by default as many as the study says."""
    overrides: Overrides = None
    """Values over those of every run: a YAML file, or `smoke` for tiny sizes."""


@dataclass(frozen=True, kw_only=True)
class RunStudy(Execution, StudySizes):
    """Arguments of `maven-jax study`."""

    study: tyro.conf.Positional[str]
    """A YAML file, or the name of a packaged study."""
    out: Path | None = None
    """Output folder; the same study in it is resumed. Default: runs/STUDY."""
    only: tuple[str, ...] = ()
    """Names of the runs to train now; by default all."""


@dataclass(frozen=True, kw_only=True)
class Figure3(Execution, StudySizes):
    """Arguments of `maven-jax figure3`."""

    out: Path = Path("runs/figure3")
    """Output folder, for a run of each algorithm, the picture and its data; it is resumed."""
    configs: tuple[str, ...] = ()
    """Which of maven, qmix and maven_team to train; by default all."""
    m: int = 10
    """Length of the game."""


@dataclass(frozen=True)
class MatrixGames:
    """Arguments of `maven-jax matrix-games`."""

    games: tuple[str, ...] = tuple(PAYOFFS)
    """Names of games, all of one shape."""
    algorithms: tuple[str, ...] = ("iql", "vdn", "qmix", "qmix_unconstrained", "qtran")
    """Names of algorithms without a latent."""
    seeds: int = 10
    """Seeds of each."""
    steps: int = 4000
    """Gradient steps of each."""


def study(command: RunStudy, console: Console) -> None:
    """`maven-jax study STUDY`."""
    chosen = _resized(load_study(command.study), command)
    out = command.out or Path("runs") / Path(command.study).stem
    only = [part.name for name in command.only for part in chosen.parts(name)]
    execute(chosen.plan(), out, command, only=only)
    show_report(out, console)


def figure3(command: Figure3, console: Console) -> None:
    """`maven-jax figure3`: the packaged study of that name, for a game of any length."""
    packaged = load_study("figure3")
    for name in command.configs:
        if name not in packaged.runs:
            raise unknown("configuration of figure3", name, packaged.runs)
    runs = {name: packaged.runs[name] for name in command.configs or packaged.runs}
    chosen = _resized(packaged._replace(runs=runs), command).with_configs(
        lambda config: with_field(config, "env.options.m", command.m)
    )
    execute(chosen.plan(), command.out, command)
    show_report(command.out, console)


def _resized(study: Study, sizes: StudySizes) -> Study:
    """A study with the seeds, overrides and steps of the command line."""
    study = study.with_seeds(sizes.seed, sizes.seeds)
    if sizes.overrides is not None:
        values = load_overrides(sizes.overrides)
        study = study.with_configs(lambda config: override(config, values))
    return study if sizes.steps is None else study.with_steps(sizes.steps)


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
    games = {name: np.array(PAYOFFS[name], np.float32) for name in command.games}
    tables, env = np.stack(list(games.values())), MatrixGame(command.games[0])
    for algorithm in command.algorithms:
        learnt = fit_games(algorithm, env, tables, command.seeds, command.steps)
        for name, values, greedy in zip(command.games, *learnt, strict=True):
            console.print(fits_table(f"{algorithm} on {name}", games[name], values, greedy))
