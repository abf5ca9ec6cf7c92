"""What the command line prints of results: tables and sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.stats import bootstrap, trim_mean

from maven_jax.reports.plots import count_of, figure3_label, format_value, step_grid
from maven_jax.runs.grid import short_names
from maven_jax.runs.results import Point, Run, quartiles
from maven_jax.studies import published
from maven_jax.studies.payoff_tables import best_additive, best_monotone


def figure3_data(runs: dict[str, Run]) -> str:
    """The curves of the figure as CSV: a row for each algorithm and step of the common grid."""
    lines = ["algorithm,env_steps,seeds,return_25,return_50,return_75"]
    for name, run in runs.items():
        grid = step_grid(run)
        for step, row in zip(grid, quartiles(run, "return", grid).T, strict=True):
            values = ",".join(f"{value:.4g}" for value in row)
            lines.append(f"{name},{step:.0f},{run.num_lanes},{values}")
    return "\n".join(lines) + "\n"


def figure3_table(runs: dict[str, Run]) -> Table:
    """Quartiles at the steps where the paper's figure was read off, its own below where m is 10.

    At each of them a seed counts with its latest evaluation up to there; the last row is of each
    seed's last evaluation (`Run.final`).
    """
    comparable = all(run.config.env.options["m"] == published.M for run in runs.values())
    title = "Return of greedy episodes: quartiles over seeds"
    title += "; below, as published" if comparable else ""
    title += f"\nend: {last_evaluation(runs.values())}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("steps", justify="right")
    last = min(run.last_step for run in runs.values())
    steps = [step for step in published.STEPS if step <= last]
    columns = []
    for name, run in runs.items():
        table.add_column(figure3_label(name), justify="right")
        cells = [_three(row) for row in quartiles(run, "return", np.array(steps)).T]
        if comparable and name in published.FIGURE_3:
            there = published.FIGURE_3[name]
            unknown = (None,) * len(published.STEPS)
            lines = zip(*(there.get(q, unknown) for q in (25, 50, 75)), strict=True)
            cells = [f"{cell}\n{_three(line)}" for cell, line in zip(cells, lines, strict=False)]
        columns.append([*cells, _three(np.percentile(run.final("return"), [25, 50, 75]))])
    labels = [*(f"{step // 1000}k" for step in steps), "end"]
    for label, *cells in zip(labels, *columns, strict=True):
        table.add_row(label, *cells)
    return table


def _three(values: Iterable[float | None]) -> str:
    return " ".join("   -" if value is None else f"{value:4.1f}" for value in values)


def figure3_summary(runs: dict[str, Run], best_return: float) -> str:
    """What the figure shows, a sentence for each algorithm: of each seed's last evaluation."""
    sentences = []
    for name, run in runs.items():
        finals = run.final("return")
        reached = int((finals >= best_return - 0.1).sum())
        sentences.append(
            f"{figure3_label(name)} ends at a median of {np.median(finals):.2f}; {reached} of "
            f"{len(finals)} seeds within 0.1 of the best return, {best_return:.0f}."
        )
    return "\n".join(sentences)


def study_table(
    title: str, payoff: np.ndarray, joint_values: np.ndarray, greedy: np.ndarray
) -> Table:
    """What one algorithm learnt of one payoff table, a row for each behaviour.

    The values are those of the seed whose squared error is the median. The title ends with the
    smallest error that any additive and any monotone table has.

    Args:
        title: names the algorithm and the game.
        payoff: the game's table.
        joint_values: learnt values over behaviours and seeds, as in `Study`.
        greedy: joint actions of greedy play, likewise.
    """
    additive = squared_error(best_additive(payoff), payoff)
    monotone = squared_error(best_monotone(payoff), payoff)
    title = f"{title}: {count_of(greedy.shape[1], 'seed')}"
    title += f"; best squared error additive {additive:.2f}, monotone {monotone:.2f}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("behaviour", "learnt values", "greedy"):
        table.add_column(heading, no_wrap=True)
    for heading in ("payoff", "squared error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, values, chosen in zip(("uniform", "eps-greedy"), joint_values, greedy, strict=True):
        errors = np.array([squared_error(value, payoff) for value in values])
        typical = values[np.argsort(errors)[(len(errors) - 1) // 2]]
        counts = Counter(map(action_name, chosen)).most_common()
        payoffs = [payoff[tuple(actions)] for actions in chosen]
        low, median, high = np.percentile(errors, [25, 50, 75])
        table.add_row(
            label,
            matrix_text(typical),
            "\n".join(f"{action}: {count}" for action, count in counts),
            f"{np.mean(payoffs):.2f}",
            f"{median:.2f}\n{low:.1f} to {high:.1f}",
            end_section=True,
        )
    return table


def squared_error(values: np.ndarray, payoff: np.ndarray) -> float:
    """Sum over joint actions of the squared difference, in squared units of payoff."""
    return float(((np.asarray(values, float) - np.asarray(payoff, float)) ** 2).sum())


def action_name(joint_action: np.ndarray) -> str:
    """Letters for actions, as the papers name them: (A, C)."""
    return "(" + ", ".join(chr(ord("A") + action) for action in joint_action) + ")"


def matrix_text(values: np.ndarray) -> str:
    """A payoff table's rows; one of more than two agents as a list of its entries."""
    rows = values if values.ndim == 2 else values.reshape(1, -1)
    return "\n".join(" ".join(f"{value:7.2f}" for value in row) for row in rows)


def evaluation_table(run: Run, metrics: dict[str, np.ndarray], episodes: int) -> Table:
    """What each seed reaches, a row for each.

    Args:
        run: whose weights were tested, those of its last evaluation.
        metrics: of the test, each with an axis of lanes.
        episodes: with z from the latent policy, of each lane.
    """
    title = f"{episodes} greedy episodes a run: {run.path}"
    table = _narrow_table(f"{title}\nweights of {last_evaluation([run])}")
    columns = {"return": "return", "return_uniform": "uniform z", "latent_entropy": "H(z)"}
    columns |= {"action_information": "I(z; actions)", "mi_bound_test": "J_V"}
    shown = [name for name in columns if name in metrics]
    extras = sorted(name for name in metrics if name.startswith("extras/"))
    for name in run.lanes:
        table.add_column(name.split(".")[-1], justify="right", overflow="fold")
    for name in shown:
        table.add_column(columns[name], justify="right", overflow="fold")
    if "return_z" in metrics:
        table.add_column("best z", justify="right", overflow="fold")
    for name in extras:
        table.add_column(name.removeprefix("extras/"), justify="right", overflow="fold")
    for index, lane in enumerate(zip(*run.lanes.values(), strict=True)):
        row = [*map(format_value, lane), *(f"{metrics[name][index]:.2f}" for name in shown)]
        if "return_z" in metrics:
            row.append(f"{metrics['return_z'][index].max():.2f}")
        row += [f"{metrics[name][index]:.2f}" for name in extras]
        table.add_row(*row)
    return table


def last_evaluation(runs: Iterable[Run]) -> str:
    """What `Run.final` reads, in words, with the environment steps at which it lies."""
    ends = [step for run in runs for step in run.final("env_steps")]
    steps = (f"{min(ends):,.0f}", f"{max(ends):,.0f}") if max(ends, default=0) else ()
    where = f", after {' to '.join(dict.fromkeys(steps))} steps" if steps else ""
    return f"each seed's last evaluation{where}"


def points_table(points: Sequence[Point], metric: str) -> Table:
    """What each experiment ends at: quartiles, and the interquartile mean (IQM).

    Values are of each seed's last evaluation (`Run.final`): of one that diverged that is its last
    finite one, and seeds that never had one do not count. The interval is a bootstrap's over seeds,
    at 95 % (Agarwal et al. 2021).

    Args:
        points: coordinates and runs.
        metric: a column of `metrics.csv`.
    """
    table = _narrow_table(f"{metric}: {last_evaluation([run for _, run in points])}")
    names = short_names(dict.fromkeys(name for coordinates, _ in points for name in coordinates))
    diverged = any(run.diverged for _, run in points)
    headings = ["seeds", "quartiles", "IQM (95 %)", *(["non-finite"] if diverged else [])]
    for heading in [*names.values(), *headings]:
        table.add_column(heading, justify="right", overflow="fold")
    for coordinates, run in points:
        values = run.final(metric)
        cells = [format_value(coordinates.get(name, "")) for name in names] + [str(run.num_lanes)]
        if values.size:
            cells.append(" ".join(map(_number, np.percentile(values, [25, 50, 75]))))
            mean, low, high = map(_number, interquartile_mean(values))
            cells.append(f"{mean} ({low}, {high})")
        else:
            cells += ["-", "-"]
        if diverged:
            cells.append(str(len(run.diverged)))
        table.add_row(*cells)
    return table


def _narrow_table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1e4 else f"{value:.3g}"


def interquartile_mean(values: np.ndarray) -> tuple[float, float, float]:
    """Interquartile mean over seeds, and its 95 % bootstrap interval, always drawn alike."""
    mean = float(trim_mean(values, 0.25))
    if len(np.unique(values)) == 1:
        return mean, mean, mean
    interval = bootstrap(
        (values,),
        lambda x, axis: trim_mean(x, 0.25, axis=axis),
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return mean, float(interval.low), float(interval.high)
