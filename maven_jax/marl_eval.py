"""Results in the exchange format of marl-eval, by which libraries are compared in one plot.

Environment, task, algorithm, seed, then `step_0`, `step_1`, ... and `absolute_metrics`, each a
dictionary of metrics to lists of values (Gorsane et al. 2022, section 5). All runs are
read on one grid of environment steps for each task, since its readers take the steps of the first
run for those of all.
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
            evaluation that all runs of the task have, to the last.

    Returns:
        Environment to task to algorithm to seed to step to metrics. `mean_episode_return`, and the
        environment's own measures. `absolute_metrics` are of each seed's own last evaluation: the
        weights are not chosen by a test.

    Raises:
        ConfigError: there is no curve, two points are the same experiment, or the runs of a task
            have no steps in common.
    """
    check(1 <= num_steps <= 10**5, "evaluations", num_steps, "a whole number from 1 to 100000")
    points = [(coordinates, run) for coordinates, run in points if run.metrics["seed"].size]
    if not points:
        raise ConfigError("there is nothing to export: no run has an evaluation")
    tasks: dict[tuple[str, str], dict[str, Run]] = {}
    for coordinates, run in points:
        environment, task = run.config.env.name, _task(run.config)
        algorithm = _algorithm(run.config, coordinates)
        runs = tasks.setdefault((environment, task), {})
        if algorithm in runs:
            raise ConfigError(
                f"two runs are {algorithm!r} on {task!r} of {environment!r}; allowed: one run or "
                "sweep of each"
            )
        runs[algorithm] = run
    data: dict[str, Any] = {}
    for (environment, task), runs in tasks.items():
        grid = _grid(list(runs.values()), num_steps)
        of_task = {algorithm: _seeds(run, grid) for algorithm, run in runs.items()}
        data.setdefault(environment, {})[task] = of_task
    return data


def _grid(runs: Sequence[Run], num_steps: int) -> np.ndarray:
    """Environment steps at which all runs of a task have been evaluated."""
    first = max(steps[0] for run in runs for steps, _ in run.curves("env_steps"))
    shortest = min(runs, key=lambda run: run.last_step)
    if shortest.last_step <= first and any(run.last_step > first for run in runs):
        raise ConfigError(
            f"run '{shortest.path}' ends at {shortest.last_step} steps, before others of its task "
            f"begin at {first}; allowed: runs whose evaluations overlap"
        )
    return np.linspace(first, max(first, shortest.last_step), num_steps).astype(int)


def _seeds(run: Run, grid: np.ndarray) -> dict[str, Any]:
    names = {"return": "mean_episode_return"} | {
        name: name.removeprefix("extras/") for name in run.metrics if name.startswith("extras/")
    }
    curves = {label: list(run.curves(name)) for name, label in names.items()}
    values = {
        label: [on_grid(steps, value, grid) for steps, value in of_seeds]
        for label, of_seeds in curves.items()
    }
    lanes = [lane for lane in run.lanes["seed"] if lane in run.metrics["seed"]]
    seeds = {}
    for index, seed in enumerate(lanes):
        steps = {
            f"step_{number}": {"step_count": int(step)}
            | {label: [float(value[index][number])] for label, value in values.items()}
            for number, step in enumerate(grid)
        }
        last = {label: [float(of_seeds[index][1][-1])] for label, of_seeds in curves.items()}
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
    own = [
        f"{name.split('.')[-1]}={format_value(value)}"
        for name, value in coordinates.items()
        if name != "algorithm" and not name.startswith("env.")  # those are told already
    ]
    return ",".join([config.algorithm, *own])
