"""Experiments from Python: train, read, evaluate, draw, and act with what was trained."""

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from maven_jax.acting.policy import Policy
from maven_jax.config import Config, from_dict, override
from maven_jax.environments.registry import complete, env_config, make_env
from maven_jax.errors import ConfigError, check, unknown
from maven_jax.examples import example_path
from maven_jax.experiments.callbacks import Callback, make_callbacks
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.folder import is_study
from maven_jax.experiments.grid import (
    check_grid,
    expand,
    lanes_from_columns,
    seeds_of,
    short_names,
)
from maven_jax.experiments.metrics import COUNTERS, as_columns
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.plan import MakeEnv, Plan, train_plan
from maven_jax.experiments.points import points_of
from maven_jax.experiments.run import Run, load_runs
from maven_jax.experiments.text import format_value, pluralize
from maven_jax.experiments.trained import load_trained, play_tests, with_episodes
from maven_jax.reports.plots import curves_figure
from maven_jax.types import MarlEnv
from maven_jax.validation.files import AnyPath, load_config, load_overrides


def train(
    what: AnyPath | Mapping[str, Any] | Config | Plan,
    *,
    env: MarlEnv | str | None = None,
    seeds: int = 8,
    seed: int = 0,
    grid: Mapping[str, Any] | None = None,
    overrides: AnyPath | Mapping[str, Any] | None = None,
    out: AnyPath | None = None,
    callbacks: Sequence[Callback | str] = (),
    group_size: int | None = None,
    console: Console | None = None,
) -> "Results":
    """Trains a configuration over seeds, and over a grid of values, in one folder.

    The same call with the same `out` resumes it, or finds it finished. Ctrl-C saves a checkpoint,
    then raises `KeyboardInterrupt`.

    Args:
        what: the name of a packaged configuration or of an algorithm, a YAML file, nested values as
            in one, a configuration, or a plan of all that is to be trained.
        env: to train in, in the place of the one that the configuration names: a name, as
            `env.name` takes it, or an object. An object is recorded by
            its class and options. With `out`, options must be attributes of it, or be given in
            `overrides`, so that the folder can be resumed.
        seeds: how many.
        seed: the first of them.
        grid: lists of values by the dotted names of fields, crossed with each other and the seeds.
        overrides: nested values laid over the configuration, or their YAML file, or `smoke`.
        out: folder to make or to resume; by default a temporary one, deleted with the process.
        callbacks: are called while it trains: loggers, early stopping, your own.
        group_size: how many runs train at once; by default all.
        console: where progress is shown; by default a bar in a terminal, and elsewhere a few lines
            on standard error.

    Raises:
        ConfigError: a value that cannot work.
        StorageError: the folder holds something else, or cannot be made.
    """
    if isinstance(env, str):
        overrides, env = _with_env_name(env, overrides), None
    if isinstance(what, Plan):
        own = {"env": env, "grid": grid, "overrides": overrides, "group_size": group_size}
        for name, value in own.items():
            check(value is None, name, value, "none with a Plan, whose parts have their own")
        plan, name = what, "plan"
    else:
        config = _in_env(
            _load(what, overrides), env, overrides, grid or {}, is_kept=out is not None
        )
        values = {field: _as_list(values) for field, values in (grid or {}).items()}
        spell_out = complete if env is None else lambda config: config
        points = check_grid(values, spell_out(config)), seeds_of(seed, seeds), group_size
        plan = Plan(tuple(expand(config, *points, spell_out)))
        name = Path(what).stem if isinstance(what, str | os.PathLike) else config.algorithm
    path = _temporary_folder() / name if out is None else Path(out)
    console = console or plain_console(stderr=True)
    options = Options(make_callbacks(callbacks), console=console)
    env_of = make_env if env is None else lambda _: env
    try:
        return Results(path, train_plan(plan, path, options, env_of), env_of)
    except InterruptedRunError:
        saved = f"the same call with out={str(path)!r} resumes it"
        saved += "" if out is not None else ", until this process ends"
        raise KeyboardInterrupt(saved if path.exists() else "nothing was saved yet") from None


def load_results(path: AnyPath) -> "Results":
    """Reads the folder of a run, a sweep or a study; of what has not finished, what there is.

    Raises:
        StorageError: no such folder, a file in it is missing or damaged, or there is no row yet.
    """
    return Results(Path(path), load_runs(path, warnings.warn))


def load_example(name: str) -> "Results":
    """A trained run that comes with the package, such as `maven_team`.

    Raises:
        ConfigError: there is none of that name.
    """
    return load_results(example_path(name))


@dataclass(frozen=True, repr=False)
class Results:
    """What was trained in a folder. Its methods read, play and draw, and never train.

    A lane is one training run: a seed at a point of the grid. Coordinates are the values of the
    grid, by the last parts of their fields' names, such as `mi_weight`; in a study also `run`, the
    name of the part's folder.

    Attributes:
        path: the folder.
        runs: one for each compiled program and group of lanes.
        make_env: builds the environment of a configuration.
    """

    path: Path
    runs: list[Run]
    make_env: MakeEnv = make_env

    def __repr__(self) -> str:
        number = pluralize(sum(run.num_lanes for run in self.runs), "run")
        return f"<Results of {number} in '{self.path}'>"

    def frame(self) -> pd.DataFrame:
        """The rows of `metrics.csv` of all runs: a row for each lane and evaluation.

        The columns are the coordinates, `seed`, `env_steps`, `num_updates`, then the metrics.
        """
        frames = []
        for run in self.runs:
            columns = self._coordinates(run, {name: run.metrics[name] for name in run.lanes})
            whole = {name: run.metrics[name].astype(int) for name in ("seed", *COUNTERS)}
            rest = {n: x for n, x in run.metrics.items() if n not in (*run.lanes, *COUNTERS)}
            frames.append(pd.DataFrame(columns | whole | rest))
        return pd.concat(frames, ignore_index=True)

    def plot(self, metric: str = "return") -> Figure:
        """A metric against environment steps: median and quartiles over seeds of each point.

        Args:
            metric: a column of `metrics.csv`.

        Raises:
            ConfigError: there is no curve or no such metric.
        """
        return curves_figure(points_of(self.runs), metric)

    def evaluate(
        self, env: MarlEnv | None = None, episodes: int = 256, seed: int = 0
    ) -> pd.DataFrame:
        """Plays greedy episodes with the newest weights of every lane.

        Args:
            env: to play in, of the same sizes; by default the one of training.
            episodes: of each lane, with z from the latent policy.
            seed: of the episodes; the numbers are those of `maven-jax evaluate` with it.

        Returns:
            A row for each lane: coordinates, `seed`, `return`, and what else test episodes measure.

        Raises:
            ConfigError: a number out of range, or an environment of other sizes.
            StorageError: weights are missing or damaged.
        """
        frames = []
        for run in self.runs:
            config = with_episodes(run.config, episodes, seed)
            trained = load_trained(run, env, self.make_env)
            lanes = lanes_from_columns(run.lanes, config.hyperparameters)
            params, latent_params = trained.params, trained.latent_params
            metrics = play_tests(params, latent_params, seed, lanes, config, trained.env)
            frames.append(pd.DataFrame(self._coordinates(run, run.lanes) | as_columns(metrics)))
        return pd.concat(frames, ignore_index=True)

    def policy(self, seed: int = 0, **coordinates: Any) -> Policy:
        """The greedy agents of one lane, to act in a loop of your own.

        Args:
            seed: of the lane.
            coordinates: of its point, as many as tell it from the others.

        Raises:
            ConfigError: no lane has these values, or several have.
            StorageError: weights are missing or damaged.
        """
        run, lane = self._find({"seed": seed, **coordinates})
        env, algorithm, params, latent_params = load_trained(run, None, self.make_env)
        weights = jax.tree.map(lambda x: x[lane], (params.agent, latent_params))
        return Policy(algorithm.agent, algorithm.latent, env.num_agents, *weights)

    def _coordinates(self, run: Run, columns: Mapping[str, Any]) -> dict[str, Any]:
        """What tells lanes apart, by name: values of the run, and columns as in `Run.lanes`."""
        fields = [[*run.info.get("coordinates", {}), *run.lanes] for run in self.runs]
        short = short_names(dict.fromkeys(name for own in fields for name in own))
        name = {"run": run.path.name} if is_study(self.path) else {}
        values = {**run.info.get("coordinates", {}), **{name: columns[name] for name in run.lanes}}
        seed = {"seed": np.asarray(values.pop("seed"), int)}
        return name | {short[field]: value for field, value in values.items()} | seed

    def _find(self, asked: Mapping[str, Any]) -> tuple[Run, int]:
        """The only lane that has these coordinates, and its run."""
        lanes = [
            (run, lane, {name: np.broadcast_to(x, run.num_lanes)[lane] for name, x in own.items()})
            for run in self.runs
            for own in [self._coordinates(run, run.lanes)]
            for lane in range(run.num_lanes)
        ]
        known = list(dict.fromkeys(name for *_, values in lanes for name in values))
        for name, value in asked.items():
            if name not in known:
                raise unknown("coordinate", name, known)
            there = dict.fromkeys(values[name] for *_, values in lanes if name in values)
            check(value in there, name, value, ", ".join(map(format_value, there)))
        found = [
            (run, lane)
            for run, lane, values in lanes
            if all(name in values and values[name] == value for name, value in asked.items())
        ]
        shown = ", ".join(f"{name} {format_value(value)}" for name, value in asked.items())
        others = ", ".join(name for name in known if name not in asked)
        if len(found) != 1:
            which = f"several runs have {shown}" if found else f"no run has {shown}"
            raise ConfigError(f"{which}; allowed: values of {others} that one run has")
        return found[0]


def _load(what: Any, overrides: Any) -> Config:
    if isinstance(what, Config):
        config = what
    else:
        config = from_dict(what) if isinstance(what, Mapping) else load_config(what)
    if overrides is not None and not isinstance(overrides, Mapping):
        overrides = load_overrides(overrides)
    return override(config, overrides or {})


def _in_env(
    config: Config, env: Any, overrides: Any, grid: Mapping[str, Any], *, is_kept: bool
) -> Config:
    """The configuration of training in an environment that is given as an object, if one is."""
    if env is None:
        return config
    check(not isinstance(env, str | type), "env", env, "an environment, such as MStepMatrixGame()")
    for field in grid:
        check(not field.startswith("env."), "grid", field, "no field of env, which is given")
    given = overrides if isinstance(overrides, Mapping) else {}
    options = given.get("env", {}).get("options", {})
    return replace(config, env=env_config(env, options, is_kept=is_kept))


def _with_env_name(name: str, overrides: Any) -> Any:
    """Overrides that name an environment, with the options that they had."""
    plain = {} if overrides is None else overrides
    if not isinstance(plain, Mapping):
        plain = load_overrides(plain)
    return {**plain, "env": {**plain.get("env", {}), "name": name}}


def _as_list(values: Any) -> Any:
    """What a grid has of a field, also from a tuple, a range or an array."""
    is_sequence = isinstance(values, Iterable) and not isinstance(values, str)
    return list(values) if is_sequence else values


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="maven-jax-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
