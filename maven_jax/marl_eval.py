"""Results in the exchange format of marl-eval, by which libraries are compared in one plot.

Environment, task, algorithm, seed, then `step_0`, `step_1`, ... and `absolute_metrics`, each a
dictionary of metrics to lists of values (Gorsane et al. 2022, section 5). All runs of a file are
read on one grid of environment steps, since its readers take the steps of the first run for those
of all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maven_jax.config import Config, ConfigError, check
from maven_jax.environments import default_options
from maven_jax.plots import format_value
from maven_jax.results import Point, Run, on_grid


def marl_eval_data(points: Sequence[Point], num_steps: int) -> dict[str, Any]:
    """The nested dictionaries of a file.

    Args:
        points: coordinates and runs, of `points_of`.
        num_steps: evaluation steps that each run is read at, evenly spaced from the first
            evaluation that all have, to the last.

    Returns:
        Environment to task to algorithm to seed to step to metrics. `mean_episode_return`, and the
        environment's own measures. `absolute_metrics` are those of the last step: the weights are
        not chosen by a test.

    Raises:
        ConfigError: there is no curve, or two points are the same experiment.
    """
    check(1 <= num_steps <= 10**5, "evaluations", num_steps, "a whole number from 1 to 100000")
    points = [(coordinates, run) for coordinates, run in points if run.metrics["seed"].size]
    if not points:
        raise ConfigError("there is nothing to export: no run has an evaluation")
    firsts = [steps[0] for _, run in points for steps, _ in run.curves("env_steps")]
    lasts = [run.last_step for _, run in points]
    grid = np.linspace(max(firsts), max(max(firsts), min(lasts)), num_steps).astype(int)
    data: dict[str, Any] = {}
    for coordinates, run in points:
        algorithm = _algorithm(run.config, coordinates)
        task = data.setdefault(run.config.env.name, {}).setdefault(_task(run.config), {})
        if algorithm in task:
            raise ConfigError(
                f"two runs are {algorithm!r} on {_task(run.config)!r} of "
                f"{run.config.env.name!r}; allowed: one run or sweep of each"
            )
        task[algorithm] = _seeds(run, grid)
    return data


def _seeds(run: Run, grid: np.ndarray) -> dict[str, Any]:
    names = {"return": "mean_episode_return"} | {
        name: name.removeprefix("extras/") for name in run.metrics if name.startswith("extras/")
    }
    curves = {
        label: [on_grid(steps, values, grid) for steps, values in run.curves(name)]
        for name, label in names.items()
    }
    lanes = [lane for lane in run.lanes["seed"] if lane in run.metrics["seed"]]
    seeds = {}
    for index, seed in enumerate(lanes):
        steps = {
            f"step_{number}": {"step_count": int(step)}
            | {label: [float(values[index][number])] for label, values in curves.items()}
            for number, step in enumerate(grid)
        }
        last = {label: [float(values[index][-1])] for label, values in curves.items()}
        seeds[f"seed_{seed}"] = steps | {"absolute_metrics": last}  # its readers take it as last
    return seeds


def _task(config: Config) -> str:
    """The scenario, or the options that are not the environment's own."""
    options, default = config.env.options, default_options(config.env.name)
    changed = {name: value for name, value in options.items() if value != default.get(name)}
    if "scenario" in options:
        changed = {"": options["scenario"], **changed}
        changed.pop("scenario", None)
    parts = [f"{name}={format_value(value)}".lstrip("=") for name, value in changed.items()]
    return ",".join(parts) or "default"


def _algorithm(config: Config, coordinates: Mapping[str, Any]) -> str:
    own = [f"{name.split('.')[-1]}={format_value(value)}" for name, value in coordinates.items()]
    return ",".join([config.algorithm, *own])
