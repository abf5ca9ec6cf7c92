"""Checkpoints of a whole run, by Orbax: what it needs to go on as if it had never stopped.

A checkpoint holds the state of every lane (weights, targets, optimisers, replay, keys, counters)
and the metrics so far. It is written beside training, under another name until it is whole. Then
the checksums of its files are written into it, by which a reader tells a sound one from a damaged.
"""

import json
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from maven_jax.config import ConfigError, check, first_line
from maven_jax.processes import anywhere, by_writer, together
from maven_jax.results import replace_text
from maven_jax.sweep import Position
from maven_jax.types import TrainState

FOLDER, CHECKSUMS = "checkpoints", "checksums.json"


@dataclass(frozen=True)
class Checkpointing:
    """When the whole state is saved, and how often back it is kept."""

    minutes: float = 5.0
    """Minutes between checkpoints."""
    updates: int | None = None
    """Gradient steps of each lane between checkpoints, instead of minutes."""
    keep: int = 2
    """How many checkpoints are kept, the latest ones."""

    def validate(self) -> None:
        """Raises `ConfigError` for a value that cannot work."""
        check(self.minutes > 0, "checkpoint.minutes", self.minutes, "a positive number")
        check(
            self.updates is None or self.updates >= 1,
            "checkpoint.updates",
            self.updates,
            "a whole number from 1 on",
        )
        check(1 <= self.keep <= 1000, "checkpoint.keep", self.keep, "a whole number from 1 to 1000")


class Checkpoint(NamedTuple):
    """Where a run stood when it was saved."""

    position: Position
    num_chunks: int
    metrics_csv: str
    info: dict[str, Any]
    """Those entries of `run.json` that training counts up."""


class CheckpointWriter:
    """Saves checkpoints into a run's folder, beside training."""

    def __init__(
        self,
        path: Path,
        settings: Checkpointing,
        say: Callable[[str], None],
        num_updates: int = 0,
    ) -> None:
        """Nothing is written before the first `save`.

        Args:
            path: the run's folder.
            settings: when to save.
            say: told in a line of a checkpoint that could not be saved; training goes on.
            num_updates: the most gradient steps that a lane has taken so far.
        """
        self._folder = (path / FOLDER).absolute()
        self._settings, self._say = settings, say
        self._manager: ocp.CheckpointManager | None = None
        self._last_time, self._last_updates = time.perf_counter(), num_updates
        self._unsettled: int | None = None
        """The step that is being written."""

    def is_due(self, num_updates: int) -> bool:
        """Whether the interval since the last checkpoint is over."""
        if self._settings.updates is not None:
            return num_updates - self._last_updates >= self._settings.updates
        return time.perf_counter() - self._last_time >= 60 * self._settings.minutes

    def save(
        self,
        state: TrainState,
        metrics: dict[str, np.ndarray],
        num_chunks: int,
        num_updates: int,
        metrics_csv: str,
        info: dict[str, Any],
    ) -> None:
        """Copies the state to the host's memory and writes it in the background.

        Args:
            state: of every lane, padding included; it may be donated as soon as this returns.
            metrics: the last row of every lane.
            num_chunks: chunks run so far.
            num_updates: the most gradient steps that a lane has taken.
            metrics_csv: all rows so far.
            info: entries of `run.json` to go on from.
        """
        self._last_time, self._last_updates = time.perf_counter(), num_updates
        progress = {
            "num_chunks": num_chunks,
            "num_lanes": state.num_updates.shape[0],
            "metrics": {name: values.tolist() for name, values in metrics.items()},
            "metrics_csv": metrics_csv,
            "info": info,
        }
        self.settle()
        try:
            together(lambda: self._open().save(num_chunks, args=_arguments(state, progress)))
            self._unsettled = num_chunks
        except Exception as error:  # Orbax and TensorStore raise many kinds
            self._give_up(error)

    def settle(self) -> None:
        """Waits until the checkpoint that is being written is whole, and adds its checksums."""
        if self._unsettled is None:
            return
        step, self._unsettled = self._unsettled, None
        try:
            together(self._open().wait_until_finished)
            by_writer(lambda: _write_checksums(self._folder / str(step)))
        except Exception as error:
            self._give_up(error)

    def settle_if_written(self) -> None:
        """`settle`, unless a process would have to wait."""
        if not anywhere(self._manager is not None and self._manager.is_saving_in_progress()):
            self.settle()

    def close(self) -> None:
        """Waits for the last checkpoint and lets go of the folder."""
        self.settle()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._settings.keep, cleanup_tmp_directories=True
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        return self._manager

    def _give_up(self, error: Exception) -> None:
        """Says so, and begins anew with the next checkpoint; all processes come here together."""
        self._say(f"a checkpoint could not be saved in '{self._folder}': {first_line(error)}")
        manager, self._manager = self._manager, None
        if manager is not None:
            with suppress(Exception):  # what has been said already
                manager.close()


def _arguments(state: TrainState, progress: dict[str, Any]) -> ocp.args.Composite:
    return ocp.args.Composite(
        state=ocp.args.StandardSave(_by_path(_plain(state))),
        progress=ocp.args.JsonSave({"text": json.dumps(progress)}),
    )


def _plain(state: TrainState) -> TrainState:
    """A state whose keys are numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def _by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths in it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def load_checkpoint(
    path: Path, state_shapes: TrainState, num_lanes: int, say: Callable[[str], None]
) -> Checkpoint | None:
    """The latest sound checkpoint of a run; damaged ones after it are named and set aside.

    Args:
        path: the run's folder.
        state_shapes: `ShapeDtypeStruct`s of the state; the number of lanes, which depends on the
            devices of the process that saved, is not read.
        num_lanes: lanes without padding.
        say: told of each damaged checkpoint, in a line.

    Raises:
        ConfigError: a sound checkpoint is of another configuration, or cannot be read.
    """
    for folder in checkpoint_folders(path):
        has_checksums = (folder / CHECKSUMS).is_file()
        damage = _find_damage(folder) if has_checksums else None
        if damage is None:
            try:
                return _restore(folder, state_shapes, num_lanes)
            except Exception as error:  # Orbax and TensorStore raise many kinds
                damage = first_line(error)
                if has_checksums:  # it is as it was written: nothing that another could mend
                    raise ConfigError(
                        f"checkpoint '{folder}' does not fit its run's configuration: {damage}"
                    ) from None
        say(f"checkpoint '{folder}' is damaged and not used: {damage}")
        by_writer(partial(_set_aside, folder))
    return None


def _set_aside(folder: Path) -> None:
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def checkpoint_folders(path: Path) -> list[Path]:
    """The whole checkpoints of a run, the latest first."""
    folders = [p for p in (path / FOLDER).absolute().glob("*") if p.name.isdecimal()]
    return sorted(folders, key=lambda p: -int(p.name))


def remove_checkpoints(path: Path) -> None:
    """Removes the checkpoints of a run that needs them no more."""
    shutil.rmtree(path / FOLDER, ignore_errors=True)


def _restore(folder: Path, state_shapes: TrainState, num_lanes: int) -> Checkpoint:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        progress = json.loads(reader.restore(folder / "progress")["text"])
    saved = progress["num_lanes"]
    shapes = jax.eval_shape(_plain, state_shapes)
    empty = jax.tree.map(lambda x: np.zeros((saved, *x.shape[1:]), x.dtype), shapes)
    wanted = _by_path(empty)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder / "state", wanted)
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
        metrics_csv=progress["metrics_csv"],
        info=progress["info"],
    )


def _write_checksums(folder: Path) -> None:
    replace_text(folder / CHECKSUMS, json.dumps(_checksums(folder)))


def _checksums(folder: Path) -> dict[str, int]:
    """CRC-32 of every file under a folder, by its path there."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.match(f"*{CHECKSUMS}"))
    return {str(file.relative_to(folder)): _checksum(file) for file in files}


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _find_damage(folder: Path) -> str | None:
    """How a checkpoint's files differ from what was written; None where they do not."""
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())
    except ValueError as error:
        return f"{CHECKSUMS}: {error}"
    found = _checksums(folder)
    for name, checksum in wanted.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != checksum:
            return f"{name} is not as it was written"
    return None
