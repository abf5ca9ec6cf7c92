"""The host loop over chunks: rows, progress, checkpoints, interruption."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maven_jax.config import Config, TrainingConfig
from maven_jax.experiments.checkpoint import CheckpointWriter, Progress
from maven_jax.experiments.console import log_to
from maven_jax.experiments.grid import Lanes, lanes_from_columns
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.metrics import (
    MetricsPrefix,
    MetricsWriter,
    describe_rows,
    set_metrics_aside,
)
from maven_jax.experiments.new_folder import write_info
from maven_jax.experiments.options import Options
from maven_jax.experiments.progress import live_numbers, show_progress
from maven_jax.experiments.restoring import Checkpoint
from maven_jax.experiments.sweep import Sweep, SweepChunk, lane_keys, run_sweep, take_lanes
from maven_jax.experiments.tensorboard import event_step, write_events
from maven_jax.experiments.text import pluralize
from maven_jax.experiments.weights import save_weights
from maven_jax.training.budget import replays_per_step, updates_per_chunk
from maven_jax.types import NetworkParams, Params


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

    Rows and weights go into the folder, what is counted into `info`.
    """
    lanes = lanes_from_columns(info["lanes"], config.hyperparameters)
    results = Results(path, lanes, options, checkpoint)
    num_updates = int(checkpoint.position.metrics["num_updates"].max()) if checkpoint else 0
    checkpoints = CheckpointWriter(path, options.checkpoint, log_to(options.console), num_updates)
    position, num_chunks = (
        (checkpoint.position, checkpoint.progress.num_chunks) if checkpoint else (None, 0)
    )
    saved_chunks = num_chunks
    seconds_before, updates_before = info["train_seconds"], info["seed_updates"]
    started = time.perf_counter()
    chunk, stopped = None, False

    def save(chunk: SweepChunk) -> None:
        results.sync()
        metrics = {name: values.tolist() for name, values in chunk.metrics.items()}
        counts = {name: info[name] for name in INITIAL_COUNTS}
        progress = Progress(num_chunks, info["lanes"], metrics, results.rows, counts)
        checkpoints.save(chunk.state, progress, num_updates)

    try:
        total = config.training.total_env_steps
        label = f"{options.name_of(config)}, {pluralize(sweep.num_lanes, 'run')}"
        before = int(position.state.env_steps.min()) if position is not None else 0
        with show_progress(options.console, label, total, min(before, total)) as show:
            keys, hyperparameters = lane_keys(lanes.seeds), lanes.hyperparameters
            for chunk in run_sweep(sweep, keys, hyperparameters, position, weights):
                num_chunks += 1
                results.write(chunk)
                seconds = time.perf_counter() - started
                info["train_seconds"] = round(seconds_before + seconds, 2)
                info["seed_updates"] += updates_per_chunk(config.training) * int(chunk.active.sum())
                info.update(_ratios(config.training, chunk))
                if _report_divergence(chunk, lanes, info, log_to(options.console)):
                    write_info(path, info)
                sound = chunk.metrics["env_steps"][~chunk.diverged]
                rate = (info["seed_updates"] - updates_before) / seconds
                show(min(int(sound.min(initial=total)), total), live_numbers(chunk, rate))
                stopped = stop.requested
                num_updates = int(chunk.metrics["num_updates"].max())
                if stopped or checkpoints.is_due(num_updates):
                    save(chunk)
                    saved_chunks = num_chunks
                checkpoints.check()
                if stopped:
                    break
            if chunk is not None and info["keep_final"] and saved_chunks < num_chunks:
                save(chunk)
        results.sync()
    finally:
        results.close()
        checkpoints.close()
    if chunk is not None:
        learned = chunk.state.params, chunk.state.latent_params
        params, latent_params = take_lanes(learned, sweep.num_lanes)
        save_weights(path, params, latent_params, num_chunks)
    elif position is not None:  # killed after its last checkpoint: only the weights are missing
        save_weights(path, position.state.params, position.state.latent_params, num_chunks)
    info["metrics_csv"] = describe_rows(path, results.rows)
    return stopped


def _ratios(training: TrainingConfig, chunk: SweepChunk) -> dict[str, float]:
    """How learning compares with acting so far, over all lanes."""
    updates, steps = (chunk.metrics[name].sum() for name in ("num_updates", "env_steps"))
    return {
        "updates_per_env_step": round(float(updates / steps), 6),
        "replays_per_step": round(replays_per_step(training, chunk.metrics["num_updates"]), 3),
    }


INITIAL_COUNTS: dict[str, Any] = {"seed_updates": 0, "train_seconds": 0.0, "diverged": []}
"""What training counts up in `run.json`, at the start."""


class Results:
    """What is added to a run's folder after every chunk."""

    def __init__(
        self, path: Path, lanes: Lanes, options: Options, checkpoint: Checkpoint | None
    ) -> None:
        if checkpoint is None and (aside := set_metrics_aside(path)):
            log_to(options.console)(
                f"no checkpoint found: '{path}' restarts from step 0; its metrics so far are "
                f"renamed to '{aside.name}'"
            )
        self._metrics = MetricsWriter(
            path, lanes.columns, checkpoint.progress.rows.length if checkpoint else 0
        )
        self._events: Any = None
        if options.tensorboard:
            from tensorboardX import SummaryWriter

            first = 0
            if checkpoint:
                diverged = np.asarray(checkpoint.position.state.diverged)
                first = event_step(checkpoint.position.metrics, diverged) + 1
            folder = path / "events"
            count = len(list(folder.glob("*")))  # two starts in a second would share a file's name
            self._events = SummaryWriter(str(folder), purge_step=first, filename_suffix=f".{count}")

    def write(self, chunk: SweepChunk) -> None:
        """A row of every active lane, and what TensorBoard shows of all."""
        self._metrics.write(chunk.metrics, chunk.active)
        if self._events is not None:
            write_events(self._events, chunk)

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        self._metrics.sync()

    @property
    def rows(self) -> MetricsPrefix:
        """How much of `metrics.csv` there is."""
        return self._metrics.rows

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        if self._events is not None:
            self._events.close()


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
