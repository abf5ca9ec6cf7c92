"""Figures from results."""

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from maven_jax.errors import ConfigError, StorageError
from maven_jax.experiments.grid import short_names
from maven_jax.experiments.points import points_of, quartiles
from maven_jax.experiments.run import Point, Run
from maven_jax.experiments.text import and_more, format_value, pluralize
from maven_jax.reports.marl_eval import task_name
from maven_jax.training.evaluation import LatentBehaviour
from maven_jax.validation.files import AnyPath

COLORS = {"maven": "#1f5fa8", "qmix": "#d1652a", "maven_team": "#2c8a57"}
OTHER_COLORS = ("#3a8f5c", "#8457a6", "#a83c4b", "#6b6b6b")
GRID_POINTS = 100
MOST_COLUMNS = 3
"""Panels side by side; more of them stand in several rows."""


def step_grid(run: Run) -> np.ndarray:
    """Environment steps where curves are read, increasing.

    Where every lane had its n-th evaluation before any had the next, those at which the last had
    it; otherwise evenly spaced ones up to the run's last.
    """
    steps = [steps for steps, _ in run.curves("env_steps")]
    if len({len(of_lane) for of_lane in steps}) == 1:
        first, last = np.min(steps, axis=0), np.max(steps, axis=0)
        if (last[:-1] < first[1:]).all():
            return last
    return np.linspace(0, run.last_step, min(GRID_POINTS, run.last_step) + 1)[1:]


def draw_band(ax: Axes, run: Run, metric: str, color: str, label: str) -> None:
    """A metric's median over seeds and the band between its quartiles."""
    grid = step_grid(run)
    low, median, high = quartiles(run, metric, grid)
    ax.fill_between(grid, low, high, color=color, alpha=0.18, linewidth=0)
    alone = "o" if np.isfinite(median).sum() == 1 else None  # a line needs two
    ax.plot(grid, median, color=color, linewidth=2, marker=alone, label=label)


def draw_curves(runs: Iterable[Run], path: AnyPath, metric: str = "return") -> None:
    """One metric against environment steps: median and quartiles over seeds.

    Each environment, with its options, has a panel: returns of several do not compare.

    Args:
        runs: each experiment among them has a curve (`points_of`).
        path: picture to write.
        metric: a column of `metrics.csv`.

    Raises:
        ConfigError: there is no curve or no such metric.
        StorageError: an experiment has a seed twice, or the picture cannot be written.
    """
    draw_points(points_of(runs), path, metric)


def draw_points(points: Iterable[Point], path: AnyPath, metric: str = "return") -> None:
    """`draw_curves` of experiments, or of runs that are told apart by their coordinates.

    Raises:
        ConfigError: there is no curve or no such metric.
        StorageError: the picture cannot be written.
    """
    save_figure(curves_figure(points, metric), path)


def curves_figure(points: Iterable[Point], metric: str = "return") -> Figure:
    """The figure that `draw_points` saves; it belongs to no list of open figures of pyplot.

    Args:
        points: each has a curve, but those whose seeds all diverged before an evaluation.
        metric: a column of `metrics.csv`.

    Raises:
        ConfigError: there is no curve or no such metric.
    """
    points = [point for point in points if point[1].metrics["seed"].size]
    if not points:
        raise ConfigError("there is no curve: all runs diverged before their first evaluation")
    panels: dict[str, list[Point]] = {}
    for point in points:
        config = point[1].config
        task = task_name(config)
        title = config.env.name + (f" {task}" if task != "default" else "")
        panels.setdefault(title, []).append(point)
    columns = min(len(panels), MOST_COLUMNS)
    figure = new_figure(columns, -(-len(panels) // columns))
    for number, (title, of_task) in enumerate(panels.items(), start=1):
        ax = figure.add_subplot(-(-len(panels) // columns), columns, number)
        drawn = [run for _, run in of_task]
        for run, label, color in zip(drawn, _labels(of_task), _colors(drawn), strict=True):
            draw_band(ax, run, metric, color, f"{label} ({pluralize(run.num_lanes, 'seed')})")
        style_axes(ax, metric.replace("_", " "))
        add_title(ax, f"{title}: median and quartiles over seeds")
    return figure


def draw_behaviour(behaviour: LatentBehaviour, path: AnyPath, title: str) -> None:
    """What each z returns, and how often each agent then takes each action.

    Args:
        behaviour: of one seed.
        path: picture to write.
        title: what it is of.
    """
    path = Path(path)
    num_values, num_agents, num_actions = behaviour.action_share.shape
    figure = Figure(figsize=(9.6, 1.6 + 0.26 * num_values), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 2])
    rows = np.arange(num_values)
    left.barh(rows, behaviour.returns, color=COLORS["maven"])
    left.set_yticks(
        rows, [f"z {row}, p {p:.2f}" for row, p in zip(rows, behaviour.probs, strict=True)]
    )
    left.invert_yaxis()
    left.set_xlabel("return of greedy episodes")
    left.spines[["top", "right"]].set_visible(False)
    share = np.asarray(behaviour.action_share).reshape(num_values, -1)
    image = right.imshow(share, aspect="auto", vmin=0, vmax=1, cmap="Blues")
    for agent in range(1, num_agents):
        right.axvline(agent * num_actions - 0.5, color="black", linewidth=0.8)
    right.set_xticks((np.arange(num_agents) + 0.5) * num_actions - 0.5, range(num_agents))
    right.set_xlabel(f"agent; in it, actions 0 to {num_actions - 1}")
    figure.colorbar(image, ax=right, label="share of its steps")
    figure.suptitle(_drawable(title), fontsize=11, parse_math=False)
    save_figure(figure, path)


def _labels(points: Sequence[Point]) -> list[str]:
    """What tells the points apart: coordinates, and where needed the last parts of the paths."""
    short = short_names(dict.fromkeys(name for coordinates, _ in points for name in coordinates))
    names = [
        ", ".join(f"{short[key]} {format_value(v)}" for key, v in coordinates.items())
        for coordinates, _ in points
    ]
    if "" not in names and len(set(names)) == len(names):
        return names
    folders = [run.path.resolve().parts for _, run in points]
    for length in range(1, max(map(len, folders)) + 1):
        paths = [
            and_more(["/".join(parts[-length:]), *run.joined])
            for parts, (_, run) in zip(folders, points, strict=True)
        ]
        labels = [", ".join(filter(None, both)) for both in zip(paths, names, strict=True)]
        if len(set(labels)) == len(labels):
            break
    return labels


def _colors(runs: Sequence[Run]) -> list[str]:
    """The algorithm's own colour where it is the only run of it; shades, where runs are many."""
    if len(runs) > len(OTHER_COLORS):
        return [to_hex(color) for color in colormaps["viridis"](np.linspace(0, 0.9, len(runs)))]
    algorithms = [run.config.algorithm for run in runs]
    others = iter(OTHER_COLORS * len(runs))
    return [
        COLORS[name] if name in COLORS and algorithms.count(name) == 1 else next(others)
        for name in algorithms
    ]


class _ShownFigure(Figure):
    """A notebook shows it, also where pyplot, which tells notebooks of figures, is not imported."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


def new_figure(columns: int, rows: int = 1) -> Figure:
    """An empty figure for so many axes side by side, and so many rows of them."""
    figure = _ShownFigure(figsize=(6.4 * columns, 4.2 * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(ax: Axes, ylabel: str) -> None:
    """Labels and grid of axes over environment steps."""
    ax.set_xlabel("environment steps")
    ax.set_ylabel(ylabel)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)


def add_title(ax: Axes, title: str) -> None:
    """A title, and under it, above the axes and clear of the curves, the legend.

    Labels are shown as they are: a folder's name may begin with `_` or hold `$`, which mean
    something to matplotlib.
    """
    lines = ax.get_lines()
    columns = 2 if len(lines) > 1 else 1
    rows = -(-len(lines) // columns)
    legend = ax.legend(
        lines,
        [f"{index}" for index in range(len(lines))],
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncol=columns,
    )
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set(text=_drawable(str(line.get_label())), parse_math=False)
    ax.set_title(_drawable(title), fontsize=11, pad=8 + 18 * rows, parse_math=False)


def _drawable(text: str) -> str:
    """A text whose every character is one: a path may hold bytes that are none."""
    return text.encode(errors="backslashreplace").decode()


def check_picture(name: str, path: AnyPath) -> None:
    """Raises `ConfigError` for a name of a picture that cannot be drawn."""
    path = Path(path)
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{name} is '{path}'; allowed: a name ending in .png, .pdf or .svg")


def save_figure(figure: Figure, path: AnyPath) -> None:
    """Writes a picture; raises `StorageError` where it cannot be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():  # letters that the font lacks are drawn as boxes
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(path)
    except OSError as error:
        raise StorageError(f"picture '{path}' cannot be written: {error.strerror}") from None
