"""Commands that train: `train`, `sweep`, `resume`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from maven_jax.cli.shared import (
    CallbackNames,
    Execution,
    Overrides,
    callback_names,
    execute,
    options_of,
    print_line,
    say,
    show_report,
)
from maven_jax.config import Config, override
from maven_jax.errors import ConfigError, check
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.extending import extend
from maven_jax.experiments.folder import is_study
from maven_jax.experiments.grid import Part, at_largest, expand, parse_grid, seeds_of
from maven_jax.experiments.options import Origin
from maven_jax.experiments.plan import Plan, resume_plan
from maven_jax.experiments.points import points_of
from maven_jax.experiments.restoring import newest_weights
from maven_jax.experiments.run import Run, load_run
from maven_jax.experiments.text import pluralize
from maven_jax.experiments.weights import checksum_of_arrays, refuse_normalized
from maven_jax.reports.tables import last_evaluation, points_table
from maven_jax.studies.report import kind_of, try_to_report
from maven_jax.validation.files import load_config, load_overrides
from maven_jax.validation.ignored_fields import remarks


@dataclass(frozen=True)
class Experiment:
    """Arguments that `train` and `sweep` share."""

    config_source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONFIG")]
    """A YAML file, or the name of a packaged configuration."""
    out: Path | None = None
    """Folder to make for the run; runs/CONFIG by default."""
    seed: int = 0
    """The first seed."""
    seeds: int = 8
    """How many seeds, counted up from the first."""
    overrides: Overrides = None
    """A YAML file of values that replace those of CONFIG, or `smoke` for tiny sizes. Options of
    single fields override both."""
    group_size: int | None = None
    """How many runs (seeds times values of a grid) train at once, in one part. Default: all."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Train(Execution, Experiment):
    """Arguments of `maven-jax train`."""

    init_from: Path | None = None
    """Folder of a run whose weights to start from. It must have as many seeds, unless --lane is
    given."""
    lane: int | None = None
    """The lane (one seed, or one seed and point of a grid) of --init-from, counted from 0, whose
    weights every seed starts from."""


@dataclass(frozen=True)
class Sweep(Execution, Experiment):
    """Arguments of `maven-jax sweep`."""

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """FIELD=VALUE,VALUE,...; repeat --grid for each field. Values of hyperparameters and of steps
    share one program; any other field is compiled once for each value."""


@dataclass(frozen=True)
class ExtendedTraining:
    """Fields of `training` that `resume` can change."""

    total_env_steps: int | None = None
    """New, larger number of environment steps of each seed. A finished run can be extended if it
    was trained with --checkpoint.keep-final."""


@dataclass(frozen=True)
class Resume:
    """Arguments of `maven-jax resume`."""

    run: tyro.conf.Positional[Path]
    """Folder of a run, a sweep or a study."""
    training: ExtendedTraining = field(default_factory=ExtendedTraining)
    tensorboard: bool = True
    """Write events for TensorBoard."""
    callback: CallbackNames = ()
    """What to call after each evaluation: `wandb`, `json_lines`, or `module:Name`; repeatable."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)


def train(command: Train, console: Console) -> None:
    """`maven-jax train CONFIG`."""
    out = command.out or Path("runs") / Path(command.config_source).stem
    seeds = seeds_of(command.seed, command.seeds)
    parts = expand(command.config, {}, seeds, command.group_size)
    works = command.init_from is None or len(parts) == 1
    allowed = f"at least {len(seeds)}, the number of seeds, with --init-from"
    check(works, "group_size", command.group_size, allowed)
    plan = Plan(tuple(parts), origin=_origin(command, len(seeds)))
    _print_end(execute(plan, out, command, _remarks(command, parts)), out, console)


def _origin(command: Train, num_lanes: int) -> Origin | None:
    """The weights of `--init-from`, one lane (run) for each of the new ones."""
    if command.init_from is None:
        if command.lane is not None:
            raise ConfigError(f"lane is {command.lane}; --lane needs --init-from")
        return None
    source = load_run(command.init_from)
    refuse_normalized(source.config, f"run '{source.path}': ")
    count, lane = source.num_lanes, command.lane
    a_lane = f"a whole number from 0 to {count - 1}"
    if lane is None:
        lanes = list(range(num_lanes))
        allowed = f"{count}, as many as '{source.path}' has, or --lane, {a_lane}, to start every "
        check(num_lanes == count, "seeds", num_lanes, f"{allowed}seed from one")
    else:
        lanes = [lane] * num_lanes
        check(0 <= lane < count, "lane", lane, a_lane)
    weights = newest_weights(source, say)
    arrays = {name: x[lanes] for name, x in weights.items()}
    columns = {name: [column[i] for i in lanes] for name, column in source.lanes.items()}
    record = {
        "run": str(source.path.resolve()),
        "lanes": columns,
        "num_evaluations": source.num_evaluations,
        "weights": checksum_of_arrays(weights),
    }
    return Origin(arrays, record)


def sweep(command: Sweep, console: Console) -> None:
    """`maven-jax sweep CONFIG --grid FIELD=VALUE,VALUE`."""
    out = command.out or Path("runs") / f"{Path(command.config_source).stem}-sweep"
    grid = parse_grid(command.grid, command.config)
    seeds = seeds_of(command.seed, command.seeds)
    parts = expand(command.config, grid, seeds, command.group_size)
    runs = execute(Plan(tuple(parts)), out, command, _remarks(command, parts))
    _print_end(runs, out, console)


def resume(command: Resume, console: Console) -> None:
    """`maven-jax resume RUN`."""
    if is_study(command.run):
        kind_of(command.run)  # a damaged one is refused before anything trains
    callbacks = callback_names(command.tensorboard, command.callback)
    options = options_of(callbacks, command.checkpoint)
    if command.training.total_env_steps is not None:
        extend(command.run, command.training.total_env_steps)
    runs = resume_plan(command.run, options)
    if is_study(command.run):
        show_report(command.run, console)
    else:
        _print_end(runs, command.run, console)
        try_to_report(command.run.resolve().parent, say)  # if this is a run of a study


def _remarks(command: Experiment, parts: Sequence[Part]) -> list[str]:
    """Lines about fields that the user has set and that no part reads."""
    source = command.config_source
    base = Config() if Path(source).is_file() else load_config(source)
    if command.overrides is not None:
        base = override(base, load_overrides(command.overrides))
    first, *others = [remarks(at_largest(part), base) for part in parts]
    return [line for line in first if all(line in other for other in others)]


def _print_end(runs: list[Run], out: Path, console: Console) -> None:
    """Prints the result of training: a sentence for one configuration, a table for a sweep."""
    points = points_of(runs)
    if len(points) != 1 or not points[0][1].metrics["seed"].size:
        if points:  # else other processes are training all that is left
            console.print(points_table(points, "return"))
        print_line(console, f"results in {out}/")
        return
    ((_, run),) = points
    low, median, high = np.percentile(run.final("return"), [25, 50, 75])
    values = f"median {median:.2f}, quartiles {low:.2f} to {high:.2f}"
    seeds = pluralize(run.num_lanes, "seed")
    print_line(console, f"return, {last_evaluation([run])}: {values}, {seeds}; results in {out}/")
