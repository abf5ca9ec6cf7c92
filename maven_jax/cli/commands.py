"""The commands of `maven-jax`, and its help; a command's code is imported when it is called."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from maven_jax import __version__
from maven_jax.configs import algorithm_configs, packaged_configs, packaged_studies


class Command(NamedTuple):
    """One command."""

    summary: str
    """One sentence, for the help."""
    module: str
    """The module of `maven_jax.cli` that defines it."""
    arguments: str
    """The name of its dataclass of arguments there."""
    function: str
    """The name of its function there, of these arguments and a console."""
    takes_config: bool = False
    """Whether its first argument is CONFIG, whose fields are options of the command."""
    prints: bool = False
    """Whether its result is what it prints; the others write theirs to disk."""

    def load(self) -> tuple[type, Callable[[Any, Any], None]]:
        """Its dataclass of arguments and its function."""
        module = importlib.import_module(f"maven_jax.cli.{self.module}")
        return getattr(module, self.arguments), getattr(module, self.function)


COMMANDS = {
    "train": Command(
        "Train one configuration over many seeds, in one compiled program.",
        *("training", "Train", "train"),
        takes_config=True,
    ),
    "sweep": Command(
        "Train a grid of values over many seeds, in as few compiled programs as possible.",
        *("training", "Sweep", "sweep"),
        takes_config=True,
    ),
    "resume": Command(
        "Resume a run, sweep or study that was interrupted or killed, from its last checkpoint.",
        *("training", "Resume", "resume"),
    ),
    "study": Command(
        "Train the missing runs of a study, a set of named runs, and write its report.",
        *("studies", "RunStudy", "study"),
    ),
    "figure3": Command(
        "Train MAVEN, QMIX and MAVEN team on the matrix game: Figure 3(b) of the MAVEN paper.",
        *("studies", "Figure3", "figure3"),
    ),
    "evaluate": Command(
        "Play greedy episodes with a run's final weights and print what each seed reaches.",
        *("evaluating", "Evaluate", "evaluate_run"),
        prints=True,
    ),
    "plot": Command(
        "Draw one metric of several runs: median and quartiles over seeds.",
        *("reporting", "Plot", "plot"),
    ),
    "table": Command(
        "Print final results of runs and sweeps, a row for each configuration, over all seeds.",
        *("reporting", "Tabulate", "tabulate"),
        prints=True,
    ),
    "export": Command(
        "Write curves of runs and sweeps as JSON for marl-eval, to stand beside other libraries.",
        *("reporting", "Export", "export"),
    ),
    "convert": Command(
        "Convert weights saved by the published PyTorch code to a run's folder, and evaluate it.",
        *("evaluating", "Convert", "convert"),
    ),
    "matrix-games": Command(
        "Learn one-step games with every mixer, under uniform and epsilon-greedy behaviour.",
        *("studies", "MatrixGames", "matrix_games"),
        prints=True,
    ),
}


def information(argument: str) -> str | None:
    """What `maven-jax` prints of itself; None for any other argument than `--help` and `--version`.

    Args:
        argument: the first of the command line.
    """
    if argument == "--version":
        return f"maven-jax {__version__}"
    return _usage() if argument in ("-h", "--help") else None


def prints_results(name: str) -> bool:
    """Whether it is an error if a command's output cannot be written."""
    return name not in COMMANDS or COMMANDS[name].prints


def _usage() -> str:
    commands = [f"  {name:12} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: maven-jax COMMAND ...",
            "",
            "QMIX and MAVEN as pure JAX functions.",
            "",
            *commands,
            "",
            f"packaged configurations: {', '.join(sorted(packaged_configs()))}",
            f"other algorithms, as configurations: {', '.join(sorted(algorithm_configs()))}",
            f"packaged studies: {', '.join(sorted(packaged_studies()))}",
            "maven-jax COMMAND --help prints the options of a command.",
            "Compiled programs are cached in $JAX_COMPILATION_CACHE_DIR, by default in "
            "~/.cache/maven-jax.",
            "Add --config smoke --seeds 2 to try a command that trains with tiny sizes.",
        ]
    )
