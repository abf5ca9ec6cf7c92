"""What the command line prints of results: tables and sentences."""

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from maven_jax import published
from maven_jax.plots import step_grid
from maven_jax.results import Run, quartiles


def figure3_data(runs: dict[str, Run]) -> str:
    """The curves of the figure as CSV: a row for each algorithm and step of the common grid."""
    lines = ["algorithm,env_steps,seeds,return_25,return_50,return_75"]
    for name, run in runs.items():
        grid = step_grid(run)
        for step, row in zip(grid, quartiles(run, "return", grid).T, strict=True):
            values = ",".join(f"{value:.4g}" for value in row)
            lines.append(f"{name},{step:.0f},{run.info['num_seeds']},{values}")
    return "\n".join(lines) + "\n"


def figure3_table(runs: dict[str, Run]) -> Table:
    """Percentiles at the steps where the paper's figure was read off, its own where m is 10."""
    comparable = all(run.config.env.options["m"] == published.M for run in runs.values())
    title = "Return of greedy episodes" + (", published/here" if comparable else "")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("steps", justify="right")
    last = min(run.last_step for run in runs.values())
    steps = [step for step in published.STEPS if step <= last]
    columns = []
    for name, run in runs.items():
        here = quartiles(run, "return", np.array(steps))
        for percentile, values in zip((25, 50, 75), here, strict=True):
            heading = "median" if percentile == 50 else f"{percentile}%"
            table.add_column(f"{name.upper()}\n{heading}", justify="right")
            cells = [f"{value:.1f}" for value in values]
            if comparable:
                there = published.FIGURE_3[name].get(percentile)
                published_cells = [f"{value:.1f}" for value in there] if there else ["-"] * 8
                cells = ["/".join(pair) for pair in zip(published_cells, cells, strict=False)]
            columns.append(cells)
    for step, *cells in zip(steps, *columns, strict=True):
        table.add_row(f"{step // 1000}k", *cells)
    return table


def figure3_summary(runs: dict[str, Run], best_return: float) -> str:
    """What the figure shows, a sentence for each algorithm."""
    sentences = []
    for name, run in runs.items():
        finals = run.final("return")
        reached = int((finals >= best_return - 0.1).sum())
        sentences.append(
            f"{name.upper()} ends at a median of {np.median(finals):.2f}; {reached} of "
            f"{len(finals)} seeds within 0.1 of the best return, {best_return:.0f}."
        )
    return "\n".join(sentences)


def evaluation_table(run: Run, metrics: dict[str, np.ndarray], episodes: int) -> Table:
    """What each seed reaches, a row for each."""
    table = Table(title=f"{episodes} greedy episodes a seed: {run.path}", title_justify="left")
    columns = {"return": "return", "return_uniform": "uniform z", "latent_entropy": "H(z)"}
    columns |= {"action_information": "I(z; actions)", "mi_bound_test": "J_V"}
    shown = [name for name in columns if name in metrics]
    extras = sorted(name for name in metrics if name.startswith("extras/"))
    table.add_column("seed", justify="right")
    for name in shown:
        table.add_column(columns[name], justify="right")
    if "return_z" in metrics:
        table.add_column("best z", justify="right")
    for name in extras:
        table.add_column(name.removeprefix("extras/"), justify="right")
    for seed in range(run.info["num_seeds"]):
        row = [f"{metrics[name][seed]:.2f}" for name in shown]
        if "return_z" in metrics:
            row.append(f"{metrics['return_z'][seed].max():.2f}")
        row += [f"{metrics[name][seed]:.2f}" for name in extras]
        table.add_row(str(run.info["first_seed"] + seed), *row)
    return table
