"""The host loop over chunks: rows, callbacks, progress, checkpoints, interruption."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maven_jax.config import Config, TrainingConfig
from maven_jax.experiments.callbacks.callback import Callback, ChunkEnd, RunStart
from maven_jax.experiments.checkpoint import CheckpointWriter, Progress, with_plain_keys
from maven_jax.experiments.console import log_to
from maven_jax.experiments.grid import Lanes, lanes_from_columns
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.metrics import MetricsWriter, describe_rows, set_metrics_aside
from maven_jax.experiments.new_folder import write_info
from maven_jax.experiments.options import Options
from maven_jax.experiments.progress import live_numbers, show_progress
from maven_jax.experiments.restoring import Checkpoint
from maven_jax.experiments.sweep import (
    Position,
    Sweep,
    SweepChunk,
    lane_keys,
    run_sweep,
    take_lanes,
)
from maven_jax.experiments.text import pluralize
from maven_jax.experiments.weights import save_weights
from maven_jax.training.budget import replays_per_step, updates_per_chunk
from maven_jax.types import NetworkParams, Params, TrainState


def train_lanes(
    sweep: Sweep,
    config: Config,
    path: Path,
    options: Options,
    info: dict[str, Any],
    checkpoint: Checkpoint | None,
    weights: tuple[Params, NetworkParams] | None,
    stop: StopRequest,
) -> bool:
    """The host loop over chunks. Returns whether a signal stopped it before the end.

    Rows and weights go into the folder, what is counted into `info`; also, where a callback stops
    the run, after how many evaluations and why (`stopped_early`).
    """
    lanes = lanes_from_columns(info["lanes"], config.hyperparameters)
    say = log_to(options.console)
    rows = _open_metrics(path, lanes, checkpoint, say)
    num_updates = int(checkpoint.position.metrics["num_updates"].max()) if checkpoint else 0
    checkpoints = CheckpointWriter(path, options.checkpoint, say, num_updates)
    start = _run_start(path, config, lanes, checkpoint, say)
    position = checkpoint.position if checkpoint else None
    num_chunks = saved_chunks = start.num_evaluations
    seconds_before, updates_before = info["train_seconds"], info["seed_updates"]
    chunk, stopped = None, False

    def save(chunk: SweepChunk) -> None:
        rows.sync()
        metrics = {name: values.tolist() for name, values in chunk.metrics.items()}
        counts = {name: info[name] for name in INITIAL_COUNTS}
        progress = Progress(num_chunks, info["lanes"], metrics, rows.rows, counts)
        checkpoints.save(chunk.state, progress, num_updates)

    try:
        for callback in options.callbacks:
            callback.on_start(start)
        started = time.perf_counter()
        total = config.training.total_env_steps
        label = f"{options.name_of(config)}, {pluralize(sweep.num_lanes, 'run')}"
        before = min(int(start.env_steps.min()), total)
        with show_progress(options.console, label, total, before) as show:
            keys, hyperparameters = lane_keys(lanes.seeds), lanes.hyperparameters
            for chunk in run_sweep(sweep, keys, hyperparameters, position, weights):
                num_chunks += 1
                rows.write(chunk.metrics, chunk.active)
                seconds = time.perf_counter() - started
                _count(info, config.training, chunk, seconds_before + seconds)
                if _report_divergence(chunk, lanes, info, say):
                    write_info(path, info)
                sound = chunk.metrics["env_steps"][~chunk.diverged]
                rate = (info["seed_updates"] - updates_before) / seconds
                show(int(sound.min(initial=total)), live_numbers(chunk, rate))
                num_updates = int(chunk.metrics["num_updates"].max())
                if _call(options.callbacks, start, chunk, num_chunks, info):
                    break
                stopped = stop.requested
                if stopped or checkpoints.is_due(num_updates):
                    save(chunk)
                    saved_chunks = num_chunks
                checkpoints.check()
                if stopped:
                    break
            if chunk is not None and info["keep_final"] and saved_chunks < num_chunks:
                save(chunk)
        rows.sync()
    finally:
        rows.close()
        checkpoints.close()
    _save_last_weights(path, chunk, position, sweep.num_lanes, num_chunks)
    info["metrics_csv"] = describe_rows(path, rows.rows)
    return stopped


def _save_last_weights(
    path: Path,
    chunk: SweepChunk | None,
    position: Position | None,
    num_lanes: int,
    num_chunks: int,
) -> None:
    """Writes `weights.npz`, of the last chunk, or of the checkpoint where no chunk followed it."""
    if chunk is not None:
        learned = chunk.state.params, chunk.state.latent_params
        params, latent_params = take_lanes(learned, num_lanes)
    elif position is not None:  # killed after its last checkpoint: only the weights are missing
        params, latent_params = position.state.params, position.state.latent_params
    else:
        return
    save_weights(path, params, latent_params, num_chunks)


def _count(
    info: dict[str, Any], training: TrainingConfig, chunk: SweepChunk, train_seconds: float
) -> None:
    """Counts a chunk in `run.json`, and how learning compares with acting so far."""
    updates, steps = (chunk.metrics[name].sum() for name in ("num_updates", "env_steps"))
    info |= {
        "train_seconds": round(train_seconds, 2),
        "seed_updates": info["seed_updates"]
        + updates_per_chunk(training) * int(chunk.active.sum()),
        "updates_per_env_step": round(float(updates / steps), 6),
        "replays_per_step": round(replays_per_step(training, chunk.metrics["num_updates"]), 3),
    }


INITIAL_COUNTS: dict[str, Any] = {"seed_updates": 0, "train_seconds": 0.0, "diverged": []}
"""What training counts up in `run.json`, at the start."""


def _open_metrics(
    path: Path, lanes: Lanes, checkpoint: Checkpoint | None, say: Callable[[str], None]
) -> MetricsWriter:
    """`metrics.csv` with the rows up to a checkpoint; without one those there are renamed."""
    if checkpoint is None and (aside := set_metrics_aside(path)):
        say(
            f"no checkpoint found: '{path}' restarts from step 0; its metrics so far are "
            f"renamed to '{aside.name}'"
        )
    return MetricsWriter(path, lanes.columns, checkpoint.progress.rows.length if checkpoint else 0)


def _run_start(
    path: Path,
    config: Config,
    lanes: Lanes,
    checkpoint: Checkpoint | None,
    say: Callable[[str], None],
) -> RunStart:
    """What callbacks are given of a run that starts, or resumes from a checkpoint."""
    env_steps, diverged = np.zeros((2, len(lanes.seeds)), np.int64)
    num_evaluations = 0
    if checkpoint is not None:
        env_steps = checkpoint.position.metrics["env_steps"].astype(np.int64)
        diverged = np.asarray(checkpoint.position.state.diverged)
        num_evaluations = checkpoint.progress.num_chunks
    diverged = diverged.astype(bool)
    return RunStart(path, config, lanes.columns, env_steps, diverged, num_evaluations, say)


def _call(
    callbacks: Sequence[Callback],
    start: RunStart,
    chunk: SweepChunk,
    num_evaluations: int,
    info: dict[str, Any],
) -> bool:
    """Calls all callbacks after a chunk; records and says whether one stops the run early."""

    def state() -> TrainState:
        plain = take_lanes(with_plain_keys(chunk.state), len(start.env_steps))
        return plain._replace(key=jax.random.wrap_key_data(plain.key))

    end = ChunkEnd(
        path=start.path,
        config=start.config,
        lanes=start.lanes,
        metrics=chunk.metrics,
        active=chunk.active,
        diverged=chunk.diverged,
        num_evaluations=num_evaluations,
        state=state,
    )
    stopping = [callback for callback in callbacks if callback.on_chunk(end)]
    is_over = chunk.metrics["env_steps"] >= start.config.training.total_env_steps
    if not stopping or (is_over | chunk.diverged).all():
        return False
    reason = stopping[0].reason or type(stopping[0]).__name__
    info["stopped_early"] = {"num_evaluations": num_evaluations, "reason": reason}
    start.say(f"stopped early, after {pluralize(num_evaluations, 'evaluation')}: {reason}")
    return True


def _report_divergence(
    chunk: SweepChunk, lanes: Lanes, info: dict[str, Any], say: Callable[[str], None]
) -> bool:
    """Says and records which lanes have diverged in this chunk; whether any has."""
    known = [{name: lane[name] for name in lanes.columns} for lane in info["diverged"]]
    for index in np.flatnonzero(chunk.diverged):
        lane = {name: column[index].item() for name, column in lanes.columns.items()}
        if lane in known:
            continue
        last = int(chunk.metrics["num_updates"][index])
        info["diverged"] = [*info["diverged"], lane | {"num_updates": last}]
        which = ", ".join(f"{name} {value}" for name, value in lane.items())
        say(f"{which} diverged; it is frozen at update {last}; the others continue")
    return len(info["diverged"]) > len(known)
