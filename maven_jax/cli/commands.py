"""The commands of `maven-jax`, and its help; a command's code is imported when it is called."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from maven_jax import __version__
from maven_jax.configs import algorithm_configs, packaged_configs, packaged_studies


class Command(NamedTuple):
    """A command: a function of its dataclass of arguments and of a console."""

    function: str  # as MODULE.NAME of `maven_jax.cli`
    summary: str
    takes_config: bool = False  # the first argument is CONFIG, and its fields are options
    takes_env: bool = False  # options of --env name another environment than the run's
    prints: bool = False  # the result is what it prints; other commands write theirs to disk

    def load(self) -> tuple[type, Callable[[Any, Any], None]]:
        """Its dataclass of arguments and its function."""
        module, _, name = self.function.partition(".")
        function = getattr(import_module(f"maven_jax.cli.{module}"), name)
        return inspect.get_annotations(function)["command"], function


COMMANDS = {
    "train": Command(
        "training.train",
        "Train one configuration over many seeds, in one compiled program.",
        takes_config=True,
    ),
    "sweep": Command(
        "training.sweep",
        "Train a grid of values over many seeds, in as few compiled programs as possible.",
        takes_config=True,
    ),
    "resume": Command(
        "training.resume",
        "Resume a run, sweep or study that was interrupted or killed, from its last checkpoint.",
    ),
    "study": Command(
        "studies.study",
        "Train the missing runs of a study, a set of named runs, and write its report.",
    ),
    "figure3": Command(
        "studies.figure3",
        "Train MAVEN, QMIX and MAVEN team on the matrix game: Figure 3(b) of the MAVEN paper.",
    ),
    "evaluate": Command(
        "evaluating.evaluate_run",
        "Play greedy episodes with a run's final weights and print what each seed reaches.",
        takes_env=True,
        prints=True,
    ),
    "plot": Command(
        "reporting.plot",
        "Draw one metric of several runs: median and quartiles over seeds.",
    ),
    "table": Command(
        "reporting.tabulate",
        "Print final results of runs and sweeps, a row for each configuration, over all seeds.",
        prints=True,
    ),
    "export": Command(
        "reporting.export",
        "Write curves of runs and sweeps as JSON for marl-eval, to stand beside other libraries.",
    ),
    "convert": Command(
        "evaluating.convert",
        "Convert weights saved by the published PyTorch code to a run's folder, and evaluate it.",
    ),
    "matrix-games": Command(
        "studies.matrix_games",
        "Learn one-step games with every mixer, under uniform and epsilon-greedy behaviour.",
        prints=True,
    ),
}


def information(argument: str) -> str | None:
    """The text of `maven-jax --version` or `--help`; None for any other first argument."""
    if argument == "--version":
        return f"maven-jax {__version__}"
    if argument not in ("-h", "--help"):
        return None
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
            "Add --import MODULE, repeatedly if need be, to import a module of your own that "
            "registers names.",
            "Add --config smoke --seeds 2 to try a command that trains with tiny sizes.",
        ]
    )


def prints_results(name: str) -> bool:
    """Whether it is an error if a command's output cannot be written."""
    return name not in COMMANDS or COMMANDS[name].prints
