"""What is made of a study's runs: tables, pictures and data beside them, as far as they are there.

A report is a function of a folder's runs, so that it can be written again at any time.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

from maven_jax.environments import make_env
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import MavenJaxError, StorageError
from maven_jax.reports.plots import draw_curves
from maven_jax.reports.tables import last_evaluation, points_table
from maven_jax.runs.files import replace_text
from maven_jax.runs.folder import ENDED, load_setup, read_report, standing, sweep_parts
from maven_jax.runs.run import Run, load_run
from maven_jax.studies.figure3 import draw_figure3, figure3_data, figure3_summary, figure3_table

REPORT = "report.txt"
WIDTH = 120


class Report(NamedTuple):
    """What has been made of a study so far."""

    shown: list[RenderableType]
    """Tables and sentences, in their order."""
    files: list[Path]
    """Pictures and data."""
    missing: list[str]
    """A line of each run that has not finished."""


MakeReport = Callable[[Mapping[str, Run], Path], tuple[list[RenderableType], list[Path]]]
"""From finished runs by their names, one at least, and a folder, to what is shown and written."""


def write_report(path: Path) -> Report:
    """Writes a study's report anew: `report.txt`, and what its kind of report draws.

    Args:
        path: the study's folder.

    Raises:
        StorageError: it is damaged, or something cannot be written.
    """
    make_report = report_of(path)
    runs: dict[str, Run] = {}
    missing = []
    for part in sweep_parts(path):
        info = load_setup(part)[1]
        if info["status"] not in ENDED:
            missing.append(f"still missing: '{part.name}', which {standing(part, info)}")
            continue
        run = load_run(part)
        if run.metrics["seed"].size:
            runs[part.name] = run
        else:
            missing.append(f"left out: '{part.name}', all of whose seeds turned non-finite at once")
    shown: list[RenderableType] = []
    files: list[Path] = []
    if runs:
        shown, files = make_report(runs, path)
    report = Report(shown, files, missing)
    replace_text(path / REPORT, as_text(report))
    return report


def report_of(path: Path) -> MakeReport:
    """What makes a study's report.

    Raises:
        StorageError: the folder names none that there is.
    """
    name = read_report(path)
    if name not in REPORTS:
        raise StorageError(f"study '{path}' is damaged: its report is {name!r}")
    return REPORTS[name]


def as_text(report: Report) -> str:
    """A report as lines of text."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), color_system=None)
    for entry in [*report.shown, *report.missing]:
        console.print(entry, highlight=False, soft_wrap=isinstance(entry, str), markup=False)
    lines = console.export_text().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def curves(runs: Mapping[str, Run], path: Path) -> tuple[list[RenderableType], list[Path]]:
    """A table of final returns, and a picture of the curves in each environment."""
    points = [({"run": name}, run) for name, run in runs.items()]
    pictures = []
    for env in dict.fromkeys(run.config.env.name for run in runs.values()):
        picture = path / f"{env}.png"
        draw_curves([run for run in runs.values() if run.config.env.name == env], picture)
        pictures.append(picture)
    return [points_table(points, "return")], pictures


def figure3(runs: Mapping[str, Run], path: Path) -> tuple[list[RenderableType], list[Path]]:
    """Figure 3(b) of Mahajan et al. 2019 with the published medians, and its data."""
    first = next(iter(runs.values()))
    best = MStepMatrixGame(**first.config.env.options).optimal_return
    picture, data = path / "figure3.png", path / "figure3.csv"
    draw_figure3(runs, picture)
    replace_text(data, figure3_data(runs))
    return [figure3_table(runs), figure3_summary(runs, best)], [picture, data]


def best_return(runs: Mapping[str, Run], path: Path) -> tuple[list[RenderableType], list[Path]]:
    """How many seeds, and how many with some z, earn the best return that a game can give."""
    title = f"Return of greedy episodes, {last_evaluation(runs.values())}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    headings = ("run", "25 %", "median", "75 %", "at best", "a z at best", "I(z; actions)", "J_V")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for name, run in runs.items():
        table.add_row(name, *_against_best(run))
    return [table], []


def _against_best(run: Run) -> list[str]:
    best = getattr(make_env(run.config), "optimal_return", np.inf)
    returns = run.final("return")
    of_each_z = [run.final(column) for column in run.metrics if column.startswith("return_z_")]

    def reached(values: np.ndarray) -> str:
        return f"{(values >= best - 0.1).sum()} of {len(values)}" if np.isfinite(best) else "-"

    quarters = [f"{value:.2f}" for value in np.percentile(returns, [25, 50, 75])]
    with_a_z = reached(np.max(of_each_z, axis=0)) if of_each_z else "-"
    information = [
        f"{np.median(run.final(metric)):.2f}" if metric in run.metrics else "-"
        for metric in ("action_information", "mi_bound_test")
    ]
    return [*quarters, reached(returns), with_a_z, *information]


REPORTS: dict[str, MakeReport] = {
    "curves": curves,
    "figure3": figure3,
    "best_return": best_return,
}
"""Every report that a study can name."""


def report_or_say(path: Path, say: Callable[[str], None]) -> None:
    """`write_report`; what keeps it from being written is said, since training goes on."""
    try:
        write_report(path)
    except (MavenJaxError, OSError) as error:
        say(f"no report: {error}")


def report_lines(report: Report) -> Sequence[RenderableType]:
    """What a terminal shows of a report: tables, what is missing, where the files are."""
    return [*report.shown, *report.missing, *(f"written: '{file}'" for file in report.files)]
