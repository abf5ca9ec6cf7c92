"""TensorBoard events."""

from typing import Any

import numpy as np

from maven_jax.experiments.sweep import SweepChunk


def write_events(events: Any, chunk: SweepChunk) -> None:
    """Each metric's median over the lanes that are finite, and the quartiles of the return."""
    sound = {name: values[~chunk.diverged] for name, values in chunk.metrics.items()}
    if chunk.diverged.all():
        return
    step = event_step(chunk.metrics, chunk.diverged)
    for name, values in sound.items():
        if values.ndim == 1:
            events.add_scalar(f"median/{name}", float(np.median(values)), step)
    low, high = np.percentile(sound["return"], [25, 75])
    events.add_scalar("quartiles/return_25", float(low), step)
    events.add_scalar("quartiles/return_75", float(high), step)


def event_step(metrics: dict[str, np.ndarray], diverged: np.ndarray) -> int:
    """Where TensorBoard shows a chunk: the median step of the lanes that are finite."""
    return 0 if diverged.all() else int(np.median(metrics["env_steps"][~diverged]))
