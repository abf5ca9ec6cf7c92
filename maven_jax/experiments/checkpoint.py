"""Checkpoints of a whole run, by Orbax: what it needs to go on as if it had never stopped.

A checkpoint holds the state of every lane (weights, targets, optimisers, replay, keys, counters)
and how much of `metrics.csv` there was. It is written beside training, under another name until it
is whole. Then it is synchronised with the disk, and the checksums of its files are written into it,
by which a reader tells a sound one from a damaged: Orbax restores arrays with a changed byte
without noticing. Only then are older ones removed.
"""

import glob
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from maven_jax.errors import check, first_line
from maven_jax.experiments.files import remove_folder, write_checksums
from maven_jax.experiments.folder import CHECKPOINTS, checkpoint_folders
from maven_jax.experiments.metrics import MetricsPrefix
from maven_jax.experiments.weights import name_of
from maven_jax.types import TrainState


@dataclass(frozen=True)
class Checkpointing:
    """When checkpoints are written, and how many are kept."""

    minutes: float = 5.0
    """Minutes between checkpoints."""
    updates: int | None = None
    """Gradient steps of each seed between checkpoints, instead of minutes."""
    keep: int = 2
    """Number of latest checkpoints to keep."""
    keep_final: bool = False
    """Keep the checkpoints of a finished run, so that it can be extended."""

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
        self._folder = (path / CHECKPOINTS).absolute()
        self._settings, self._say = settings, say
        self._manager: ocp.CheckpointManager | None = None
        self._paths = ExitStack()
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
        rows: MetricsPrefix,
        info: dict[str, Any],
    ) -> None:
        """Copies the state to the host's memory and writes it in the background.

        Args:
            state: of every lane, padding included; it may be donated as soon as this returns.
            metrics: the last row of every lane.
            num_chunks: chunks run so far.
            num_updates: the most gradient steps that a lane has taken.
            rows: all so far, on the disk.
            info: entries of `run.json` to go on from.
        """
        self._last_time, self._last_updates = time.perf_counter(), num_updates
        progress = {
            "num_chunks": num_chunks,
            "num_lanes": state.num_updates.shape[0],
            "metrics": {name: values.tolist() for name, values in metrics.items()},
            "rows": rows._asdict(),
            "info": info,
        }
        self.settle()
        try:
            self._open().save(num_chunks, args=_arguments(state, progress))
            self._unsettled = num_chunks
        except Exception as error:  # Orbax and TensorStore raise many kinds
            self._give_up(error)

    def settle(self) -> None:
        """Waits until the checkpoint that is being written is whole and on the disk.

        It is then given its checksums, and those that are kept no more are removed.
        """
        if self._unsettled is None:
            return
        step, self._unsettled = self._unsettled, None
        try:
            self._open().wait_until_finished()
            self._seal(self._folder / str(step))
        except Exception as error:
            self._give_up(error)

    def _seal(self, folder: Path) -> None:
        write_checksums(folder)
        for old in checkpoint_folders(self._folder.parent)[self._settings.keep :]:
            remove_folder(old)

    def settle_if_written(self) -> None:
        """`settle`, unless that would have to wait."""
        if self._manager is None or not self._manager.is_saving_in_progress():
            self.settle()

    def close(self) -> None:
        """Waits for the last checkpoint and lets go of the folder."""
        self.settle()
        if self._manager is not None:
            self._manager.close()
            self._manager = None
        self._paths.close()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True)
            parent = self._paths.enter_context(orbax_path(self._folder.parent))
            self._manager = ocp.CheckpointManager(parent / CHECKPOINTS, options=options)
        return self._manager

    def _give_up(self, error: Exception) -> None:
        """Says so, and begins anew with the next checkpoint."""
        self._say(f"a checkpoint could not be saved in '{self._folder}': {first_line(error)}")
        manager, self._manager = self._manager, None
        if manager is not None:
            with suppress(Exception):  # what has been said already
                manager.close()
        self._paths.close()


def _arguments(state: TrainState, progress: dict[str, Any]) -> ocp.args.Composite:
    return ocp.args.Composite(
        state=ocp.args.StandardSave(by_path(with_plain_keys(state))),
        progress=ocp.args.JsonSave({"text": json.dumps(progress)}),
    )


def with_plain_keys(state: TrainState) -> TrainState:
    """A state whose keys are numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths in it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def remove_checkpoints(path: Path) -> None:
    """Removes the checkpoints of a run that needs them no more."""
    remove_folder(path / CHECKPOINTS)


@contextmanager
def orbax_path(path: Path) -> Iterator[Path]:
    """The folder, by a link where Orbax would take its name for a pattern: it holds `[`."""
    whole = path.absolute()
    if glob.escape(str(whole)) == str(whole) and "\\" not in str(whole):
        yield whole
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(whole)
        yield link


def read_arrays(folder: Path, roots: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays that Orbax has written, in the host's memory, by names such as `params/agent/w`.

    Args:
        folder: where they are.
        roots: the first parts of the names that are wanted; the rest costs no memory.
    """
    with closing(ocp.PyTreeCheckpointHandler()) as handler, orbax_path(folder) as source:
        tree = handler.metadata(source).tree
    tree = {name: leaf for name, leaf in tree.items() if name_of(name).split("/")[0] in roots}
    wanted = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)
    as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    with ocp.PyTreeCheckpointer() as checkpointer, orbax_path(folder) as source:
        arguments = ocp.args.PyTreeRestore(wanted, as_arrays, partial_restore=True)
        found = checkpointer.restore(source, args=arguments)
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {name_of(jax.tree_util.keystr(path)): np.asarray(leaf) for path, leaf in leaves}
