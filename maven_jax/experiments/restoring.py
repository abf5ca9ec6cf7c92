"""What a run can resume from: its latest sound checkpoint, and its newest weights."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from maven_jax.errors import ConfigError, MavenJaxError, StorageError, first_line
from maven_jax.experiments.array_files import fit_arrays, is_damaged, read_arrays
from maven_jax.experiments.checkpoint import Progress, with_plain_keys
from maven_jax.experiments.files import free_name
from maven_jax.experiments.folder import WEIGHTS, checkpoint_files, describe_status
from maven_jax.experiments.metrics import MetricsPrefix, describe_mismatch
from maven_jax.experiments.run import Run
from maven_jax.experiments.sweep import Position
from maven_jax.experiments.weights import Weights, read_weights
from maven_jax.types import TrainState

WEIGHTS_ALONE = ("state/params/", "state/latent_params/", "progress")
"""How the names of what is read of a checkpoint begin where its weights are enough."""


class Checkpoint(NamedTuple):
    """What a run resumes from."""

    position: Position
    progress: Progress


class _Saved(NamedTuple):
    """A sound checkpoint that matches its run's metrics."""

    file: Path
    progress: Progress
    arrays: dict[str, np.ndarray]
    """Of the state, by names such as `params/agent/rnn/kernel`."""


def load_checkpoint(
    path: Path,
    state_shapes: TrainState,
    lanes: Mapping[str, Sequence[Any]],
    say: Callable[[str], None],
) -> Checkpoint | None:
    """The latest checkpoint that a run can resume from; newer ones are renamed.

    Args:
        path: the run's folder.
        state_shapes: `ShapeDtypeStruct`s of the state, padding included or not.
        lanes: those of `run.json`.
        say: prints a line for each newer checkpoint.

    Raises:
        StorageError: a sound checkpoint is of another configuration or of other lanes, cannot be
            read, or none has the rows that `metrics.csv` has. Nothing is renamed then.
    """
    saved, passed = _latest(path, lanes, say)
    checkpoint = _restore(saved, state_shapes) if saved else None
    for file, name in passed.items():
        file.rename(free_name(file, f"{name}-{file.name}"))
    return checkpoint


def can_resume(path: Path, lanes: Mapping[str, Sequence[Any]]) -> bool:
    """Whether `load_checkpoint` finds one; nothing is renamed."""
    return _latest(path, lanes, lambda _: None)[0] is not None


def _restore(saved: _Saved, state_shapes: TrainState) -> Checkpoint:
    file, progress, arrays = saved
    number = len(progress.lanes["seed"])
    plain = jax.eval_shape(with_plain_keys, state_shapes)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((number, *x.shape[1:]), x.dtype), plain)
    try:
        what = f"checkpoint '{file}' does not fit its run's configuration"
        state = fit_arrays(arrays, shapes, what)
    except ConfigError as error:
        raise StorageError(str(error)) from None
    state = state._replace(key=jax.random.wrap_key_data(state.key))
    metrics = {name: np.array(values) for name, values in progress.metrics.items()}
    return Checkpoint(Position(state, metrics), progress)


def _latest(
    path: Path,
    lanes: Mapping[str, Sequence[Any]],
    say: Callable[[str], None],
    prefixes: tuple[str, ...] = ("",),
) -> tuple[_Saved | None, dict[Path, str]]:
    """The latest usable checkpoint; and newer ones, `damaged` or `unused`.

    Raises:
        StorageError: a sound one is of other lanes or cannot be read, or none has the rows that
            `metrics.csv` has.
    """
    passed: dict[Path, str] = {}
    other_rows = None
    for file in checkpoint_files(path):
        try:
            arrays = read_arrays(file, prefixes)
            plain = json.loads(str(arrays.pop("progress")))
            progress = Progress(**plain | {"rows": MetricsPrefix(**plain["rows"])})
        except FileNotFoundError:  # the process that trains has newer ones by now
            return _latest(path, lanes, say, prefixes)
        except Exception as error:  # NumPy and zipfile raise many kinds
            if not is_damaged(file, error):
                reason = first_line(error)
                raise StorageError(f"checkpoint '{file}' cannot be read: {reason}") from None
            say(f"checkpoint '{file}' is damaged and not used: {first_line(error)}")
            passed[file] = "damaged"
            continue
        difference = describe_mismatch(path, progress.rows)
        if difference is None and progress.lanes != lanes:
            raise StorageError(
                f"run '{path}' is damaged: the lanes in run.json differ from those in checkpoint "
                f"'{file}'"
            )
        if difference is None:
            named = {name.removeprefix("state/"): array for name, array in arrays.items()}
            return _Saved(file, progress, named), passed
        say(f"checkpoint '{file}' is not used: {difference}")
        other_rows = other_rows or difference
        passed[file] = "unused"
    if other_rows is not None:
        raise StorageError(
            f"run '{path}' cannot be resumed: {other_rows}, so no checkpoint matches it; restore "
            "that file, or start a new run"
        )
    return None, passed


def newest_weights(run: Run, say: Callable[[str], None]) -> dict[str, np.ndarray]:
    """The newest weights of every lane: those of its end, or of its last checkpoint.

    Nothing in the folder is changed; it may be one that is being trained.

    Returns:
        Arrays by names such as `params/agent/w`, with a leading axis of lanes.

    Raises:
        StorageError: there are none, or they are damaged.
    """
    newest, damage = None, None
    try:
        newest = _weights_of_last_stop(run)
    except MavenJaxError as error:
        damage = error
        say(str(error))
    if newest is not None and run.has_ended:
        return newest.arrays
    saved, _ = _latest(run.path, run.lanes, say, WEIGHTS_ALONE)
    is_from_checkpoint = saved is not None and (
        newest is None or saved.progress.num_chunks > newest.num_chunks
    )
    if saved is not None and is_from_checkpoint:
        newest = Weights(saved.arrays, saved.progress.num_chunks)
    if newest is None and damage is not None:
        raise damage
    status = describe_status(run.path, run.info)
    if newest is None:
        yet = "" if run.has_ended else f" yet: it {status}"
        raise StorageError(f"run '{run.path}' has no weights{yet}")
    if is_from_checkpoint or newest.num_chunks < run.num_evaluations:
        say(
            f"run '{run.path}' {status}; these are its weights after "
            f"{newest.num_chunks} of {run.num_evaluations} evaluations"
        )
    return newest.arrays


def _weights_of_last_stop(run: Run) -> Weights | None:
    """What `weights.npz` holds, a row for each lane; None where there is none."""
    if not (run.path / WEIGHTS).exists():
        return None
    weights = read_weights(run.path)
    for name, array in weights.arrays.items():
        if array.shape[:1] != (run.num_lanes,):
            raise StorageError(
                f"weights of run '{run.path}' are damaged: array '{name}' has shape "
                f"{array.shape}; expected one row for each of {run.num_lanes} lanes"
            )
    return weights
