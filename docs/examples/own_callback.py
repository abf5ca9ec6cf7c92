"""A custom callback: saves the best evaluation's weights, and stops at a median return of 13.

    cd docs/examples
    maven-jax train qmix --callback own_callback:BestWeights --out runs/watched

`best.npz` in the run's folder has one array for each weight, with a leading axis of seeds.
"""

import jax
import numpy as np

from maven_jax import callbacks


class BestWeights(callbacks.Callback):
    """Saves all seeds' weights when the median return is higher than before; stops at 13."""

    reason = "the median return is 13"

    def on_start(self, start: callbacks.RunStart) -> None:
        self.best = -np.inf

    def on_chunk(self, chunk: callbacks.ChunkEnd) -> bool:
        finite = ~chunk.diverged
        median = np.median(chunk.metrics["return"][finite]) if finite.any() else -np.inf
        if median > self.best:
            self.best = median
            save_weights(chunk)
        return median >= 13


def save_weights(chunk: callbacks.ChunkEnd) -> None:
    """Copies the weights to the host and saves them; called only for a new best evaluation."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(chunk.state().params)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    np.savez(chunk.path / "best.npz", **named)
