"""The commands of `maven-jax`: a dataclass of arguments and a function for each."""

from collections.abc import Callable
from typing import Any

from rich.console import Console

from maven_jax.cli.evaluating import Convert, Evaluate, convert, evaluate_run
from maven_jax.cli.reporting import Export, Plot, Tabulate, export, plot, tabulate
from maven_jax.cli.studies import Figure3, MatrixGames, RunStudy, figure3, matrix_games, study
from maven_jax.cli.training import Resume, Sweep, Train, resume, sweep, train

COMMANDS: dict[str, tuple[type, Callable[[Any, Console], None]]] = {
    "train": (Train, train),
    "sweep": (Sweep, sweep),
    "resume": (Resume, resume),
    "study": (RunStudy, study),
    "figure3": (Figure3, figure3),
    "evaluate": (Evaluate, evaluate_run),
    "plot": (Plot, plot),
    "table": (Tabulate, tabulate),
    "export": (Export, export),
    "convert": (Convert, convert),
    "matrix-games": (MatrixGames, matrix_games),
}
