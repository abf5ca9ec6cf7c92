"""Runs a sweep in a folder: progress, live metrics, and results that survive an interruption."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

from maven_jax.config import Config, ConfigError, check
from maven_jax.plots import draw_curves
from maven_jax.results import (
    MetricsWriter,
    Run,
    create_run_folder,
    describe_machine,
    load_run,
    save_weights,
    write_info,
)
from maven_jax.sweep import SweepChunk, compile_sweep, run_sweep, seed_keys, take_seeds
from maven_jax.train import Trainer, make_trainer
from maven_jax.types import MarlEnv


@dataclass(frozen=True)
class Seeds:
    """Consecutive seeds: `first`, `first + 1`, ..."""

    first: int
    count: int


MAX_SEEDS = 2**16


class InterruptedRunError(Exception):
    """Ctrl-C during training; what had been learned, if anything, is in the run's folder."""

    def __init__(self, path: Path) -> None:
        kept = f"what was learned so far is in '{path}'"
        super().__init__(f"interrupted; {kept if path.exists() else 'nothing was learned yet'}")


def train_run(
    config: Config,
    env: MarlEnv,
    path: Path,
    seeds: Seeds,
    *,
    tensorboard: bool = True,
    console: Console | None = None,
) -> Run:
    """Trains all seeds in one program and leaves a run's folder (see `results`).

    Args:
        config: the experiment.
        env: its environment.
        path: folder to make.
        seeds: which seeds.
        tensorboard: write events for TensorBoard.
        console: where to show progress; the terminal's standard error by default.

    Returns:
        The run, as it stands on disk.

    Raises:
        ConfigError: a value that cannot work, or the folder exists.
        InterruptedRunError: after Ctrl-C.
    """
    check(
        1 <= seeds.count <= MAX_SEEDS,
        "seeds",
        seeds.count,
        f"a whole number from 1 to {MAX_SEEDS}",
    )
    check(
        0 <= seeds.first < 2**31 - seeds.count,
        "seed",
        seeds.first,
        "a whole number from 0 to 2**31 - seeds",
    )
    trainer = make_trainer(config, env)
    console = console or Console(stderr=True)
    info: dict[str, Any] = {
        "status": "running",
        "command": sys.argv,
        "first_seed": seeds.first,
        "num_seeds": seeds.count,
        **describe_machine(),
    }
    started = time.perf_counter()
    create_run_folder(path, config)
    try:
        write_info(path, info)
        _train(trainer, config, path, seeds, tensorboard, console, info)
        info["status"] = "finished"
    except KeyboardInterrupt:
        info["status"] = "interrupted"
    except jax.errors.JaxRuntimeError as error:
        info["status"] = "failed"
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{seeds.count} seeds do not run on this device: {reason}") from None
    except BaseException:
        info["status"] = "failed"
        raise
    finally:
        if info.get("seed_updates"):
            info["wall_seconds"] = round(time.perf_counter() - started, 2)
            write_info(path, info)
        else:
            shutil.rmtree(path)
    if not path.exists():
        raise InterruptedRunError(path)
    run = load_run(path)
    draw_curves([run], path / "figures" / "return.png")
    if info["status"] == "interrupted":
        raise InterruptedRunError(path)
    return run


def _train(
    trainer: Trainer,
    config: Config,
    path: Path,
    seeds: Seeds,
    tensorboard: bool,
    console: Console,
    info: dict[str, Any],
) -> None:
    """The host loop over chunks; weights are copied after each, and saved however it ends."""
    name, updates = config.algorithm.upper(), config.training.updates_per_evaluation
    with console.status(f"{name}: compiling one program for {seeds.count} seeds"):
        keys = seed_keys(seeds.first, seeds.count)
        sweep = compile_sweep(trainer, keys, config.hyperparameters)
    info["compile_seconds"] = round(sweep.compile_seconds, 2)
    writer = MetricsWriter(path, seeds.first)
    events = _events(path) if tensorboard else None
    weights, seed_updates = None, 0
    started = time.perf_counter()
    try:
        with _progress(console) as progress:
            total = config.training.total_env_steps
            task = progress.add_task(f"{name}, {seeds.count} seeds", total=total, live="")
            for chunk in run_sweep(sweep):
                weights = take_seeds((chunk.state.params, chunk.state.latent_params), seeds.count)
                writer.write(chunk.metrics, chunk.active)
                seed_updates += updates * int(chunk.active.sum())
                if events is not None:
                    _write_events(events, chunk)
                rate = seed_updates / (time.perf_counter() - started)
                progress.update(
                    task,
                    completed=min(int(chunk.metrics["env_steps"].min()), total),
                    live=_live(chunk, rate),
                )
    finally:
        info["seed_updates"] = seed_updates
        info["train_seconds"] = round(time.perf_counter() - started, 2)
        writer.close()
        if events is not None:
            events.close()
        if weights is not None:
            save_weights(path, *weights)


def _live(chunk: SweepChunk, rate: float) -> str:
    return f"return {np.median(chunk.metrics['return']):.2f}  {rate:,.0f} updates/s"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),
        TextColumn("{task.completed:,} steps  {task.fields[live]}"),
        _TimeLeft(),
        console=console,
    )


class _TimeLeft(ProgressColumn):
    """Time left at the mean rate so far; steady where chunks are few and seconds long."""

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None or task.total is None:
            return Text("-:-- left")
        left = int(task.elapsed * max(task.total - task.completed, 0) / task.completed)
        return Text(f"{left // 60}:{left % 60:02d} left")


def _events(path: Path) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(path / "events"))


def _write_events(events: Any, chunk: SweepChunk) -> None:
    """Each metric's median over seeds, and the quartiles of the return."""
    step = int(np.median(chunk.metrics["env_steps"]))
    for name, value in chunk.metrics.items():
        if value.ndim == 1:
            events.add_scalar(f"median/{name}", float(np.median(value)), step)
    low, high = np.percentile(chunk.metrics["return"], [25, 75])
    events.add_scalar("quartiles/return_25", float(low), step)
    events.add_scalar("quartiles/return_75", float(high), step)
