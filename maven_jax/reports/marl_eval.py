"""Results in the exchange format of marl-eval, by which libraries are compared in one plot.

Environment, task, algorithm, seed, then `step_0`, `step_1`, ... and `absolute_metrics`, each a
dictionary of metrics to lists of values (Gorsane et al. 2022, section 5). All runs are
read on one grid of environment steps for each task, since its readers take the steps of the first
run for those of all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maven_jax.config import Config
from maven_jax.environments.registry import default_options
from maven_jax.errors import ConfigError, check
from maven_jax.experiments.grid import short_names
from maven_jax.experiments.points import experiment_fields, on_grid
from maven_jax.experiments.run import Point, Run
from maven_jax.experiments.text import format_value


def marl_eval_data(points: Sequence[Point], num_steps: int) -> dict[str, Any]:
    """The nested dictionaries of a file.

    Args:
        points: coordinates and runs, of `points_of`.
        num_steps: evaluation steps that each run is read at, evenly spaced from the first
            evaluation that all runs of the task have, to the last.

    Returns:
        Environment to task to algorithm to seed to step to metrics. `mean_episode_return`, and the
        environment's own measures. `absolute_metrics` are of each seed's last evaluation
        (`Run.final`): the weights are not chosen by a test.

    Raises:
        ConfigError: there is no curve, or the runs of a task have no steps in common.
    """
    check(1 <= num_steps <= 10**5, "evaluations", num_steps, "a whole number from 1 to 100000")
    points = [(coordinates, run) for coordinates, run in points if run.metrics["seed"].size]
    if not points:
        raise ConfigError("there is nothing to export: no run has an evaluation")
    tasks: dict[tuple[str, str], list[Point]] = {}
    for coordinates, run in points:
        tasks.setdefault((run.config.env.name, task_name(run.config)), []).append(
            (coordinates, run)
        )
    data: dict[str, Any] = {}
    for (environment, task), of_task in tasks.items():
        grid = _grid([run for _, run in of_task], num_steps)
        seeds = (_seeds(run, grid) for _, run in of_task)
        algorithms = dict(zip(_algorithms(of_task), seeds, strict=True))
        data.setdefault(environment, {})[task] = algorithms
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
    values = {
        label: [on_grid(steps, value, grid) for steps, value in run.curves(name)]
        for name, label in names.items()
    }
    finals = {label: run.final(name) for name, label in names.items()}
    lanes = [lane for lane in run.lanes["seed"] if lane in run.metrics["seed"]]
    seeds = {}
    for index, seed in enumerate(lanes):
        steps = {
            f"step_{number}": {"step_count": int(step)}
            | {label: [float(value[index][number])] for label, value in values.items()}
            for number, step in enumerate(grid)
        }
        last = {label: [float(of_seeds[index])] for label, of_seeds in finals.items()}
        seeds[f"seed_{seed}"] = steps | {"absolute_metrics": last}  # its readers take it as last
    return seeds


def task_name(config: Config) -> str:
    """The scenario, or the options that are not the environment's own."""
    options, default = config.env.options, default_options(config.env.name)
    changed = {name: value for name, value in options.items() if value != default.get(name)}
    if "scenario" in options:
        changed = {"": options["scenario"], **changed}
        changed.pop("scenario", None)
    parts = [f"{name}={format_value(value)}".lstrip("=") for name, value in changed.items()]
    return ",".join(parts) or "default"


def _algorithms(points: Sequence[Point]) -> list[str]:
    """Names for the experiments of a task: the algorithm, and where they are in a sweep's grid.

    Where some would have the same, the algorithm and all fields in which its experiments differ.
    """
    names = [
        _algorithm(
            run.config,
            {
                field: format_value(value)
                for field, value in coordinates.items()
                if field != "algorithm" and not field.startswith("env.")  # those are told already
            },
        )
        for coordinates, run in points
    ]
    for algorithm in {run.config.algorithm for _, run in points}:
        same = [i for i, (_, run) in enumerate(points) if run.config.algorithm == algorithm]
        if len({names[i] for i in same}) == len(same):
            continue
        fields = [experiment_fields(points[i][1]) for i in same]
        every = dict.fromkeys(name for own in fields for name in own)
        differing = [n for n in every if len({repr(own.get(n)) for own in fields}) > 1]
        for i, own in zip(same, fields, strict=True):
            names[i] = _algorithm(
                points[i][1].config, {name: own[name] for name in differing if name in own}
            )
    return names


def _algorithm(config: Config, values: Mapping[str, Any]) -> str:
    short = short_names(values)
    return ",".join([config.algorithm, *(f"{short[name]}={x}" for name, x in values.items())])
