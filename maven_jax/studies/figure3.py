"""Figure 3(b) of Mahajan et al. 2019: the picture, its data, table and sentences."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich.box import SIMPLE_HEAD
from rich.table import Table

from maven_jax.algorithms.table import latent_of
from maven_jax.experiments.points import quartiles
from maven_jax.experiments.run import Run
from maven_jax.experiments.text import pluralize
from maven_jax.reports.plots import (
    COLORS,
    OTHER_COLORS,
    add_title,
    draw_band,
    new_figure,
    save_figure,
    step_grid,
    style_axes,
)
from maven_jax.reports.tables import last_evaluation
from maven_jax.studies import paper_values
from maven_jax.validation.files import AnyPath


def draw_figure3(runs: Mapping[str, Run], path: AnyPath) -> None:
    """Draws returns beside the published medians and, if `maven` is there, its information.

    `runs` are by the name of their configuration, at least one.
    """
    path = Path(path)
    length = next(iter(runs.values())).config.env.options["m"]
    maven = runs.get("maven")
    if maven is not None and "latent_entropy" in maven.metrics:
        figure = new_figure(2)
        left, right = figure.subplots(1, 2)
        _draw_information(right, maven)
    else:
        figure = new_figure(1)
        left = figure.subplots()
    others = itertools.cycle(OTHER_COLORS)
    for name, run in runs.items():
        draw_band(left, run, "return", COLORS.get(name) or next(others), figure3_label(name))
    for name, published in paper_values.FIGURE_3.items() if length == paper_values.M else ():
        label = f"{figure3_label(name)}, published median"
        style: Any = {"color": COLORS[name], "linestyle": ":", "marker": "o", "markersize": 4}
        left.plot(paper_values.STEPS, published[50], label=label, **style)
    left.set_xlim(0, max(step_grid(run)[-1] for run in runs.values()) * 1.01)
    style_axes(left, "return of greedy episodes")
    counts = sorted({run.num_lanes for run in runs.values()})
    seeds = " and ".join(pluralize(count, "seed") for count in counts)
    add_title(left, f"{length}-step matrix game, {seeds}")
    save_figure(figure, path)


def _draw_information(ax: Axes, maven: Run) -> None:
    """Mutual information between z and MAVEN's actions, and its bound."""
    labels = {
        "latent_entropy": "H(z) of the latent policy",
        "mi_bound_test": "variational bound J_V",
        "action_information": "I(z; joint actions given the start)",
    }
    for (metric, label), color in zip(labels.items(), OTHER_COLORS, strict=False):
        draw_band(ax, maven, metric, color, label)
    if latent_of(maven.config).discrete:
        highest = np.log(maven.config.latent.size)
        ax.set_ylim(-0.2 * highest, 1.05 * highest)  # early bounds may lie far below
    style_axes(ax, "nats")
    add_title(ax, "MAVEN: mutual information of z")


def figure3_label(name: str) -> str:
    """A configuration's name as the figure's legend and tables have it: MAVEN, MAVEN team."""
    algorithm, _, rest = name.partition("_")
    return f"{algorithm.upper()} {rest}".rstrip()


def figure3_data(runs: Mapping[str, Run]) -> str:
    """The curves of the figure as CSV: a row for each algorithm and step of the common grid."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["algorithm", "env_steps", "seeds", "return_25", "return_50", "return_75"])
    for name, run in runs.items():
        grid = step_grid(run)
        for step, row in zip(grid, quartiles(run, "return", grid).T, strict=True):
            values = (f"{value:.4g}" for value in row)
            writer.writerow([name, f"{step:.0f}", run.num_lanes, *values])
    return text.getvalue()


def figure3_table(runs: Mapping[str, Run]) -> Table:
    """Quartiles at the steps where the paper's figure was read off, its own below where m is 10.

    At each step a seed counts with its latest evaluation so far; the last row is of each seed's
    last evaluation (`Run.final`).
    """
    comparable = all(run.config.env.options["m"] == paper_values.M for run in runs.values())
    title = "Return of greedy episodes: quartiles over seeds"
    title += "; below, as published" if comparable else ""
    title += f"\nend: {last_evaluation(runs.values())}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("steps", justify="right")
    last = min(run.last_step for run in runs.values())
    steps = [step for step in paper_values.STEPS if step <= last]
    columns = []
    for name, run in runs.items():
        table.add_column(figure3_label(name), justify="right")
        cells = [_three(row) for row in quartiles(run, "return", np.array(steps)).T]
        if comparable and name in paper_values.FIGURE_3:
            unknown = (None,) * len(paper_values.STEPS)
            published = (paper_values.FIGURE_3[name].get(q, unknown) for q in (25, 50, 75))
            lines = zip(*published, strict=True)
            cells = [f"{cell}\n{_three(line)}" for cell, line in zip(cells, lines, strict=False)]
        columns.append([*cells, _three(np.percentile(run.final("return"), [25, 50, 75]))])
    labels = [*(f"{step // 1000}k" for step in steps), "end"]
    for label, *cells in zip(labels, *columns, strict=True):
        table.add_row(label, *cells)
    return table


def _three(values: Iterable[float | None]) -> str:
    return " ".join("   -" if value is None else f"{value:4.1f}" for value in values)


def figure3_summary(runs: Mapping[str, Run], best_return: float) -> str:
    """A sentence for each algorithm about its seeds' last evaluations.

    Two more sentences are about the limits of fewer seeds or steps than the published figure has.
    """
    sentences = []
    for name, run in runs.items():
        finals = run.final("return")
        reached = int((finals >= best_return - 0.1).sum())
        sentences.append(
            f"{figure3_label(name)} ends at a median of {np.median(finals):.2f}; {reached} of "
            f"{run.num_lanes} seeds within 0.1 of the best return, {best_return:.0f}."
            + (f" {len(run.diverged)} diverged." if run.diverged else "")
        )
    seeds = min(run.num_lanes for run in runs.values())
    steps = min(run.config.training.total_env_steps for run in runs.values())
    if seeds < paper_values.SEEDS or steps < paper_values.STEPS[-1]:
        sentences.append(
            f"{pluralize(seeds, 'seed')} and {steps:,} steps can tell who finds the best return "
            "early, in most seeds or in few. They cannot tell small differences, nor where the "
            f"curves end: for {paper_values.SEEDS} seeds, {paper_values.STEPS[-1]:,} steps and "
            "published MAVEN run maven-jax figure3."
        )
    return "\n".join(sentences)
