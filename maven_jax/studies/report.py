"""What is made of a study's runs: tables, pictures and data beside them, as far as they are there.

A report is a function of a folder's runs, so that it can be written again at any time.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
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
from maven_jax.experiments.folder import ENDED, is_study, load_setup, parts_of, read_sweep
from maven_jax.experiments.grid import short_names
from maven_jax.experiments.lock import is_locked, try_lock
from maven_jax.experiments.run import Run, load_run
from maven_jax.reports.plots import draw_points
from maven_jax.reports.tables import last_evaluation, points_table
from maven_jax.studies.figure3 import draw_figure3, figure3_data, figure3_summary, figure3_table
from maven_jax.validation.files import AnyPath

REPORT = "report.txt"
WIDTH = 120


class Report(NamedTuple):
    """What has been made of a study so far."""

    shown: list[RenderableType]
    """Tables and sentences, in their order."""
    files: list[Path]
    """Pictures and data."""
    missing: list[str]
    """A line of each run that has not finished, and of what could not be read or drawn."""


class Kind(NamedTuple):
    """How one kind of report is printed and drawn, from at least one finished run."""

    show: Callable[[Mapping[str, Run]], list[RenderableType]]
    """Tables and sentences."""
    draw: Callable[[Mapping[str, Run], Path], list[Path]]
    """Writes pictures and data into a folder; their paths."""


def write_report(path: AnyPath) -> Report:
    """Writes a study's report anew: `report.txt`, and what its kind of report draws.

    Args:
        path: the study's folder.

    Raises:
        StorageError: it is damaged.
        OSError: `report.txt` cannot be written.
    """
    path = Path(path)
    kind = kind_of(path)
    with try_lock(path, wait=-1.0):  # of several processes, the last reads all that has finished
        runs, missing = _finished_runs(path)
        shown: list[RenderableType] = kind.show(runs) if runs else []
        files: list[Path] = []
        try:
            files = kind.draw(runs, path) if runs else []
        except (MavenJaxError, OSError) as error:
            missing.append(f"not drawn: {first_line(error)}")
        report = Report(shown, files, missing)
        replace_text(path / REPORT, as_text(report))
        return report


def _finished_runs(path: Path) -> tuple[dict[str, Run], list[str]]:
    """A study's finished runs by their names, and a line of each other."""
    runs: dict[str, Run] = {}
    missing, goes_on = [], False
    for part in parts_of(path):
        try:
            status = load_setup(part)[1]["status"]
            run = load_run(part) if status in ENDED else None
        except StorageError as error:
            missing.append(f"left out: '{part.name}': {first_line(error)}")
            continue
        if run is None:
            goes_on = True
            has_become = "is being trained" if is_locked(part) else STANDING[status]
            missing.append(f"still missing: '{part.name}', which {has_become}")
            continue
        for name, point in _points(part.name, run).items():
            if point.metrics["seed"].size:
                runs[name] = point
            else:
                missing.append(
                    f"left out: '{name}', all of whose seeds diverged before the first evaluation"
                )
    if goes_on:
        missing.append(f"resume it with: maven-jax resume '{path}'")
    return runs, missing


def _points(name: str, run: Run) -> dict[str, Run]:
    """Each point of a grid over a part's lanes as a run by itself."""
    varied = [column for column in run.lanes if column != "seed"]
    short = short_names(varied)
    return {
        ",".join([name, *(f"{short[column]}={values[column]!r}" for column in varied)]): point
        for values, point in run.points()
    }


STANDING = {
    "waiting": "has not started",
    "running": "has begun",
    "interrupted": "was interrupted",
    "failed": "failed",
}
"""What is said of a run that has not finished, by its status."""


def kind_of(path: Path) -> Kind:
    """The kind of report that a study has.

    Raises:
        StorageError: the folder names none that there is.
    """
    name = read_sweep(path).report
    if name not in REPORTS:
        raise StorageError(f"study '{path}' is damaged: its report is {name!r}")
    return REPORTS[name]


def as_text(report: Report) -> str:
    """A report as lines of text."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), color_system=None, emoji=False)
    for entry in [*report.shown, *report.missing]:
        console.print(entry, highlight=False, soft_wrap=isinstance(entry, str), markup=False)
    lines = console.export_text().splitlines()
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return text.encode(errors="backslashreplace").decode()


def _show_curves(runs: Mapping[str, Run]) -> list[RenderableType]:
    """What each run ends at."""
    return [points_table([({"run": name}, run) for name, run in runs.items()], "return")]


def _draw_curves(runs: Mapping[str, Run], path: Path) -> list[Path]:
    """A picture of the returns in each environment."""
    pictures = []
    for env in dict.fromkeys(run.config.env.name for run in runs.values()):
        there = [({"run": n}, run) for n, run in runs.items() if run.config.env.name == env]
        pictures.append(path / f"{re.sub(r'[^0-9A-Za-z_-]+', '_', env)}.png")  # of `module:Class`
        draw_points(there, pictures[-1])
    return pictures


def _show_figure3(runs: Mapping[str, Run]) -> list[RenderableType]:
    """Quartiles beside the published ones, and a sentence for each run."""
    first = next(iter(runs.values()))
    best = MStepMatrixGame(**first.config.env.options).optimal_return
    return [figure3_table(runs), figure3_summary(runs, best)]


def _draw_figure3(runs: Mapping[str, Run], path: Path) -> list[Path]:
    """The figure, and its data."""
    picture, data = path / "figure3.png", path / "figure3.csv"
    replace_text(data, figure3_data(runs))
    draw_figure3(runs, picture)
    return [picture, data]


def _show_best_return(runs: Mapping[str, Run]) -> list[RenderableType]:
    """How many seeds, and how many with some z, earn the best return that a game can give."""
    title = f"Return of greedy episodes, {last_evaluation(runs.values())}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    headings = ["run", "25 %", "median", "75 %", "at best", "a z at best", "I(z; actions)", "J_V"]
    diverged = any(run.diverged for run in runs.values())
    for heading in [*headings, *(["diverged"] if diverged else [])]:
        justify: Any = "left" if heading == "run" else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for name, run in runs.items():
        broken = [f"{len(run.diverged)}"] if diverged else []
        table.add_row(name, *_against_best(run), *broken)
    return [table]


def _against_best(run: Run) -> list[str]:
    best = getattr(make_env(run.config), "optimal_return", np.inf)
    returns = run.final("return")
    of_each_z = [run.final(column) for column in run.metrics if column.startswith("return_z_")]

    def reached(values: np.ndarray) -> str:
        return f"{(values >= best - 0.1).sum()} of {run.num_lanes}" if np.isfinite(best) else "-"

    quarters = [f"{value:.2f}" for value in np.percentile(returns, [25, 50, 75])]
    with_a_z = reached(np.max(of_each_z, axis=0)) if of_each_z else "-"
    information = [
        f"{np.median(run.final(metric)):.2f}" if metric in run.metrics else "-"
        for metric in ("action_information", "mi_bound_test")
    ]
    return [*quarters, reached(returns), with_a_z, *information]


REPORTS: dict[str, Kind] = {
    "curves": Kind(_show_curves, _draw_curves),
    "figure3": Kind(_show_figure3, _draw_figure3),
    "best_return": Kind(_show_best_return, lambda runs, path: []),
}
"""Every report that a study can name."""


def report_or_say(path: Path, say: Callable[[str], None]) -> None:
    """`write_report` of a folder that is a study's; what keeps it from being written is said."""
    try:
        if is_study(path):
            write_report(path)
    except (MavenJaxError, OSError) as error:
        say(f"no report: {first_line(error)}")


def report_lines(report: Report) -> Sequence[RenderableType]:
    """What a terminal shows of a report: tables, what is missing, where the files are."""
    return [*report.shown, *report.missing, *(f"written: '{file}'" for file in report.files)]
