"""What is made of a study's runs: tables, pictures and data beside them, as far as they are there.

A report is a function of a folder's runs, so that it can be written again at any time.
"""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

from maven_jax.environments.registry import make_env
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import MavenJaxError, StorageError, first_line
from maven_jax.experiments.files import replace_text
from maven_jax.experiments.folder import (
    ENDED,
    is_study,
    load_setup,
    parts_of,
    read_sweep,
    resume_command,
)
from maven_jax.experiments.grid import short_names
from maven_jax.experiments.lock import is_locked, try_lock
from maven_jax.experiments.run import Run, load_run
from maven_jax.reports.plots import draw_points
from maven_jax.reports.tables import last_evaluation, points_table
from maven_jax.studies.figure3 import draw_figure3, figure3_data, figure3_summary, figure3_table
from maven_jax.validation.files import AnyPath

Runs = Mapping[str, Run]
"""Finished runs by their names, at least one."""


class Report(NamedTuple):
    """What has been made of a study so far."""

    shown: list[RenderableType]
    """Tables and sentences, in their order."""
    files: list[Path]
    """Pictures and data."""
    missing: list[str]
    """A line of each run that has not finished, and of what could not be read or drawn."""


class Kind(NamedTuple):
    """How one kind of report is printed and drawn."""

    show: Callable[[Runs], list[RenderableType]]
    """Tables and sentences."""
    draw: Callable[[Runs, Path], list[Path]]
    """Writes pictures and data into a folder; returns their paths."""


def write_report(path: AnyPath) -> Report:
    """Writes a study's report anew: `report.txt` in its folder, and what its kind of report draws.

    Raises:
        StorageError: the folder is damaged.
        OSError: `report.txt` cannot be written.
    """
    path = Path(path)
    kind = kind_of(path)
    with try_lock(path, wait=-1.0):  # of several processes, the last reads all that has finished
        runs, missing = _finished_runs(path)
        report = Report(kind.show(runs) if runs else [], [], missing)
        try:
            report.files.extend(kind.draw(runs, path) if runs else [])
        except (MavenJaxError, OSError) as error:
            missing.append(f"not drawn: {first_line(error)}")
        plain = Console(width=120, record=True, file=io.StringIO(), color_system=None, emoji=False)
        print_report(report, plain)
        text = "".join(f"{line.rstrip()}\n" for line in plain.export_text().splitlines())
        replace_text(path / "report.txt", text.encode(errors="backslashreplace").decode())
        return report


def try_to_report(path: Path, say: Callable[[str], None]) -> None:
    """`write_report`, if the folder is a study's; passes the reason to `say` if it fails."""
    try:
        if is_study(path):
            write_report(path)
    except (MavenJaxError, OSError) as error:
        say(f"no report: {first_line(error)}")


def print_report(report: Report, console: Console) -> None:
    """Prints tables, sentences, and what is missing."""
    for entry in [*report.shown, *report.missing]:
        console.print(entry, highlight=False, soft_wrap=isinstance(entry, str), markup=False)


def kind_of(path: Path) -> Kind:
    """The kind of report that a study has.

    Raises:
        StorageError: the folder names none that there is.
    """
    name = read_sweep(path).report
    if name not in REPORTS:
        raise StorageError(f"study '{path}' is damaged: its report is {name!r}")
    return REPORTS[name]


UNFINISHED = {
    "waiting": "has not started",
    "running": "has begun",
    "interrupted": "was interrupted",
    "failed": "failed",
}
"""The statuses of a run that has not finished, in words."""


def _finished_runs(path: Path) -> tuple[dict[str, Run], list[str]]:
    """A study's finished runs by their names, and a line for each other run."""
    runs: dict[str, Run] = {}
    missing, can_resume = [], False
    for part in parts_of(path):
        try:
            status = load_setup(part)[1]["status"]
            points = _points(part.name, load_run(part)) if status in ENDED else {}
        except StorageError as error:
            missing.append(f"left out: '{part.name}': {first_line(error)}")
            continue
        if not points:
            can_resume = True
            state = "is being trained" if is_locked(part) else UNFINISHED[status]
            missing.append(f"still missing: '{part.name}', which {state}")
        for name, point in points.items():
            if point.metrics["seed"].size:
                runs[name] = point
            else:
                missing.append(
                    f"left out: '{name}', all of whose seeds diverged before the first evaluation"
                )
    if can_resume:
        missing.append(f"resume it with: {resume_command(path)}")
    return runs, missing


def _points(name: str, run: Run) -> dict[str, Run]:
    """Each point of a part's grid of hyperparameters as a run by itself."""
    short = short_names(column for column in run.lanes if column != "seed")
    return {
        ",".join([name, *(f"{label}={values[column]!r}" for column, label in short.items())]): point
        for values, point in run.points()
    }


def _show_curves(runs: Runs) -> list[RenderableType]:
    return [points_table([({"run": name}, run) for name, run in runs.items()], "return")]


def _draw_curves(runs: Runs, path: Path) -> list[Path]:
    """A picture of the returns in each environment."""
    pictures = []
    for env in dict.fromkeys(run.config.env.name for run in runs.values()):
        there = [({"run": n}, run) for n, run in runs.items() if run.config.env.name == env]
        pictures.append(path / f"{re.sub(r'[^0-9A-Za-z_-]+', '_', env)}.png")  # of `module:Class`
        draw_points(there, pictures[-1])
    return pictures


def _show_figure3(runs: Runs) -> list[RenderableType]:
    options = next(iter(runs.values())).config.env.options
    best = MStepMatrixGame(**options).optimal_return
    return [figure3_table(runs), figure3_summary(runs, best)]


def _draw_figure3(runs: Runs, path: Path) -> list[Path]:
    """The figure, and its data."""
    picture, data = path / "figure3.png", path / "figure3.csv"
    replace_text(data, figure3_data(runs))
    draw_figure3(runs, picture)
    return [picture, data]


def _show_best_return(runs: Runs) -> list[RenderableType]:
    """How many seeds, and how many with some z, earn the best return that a game can give."""
    title = f"Return of greedy episodes, {last_evaluation(runs.values())}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    headings = ["run", "25 %", "median", "75 %", "at best", "a z at best", "I(z; actions)", "J_V"]
    diverged = any(run.diverged for run in runs.values())
    for heading in [*headings, *(["diverged"] if diverged else [])]:
        justify: Any = "left" if heading == "run" else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for name, run in runs.items():
        cells = _against_best(run)
        table.add_row(name, *cells, *([str(len(run.diverged))] if diverged else []))
    return [table]


def _against_best(run: Run) -> list[str]:
    best = getattr(make_env(run.config), "optimal_return", np.inf)
    returns = run.final("return")
    of_each_z = [run.final(column) for column in run.metrics if column.startswith("return_z_")]

    def reached(values: np.ndarray) -> str:
        return f"{(values >= best - 0.1).sum()} of {run.num_lanes}" if np.isfinite(best) else "-"

    return [
        *(f"{value:.2f}" for value in np.percentile(returns, [25, 50, 75])),
        reached(returns),
        reached(np.max(of_each_z, axis=0)) if of_each_z else "-",
        *(
            f"{np.median(run.final(metric)):.2f}" if metric in run.metrics else "-"
            for metric in ("action_information", "mi_bound_test")
        ),
    ]


REPORTS: dict[str, Kind] = {
    "curves": Kind(_show_curves, _draw_curves),
    "figure3": Kind(_show_figure3, _draw_figure3),
    "best_return": Kind(_show_best_return, lambda runs, path: []),
}
"""Every report that a study can name."""
