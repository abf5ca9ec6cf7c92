"""What a run can go on from: its latest sound checkpoint, and the newest weights."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from maven_jax.errors import MavenJaxError, StorageError, first_line
from maven_jax.experiments.checkpoint import by_path, orbax_path, read_arrays, with_plain_keys
from maven_jax.experiments.files import CHECKSUMS, find_damage
from maven_jax.experiments.folder import ENDED, WEIGHTS, checkpoint_folders, describe_status
from maven_jax.experiments.metrics import MetricsPrefix, describe_mismatch, lanes_in_order
from maven_jax.experiments.run import Run
from maven_jax.experiments.sweep import Position
from maven_jax.experiments.weights import Weights, read_weights
from maven_jax.types import TrainState

T = TypeVar("T")
Progress = dict[str, Any]
"""What a checkpoint holds beside the state, as `CheckpointWriter.save` writes it."""


class Checkpoint(NamedTuple):
    """Where a run stood when it was saved."""

    position: Position
    num_chunks: int
    rows: MetricsPrefix
    """How much of `metrics.csv` there was."""
    info: dict[str, Any]
    """Those entries of `run.json` that training counts up."""


def load_checkpoint(
    path: Path,
    state_shapes: TrainState,
    num_lanes: int,
    say: Callable[[str], None],
    lanes: Mapping[str, Sequence[Any]] | None = None,
) -> Checkpoint | None:
    """The latest checkpoint that a run can go on from; those after it are named and set aside.

    Args:
        path: the run's folder.
        state_shapes: `ShapeDtypeStruct`s of the state; the number of lanes, which depends on the
            devices of the process that saved, is not read.
        num_lanes: lanes without padding.
        say: told of each checkpoint that is not used, in a line.
        lanes: those that it must be of, if that is to be checked.

    Raises:
        StorageError: a sound checkpoint is of another configuration or of other lanes, or none has
            the rows that `metrics.csv` has. Nothing is set aside then.
    """

    def restore(folder: Path, progress: Progress) -> Checkpoint:
        if lanes is not None:
            _check_lanes(path, lanes, folder, progress)
        return _restore(folder, progress, state_shapes, num_lanes)

    found, passed = _latest(path, restore, say)
    for folder, name in passed.items():
        _set_aside(folder, name)
    return found


def can_resume(path: Path, state_shapes: TrainState, lanes: Mapping[str, Sequence[Any]]) -> bool:
    """Whether there is a checkpoint that `load_checkpoint` goes on from; nothing is set aside.

    Args:
        path: the run's folder.
        state_shapes: `ShapeDtypeStruct`s of the state.
        lanes: those that it must be of.

    Raises:
        StorageError: as `load_checkpoint` does.
    """

    def restore(folder: Path, progress: Progress) -> Checkpoint:
        _check_lanes(path, lanes, folder, progress)
        return _restore(folder, progress, state_shapes, len(lanes["seed"]))

    return _latest(path, restore, lambda _: None)[0] is not None


def newest_weights(run: Run, say: Callable[[str], None]) -> dict[str, np.ndarray]:
    """The newest weights of every lane: those of its end, or of its last checkpoint.

    Nothing in the folder is changed; it may be one that is being trained.

    Args:
        run: the run, in whatever state.
        say: told in a line of weights that are no run's end, and of what is damaged.

    Returns:
        Arrays by names such as `params/agent/w`, with a leading axis of lanes.

    Raises:
        StorageError: there are none, or they are damaged.
    """
    has_ended = run.info["status"] in ENDED
    kept, damage = None, None
    if (run.path / WEIGHTS).exists():
        try:
            kept = read_weights(run.path)
            _check_weights(kept, run)
        except MavenJaxError as error:
            damage = error
    if kept is not None and has_ended:
        return kept.arrays
    if damage is not None:
        say(str(damage))
    saved, _ = _latest(run.path, partial(_restore_weights, run.num_lanes), say)
    newest = max(filter(None, (kept, saved)), key=lambda x: x.num_chunks, default=None)
    if newest is None and damage is not None:
        raise damage
    if newest is None:
        raise StorageError(
            f"run '{run.path}' has no weights"
            + ("" if has_ended else f" yet: it {describe_status(run.path, run.info)}")
        )
    if newest is saved or newest.num_chunks < run.num_evaluations:
        say(
            f"run '{run.path}' {describe_status(run.path, run.info)}; these are its weights after "
            f"{newest.num_chunks} of {run.num_evaluations} evaluations"
        )
    return newest.arrays


def _check_weights(weights: Weights, run: Run) -> None:
    for name, array in weights.arrays.items():
        if array.shape[:1] != (run.num_lanes,):
            raise StorageError(
                f"weights of run '{run.path}' are damaged: array '{name}' has shape "
                f"{array.shape}; expected one row for each of {run.num_lanes} lanes"
            )


def _latest(
    path: Path, restore: Callable[[Path, Progress], T], say: Callable[[str], None]
) -> tuple[T | None, dict[Path, str]]:
    """The latest usable checkpoint, and new names for the newer, unusable ones.

    Raises:
        StorageError: a sound one cannot be restored, or none has the rows that `metrics.csv` has.
    """
    passed: dict[Path, str] = {}
    other_rows = None
    for folder in checkpoint_folders(path):
        has_checksums = (folder / CHECKSUMS).is_file()
        damage = find_damage(folder) if has_checksums else None
        if damage is None:
            try:
                progress = _progress(folder)
                difference = describe_mismatch(path, MetricsPrefix(**progress["rows"]))
                if difference is None:
                    return restore(folder, progress), passed
                say(f"checkpoint '{folder}' is not used: {difference}")
                other_rows = other_rows or difference
                passed[folder] = f"unused-{folder.name}"
                continue
            except MavenJaxError:
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds
                damage = first_line(error)
                if has_checksums and folder.is_dir():  # it is as it was written
                    raise StorageError(
                        f"checkpoint '{folder}' does not fit its run's configuration: {damage}"
                    ) from None
        if not folder.is_dir():  # the process that trains has newer ones by now
            return _latest(path, restore, say)
        say(f"checkpoint '{folder}' is damaged and not used: {damage}")
        passed[folder] = f"damaged-{folder.name}"
    if other_rows is not None:
        raise StorageError(
            f"run '{path}' cannot be resumed: {other_rows}, so no checkpoint matches it; restore "
            "that file, or start a new run"
        )
    return None, passed


def _set_aside(folder: Path, name: str) -> None:
    aside = folder.with_name(name)
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{name}-{number}")
    folder.rename(aside)


def _progress(folder: Path) -> Progress:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader, orbax_path(folder) as source:
        return json.loads(reader.restore(source / "progress")["text"])


def _check_lanes(
    path: Path, lanes: Mapping[str, Sequence[Any]], folder: Path, progress: Progress
) -> None:
    """Raises unless the lanes are those of a checkpoint's rows, in order.

    Lanes that diverged before their first evaluation have no rows.
    """
    text = (path / "metrics.csv").read_bytes()[: progress["rows"]["length"]].decode()
    with_rows = lanes_in_order(text, lanes)
    diverged = {tuple(lane.get(n) for n in lanes) for lane in progress["info"].get("diverged", [])}
    without_rows = diverged - set(with_rows)
    expected = [lane for lane in zip(*lanes.values(), strict=True) if lane not in without_rows]
    if with_rows and with_rows != expected:
        raise StorageError(
            f"run '{path}' is damaged: run.json names other lanes than checkpoint '{folder}' is of"
        )


def _restore(
    folder: Path, progress: Progress, state_shapes: TrainState, num_lanes: int
) -> Checkpoint:
    saved = _saved_lanes(progress, num_lanes)
    shapes = jax.eval_shape(with_plain_keys, state_shapes)
    empty = jax.tree.map(lambda x: np.zeros((saved, *x.shape[1:]), x.dtype), shapes)
    wanted = by_path(empty)
    with ocp.StandardCheckpointer() as checkpointer, orbax_path(folder) as source:
        found = checkpointer.restore(source / "state", wanted)
    for path, leaf in wanted.items():
        if (found[path].shape, found[path].dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"{path} is {found[path].dtype}{list(found[path].shape)}; expected "
                f"{leaf.dtype}{list(leaf.shape)}"
            )
    leaves = [np.asarray(found[path])[:num_lanes] for path in wanted]
    state = jax.tree.unflatten(jax.tree.structure(empty), leaves)
    state = state._replace(key=jax.random.wrap_key_data(state.key))
    metrics = {name: np.array(values) for name, values in progress["metrics"].items()}
    return Checkpoint(
        position=Position(state, metrics),
        num_chunks=progress["num_chunks"],
        rows=MetricsPrefix(**progress["rows"]),
        info=progress["info"],
    )


def _restore_weights(num_lanes: int, folder: Path, progress: Progress) -> Weights:
    _saved_lanes(progress, num_lanes)
    arrays = read_arrays(folder / "state", ("params", "latent_params"))
    taken = {name: array[:num_lanes] for name, array in arrays.items()}
    return Weights(taken, progress["num_chunks"])


def _saved_lanes(progress: Progress, num_lanes: int) -> int:
    """How many lanes a checkpoint holds, padding included."""
    saved = progress["num_lanes"]
    if saved < num_lanes:
        raise ValueError(f"it holds {saved} lanes; expected {num_lanes}")
    return saved
