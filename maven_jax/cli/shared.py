"""What commands of several groups need."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from maven_jax.cli.on_ray import train_on_ray
from maven_jax.errors import check
from maven_jax.experiments.callbacks import make_callbacks
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.console import log_to, plain_console
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import Plan, train_plan
from maven_jax.experiments.run import Run
from maven_jax.reports.plots import draw_curves
from maven_jax.studies.report import print_report, try_to_report, write_report

Overrides = Annotated[str | None, tyro.conf.arg(name="config")]
"""The type of `--config`."""
CallbackNames = tyro.conf.UseAppendAction[tuple[str, ...]]
"""The type of `--callback`."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how a plan is trained; none of it changes results."""

    part_index: int | None = None
    """Train one part of a sweep, a study or a grouped run, counted from 0. A part is a folder
    whose runs train together. Default: all, or in a job array that of SLURM_ARRAY_TASK_ID."""
    ray: str | None = None
    """Train the parts as tasks of Ray: `local`, or the address of a cluster."""
    ray_cpus: float | None = None
    """Cores that a part asks for. Default: all of a machine, or one beside a GPU."""
    ray_gpus: float | None = None
    """GPUs that a part asks for. Default: one, if the cluster has any."""
    tensorboard: bool = True
    """Write events for TensorBoard."""
    callback: CallbackNames = ()
    """What to call after each evaluation: `wandb`, `json_lines`, or `module:Name`; repeatable."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)


def execute(
    plan: Plan,
    out: Path,
    command: Execution,
    remarks: Sequence[str] = (),
    only: Sequence[str] = (),
) -> list[Run]:
    """Trains a plan in the folder `out`, here or on Ray; returns the parts that have finished.

    `only` names the parts to train; by default those that the command chooses.
    """
    callbacks = callback_names(command.tensorboard, command.callback)
    options = options_of(callbacks, command.checkpoint, remarks)
    if only:
        check(command.part_index is None, "part_index", command.part_index, "none with --only")
    else:
        only = _chosen_parts(plan, command.part_index)
    for name in ("ray_cpus", "ray_gpus"):
        value = getattr(command, name)
        check(value is None or command.ray is not None, name, value, "with --ray only")
        works = value is None or 0 <= value <= 1 or (1 < value < 10**6 and value.is_integer())
        check(works, name, value, "a number from 0 to 1, or a whole number")
    if command.ray is None:
        return train_plan(plan, out, options, only=only)
    on_ray = partial(
        train_on_ray,
        callbacks=callbacks,
        address=command.ray,
        cpus=command.ray_cpus,
        gpus=command.ray_gpus,
    )
    return train_plan(plan, out, options, only=only, train_parts=on_ray)


def _chosen_parts(plan: Plan, index: int | None) -> Sequence[str]:
    """The name of the part that `--part-index` or a job array chooses; none for all parts."""
    name, number, remedy = "part_index", len(plan.parts), ""
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    if index is None and task is not None and number > 1:
        name, remedy = "SLURM_ARRAY_TASK_ID", "; unset it to train all parts"
        check(task.isdecimal(), name, task, "a whole number")
        index = int(task)
    if index is None:
        return ()
    check(0 <= index < number, name, index, f"a whole number from 0 to {number - 1}{remedy}")
    if plan.is_single:
        return ()
    chosen = plan.parts[index].name
    say(f"part {index} of {number}, '{chosen}', is trained ({name})")
    return (chosen,)


def say(line: str) -> None:
    """Prints a line beside the results, on standard error."""
    log_to(plain_console(stderr=True))(line)


def print_line(console: Console, text: str) -> None:
    """Prints a line that may hold a path: neither wrapped nor coloured."""
    console.print(text, highlight=False, soft_wrap=True)


def callback_names(tensorboard: bool, others: Sequence[str]) -> list[str]:
    """The names of a command's callbacks, each once."""
    return list(dict.fromkeys([*(["tensorboard"] if tensorboard else []), *others]))


def options_of(
    callbacks: Sequence[str], checkpoint: Checkpointing, remarks: Sequence[str] = ()
) -> Options:
    """The options of training that commands share.

    Raises:
        ConfigError: a callback of a name that there is not, or that cannot be made.
    """
    return Options(
        make_callbacks(callbacks),
        checkpoint,
        remarks=remarks,
        draw=draw_curves,
        report=lambda path: try_to_report(path, say),
    )


def show_report(out: Path, console: Console) -> None:
    """Writes a study's report and prints it, and the names of its files."""
    report = write_report(out)
    print_report(report, console)
    for file in report.files:
        print_line(console, f"written: '{file}'")
