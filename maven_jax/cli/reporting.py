"""Commands that read runs: `plot`, `table`, `export`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from maven_jax.cli.shared import print_line, say
from maven_jax.errors import ConfigError
from maven_jax.experiments.files import replace_text
from maven_jax.experiments.new_folder import refuse_existing
from maven_jax.experiments.points import points_of
from maven_jax.experiments.run import Point, Run, load_runs
from maven_jax.experiments.text import and_more
from maven_jax.reports.marl_eval import marl_eval_data
from maven_jax.reports.plots import check_picture, draw_curves
from maven_jax.reports.tables import last_evaluation, points_table


@dataclass(frozen=True)
class Plot:
    """Arguments of `maven-jax plot`."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs."""
    out: Path = Path("plot.png")
    """Picture to write; it must not exist."""
    metric: str = "return"
    """A column of metrics.csv."""


@dataclass(frozen=True)
class Tabulate:
    """Arguments of `maven-jax table`."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs or sweeps."""
    metric: str = "return"
    """A column of metrics.csv."""


@dataclass(frozen=True)
class Export:
    """Arguments of `maven-jax export`."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs or sweeps."""
    out: Path = Path("marl_eval.json")
    """File to write; it must not exist."""
    evaluations: int = 50
    """Points of each curve."""


def plot(command: Plot, console: Console) -> None:
    """`maven-jax plot RUN...`."""
    refuse_existing("picture", command.out)
    check_picture("out", command.out)
    draw_curves([run for _, run in _load(command.runs)], command.out, command.metric)
    print_line(console, f"picture: {command.out}")


def tabulate(command: Tabulate, console: Console) -> None:
    """`maven-jax table RUN...`."""
    runs = _load(command.runs)
    given = {run.path: path for path, run in runs}
    points = unnamed = points_of(run for _, run in runs)
    if len(command.runs) > 1:
        points = _named(unnamed, given)
    if len({repr(coordinates) for coordinates, _ in points}) < len(points):  # runs of a study
        points = _named(unnamed, {path: path for path in given})
    console.print(points_table(points, command.metric))


def export(command: Export, console: Console) -> None:
    """`maven-jax export RUN...`."""
    refuse_existing("file", command.out)
    points = points_of(run for _, run in _load(command.runs))
    data = marl_eval_data(points, command.evaluations)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    replace_text(command.out, json.dumps(data, indent=1) + "\n")
    end = last_evaluation(run for _, run in points)
    print_line(console, f"marl-eval data: {command.out}; absolute_metrics: {end}")


def _load(folders: Sequence[Path]) -> list[tuple[Path, Run]]:
    """The runs of each folder, with the folder."""
    if not folders:
        raise ConfigError("no run given; allowed: one or more folders of runs")
    return [(folder, run) for folder in folders for run in load_runs(folder, say)]


def _named(points: Sequence[Point], names: Mapping[Path, Path]) -> list[Point]:
    """Points with the names of their runs' folders as a further coordinate, `run`."""
    return [
        ({"run": and_more(list(dict.fromkeys(names[x] for x in run.folders)))} | own, run)
        for own, run in points
    ]
