"""What the command line prints of results: tables and sentences."""

from collections.abc import Iterable, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from maven_jax.experiments.grid import short_names
from maven_jax.experiments.run import Point, Run
from maven_jax.experiments.text import format_value, pluralize


def evaluation_table(
    run: Run, metrics: dict[str, np.ndarray], episodes: int, where: str = ""
) -> Table:
    """What each seed reaches, a row for each.

    Args:
        run: whose weights were tested, those of its last evaluation.
        metrics: of the test, each with an axis of lanes.
        episodes: with z from the latent policy, of each lane.
        where: the environment, if it is not the one of training.
    """
    title = f"{episodes} greedy episodes a run: {run.path}"
    title += f"\nin {where}" if where else ""
    title += f"\nweights of {last_evaluation([run])}"
    if "return_z" in metrics:
        count = run.config.evaluation.episodes_per_latent
        title += f"\nuniform z, best z, I and J_V: {pluralize(count, 'episode')} of each z"
    table = _narrow_table(title)
    columns = {"return": "return", "return_uniform": "uniform z", "latent_entropy": "H(z)"}
    columns |= {"action_information": "I(z; actions)", "mi_bound_test": "J_V"}
    columns |= {"mi_bound_test_error": "J_V std. error"}
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
    runs = list(runs)
    ends = [step for run in runs for step in run.final("env_steps")]
    steps = (f"{min(ends):,.0f}", f"{max(ends):,.0f}") if max(ends, default=0) else ()
    where = f", after {' to '.join(dict.fromkeys(steps))} steps" if steps else ""
    stopped = sum(run.stopped_early for run in runs)
    early = ", stopped early" if stopped == len(runs) else ", some stopped early"
    return f"each seed's last evaluation{where}{early if stopped else ''}"


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
    unfinished = any(not run.has_ended for _, run in points)
    stopped = any(run.stopped_early for _, run in points)
    headings = [
        *(["unfinished, steps"] if unfinished else []),
        *(["stopped early, steps"] if stopped else []),
        "seeds",
        "quartiles",
        "IQM (95 %)",
        *(["diverged"] if diverged else []),
    ]
    for heading in [*names.values(), *headings]:
        table.add_column(heading, justify="right", overflow="fold")
    for coordinates, run in points:
        values = run.final(metric)
        cells = [format_value(coordinates.get(name, "")) for name in names]
        if unfinished:
            cells.append("" if run.has_ended else f"{run.last_step:,}")
        if stopped:
            cells.append(f"{run.last_step:,}" if run.stopped_early else "")
        cells.append(str(run.num_lanes))
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
    from scipy.stats import bootstrap, trim_mean  # slow to import, seldom used

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
