"""What is called while a run trains: loggers, early stopping, and callbacks of your own.

A callback is a `Callback`, whose methods are given a `RunStart`, a `ChunkEnd` after each
evaluation, and the finished `Run`. `Options.callbacks` has those of a run; on the command line
`--callback` names them. The packages that loggers need are imported when they are used.
"""

from maven_jax.experiments.callbacks.by_name import make_callback, make_callbacks, register_callback
from maven_jax.experiments.callbacks.callback import (
    Callback,
    ChunkEnd,
    RunStart,
    lane_name,
    lane_values,
)
from maven_jax.experiments.callbacks.early_stopping import EarlyStopping
from maven_jax.experiments.callbacks.json_lines import JsonLines
from maven_jax.experiments.callbacks.tensorboard import TensorBoard
from maven_jax.experiments.callbacks.wandb import WandB

__all__ = [
    "Callback",
    "ChunkEnd",
    "EarlyStopping",
    "JsonLines",
    "RunStart",
    "TensorBoard",
    "WandB",
    "lane_name",
    "lane_values",
    "make_callback",
    "make_callbacks",
    "register_callback",
]
