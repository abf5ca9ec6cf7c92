"""Weights of every lane on disk, by Orbax."""

import glob
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from maven_jax.config import Config
from maven_jax.errors import ConfigError, StorageError, check, first_line
from maven_jax.experiments.files import (
    CHECKSUMS,
    find_damage,
    replace_folder,
    replace_text,
    replaced,
    write_checksums,
)
from maven_jax.experiments.folder import INITIAL_WEIGHTS, WEIGHTS
from maven_jax.training.train import Trainer
from maven_jax.types import NetworkParams, Params
from maven_jax.validation.files import AnyPath


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


def save_weights(
    path: AnyPath, params: Params, latent_params: NetworkParams, num_chunks: int
) -> None:
    """Writes the weights of every lane, by Orbax; any that are there stay until these are whole.

    Args:
        path: the run's folder.
        params: weights, with a leading axis of lanes.
        latent_params: the same for the latent policy.
        num_chunks: evaluations before they were saved.

    Raises:
        StorageError: they cannot be written.
    """
    path = Path(path)
    draft = path / f".{WEIGHTS}"
    weights = {"params": params, "latent_params": latent_params}
    try:
        for left in path.glob(f"{draft.name}*"):  # by a process that was killed here
            if not left.name.endswith(".old"):
                shutil.rmtree(left, ignore_errors=True)
        with ocp.StandardCheckpointer() as checkpointer, orbax_path(path) as folder:
            checkpointer.save(folder / draft.name, weights, force=True)
            checkpointer.wait_until_finished()
        replace_text(draft / "progress.json", json.dumps({"num_chunks": num_chunks}))
        write_checksums(draft)
        replace_folder(draft, path / WEIGHTS)
    except Exception as error:  # Orbax and TensorStore raise many kinds, for a full disk too
        raise StorageError(f"weights cannot be written in '{path}': {first_line(error)}") from None


class Weights(NamedTuple):
    """Weights as they are on disk."""

    arrays: dict[str, np.ndarray]
    """By names such as `params/agent/rnn/kernel`; a leading axis of lanes."""
    num_chunks: int | None
    """Evaluations before they were saved; None where that is not known."""


def read_weights(path: AnyPath) -> Weights:
    """Reads the weights of a run's folder, whatever their shapes.

    Raises:
        StorageError: they are missing or damaged.
    """
    path = Path(path)
    folder = (path / WEIGHTS).absolute()
    if not folder.is_dir():
        folder = replaced(folder)
    if not folder.is_dir():
        raise StorageError(f"run '{path}' has no weights")
    try:
        damage = find_damage(folder) if (folder / CHECKSUMS).is_file() else None
        if damage is not None:
            raise ValueError(damage)
        progress = folder / "progress.json"
        number = json.loads(progress.read_text())["num_chunks"] if progress.is_file() else None
        return Weights(read_arrays(folder), number)
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        reason = first_line(error, 200)
        raise StorageError(f"weights of run '{path}' are damaged: {reason}") from None


def read_initial_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights that a run started from, by their names; a leading axis of lanes.

    Raises:
        StorageError: they are missing or damaged.
    """
    try:
        with np.load(path / INITIAL_WEIGHTS, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise StorageError(f"run '{path}' is damaged: {INITIAL_WEIGHTS} is missing") from None
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise StorageError(
            f"run '{path}' is damaged: {INITIAL_WEIGHTS}: {first_line(error, 200)}"
        ) from None


def read_arrays(folder: Path, roots: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Arrays that Orbax has written, in the host's memory, by names such as `params/agent/w`.

    Args:
        folder: where they are.
        roots: the first parts of the names that are wanted; by default all.
    """
    with closing(ocp.PyTreeCheckpointHandler()) as handler, orbax_path(folder) as source:
        tree = handler.metadata(source).tree
    if roots:  # what is not wanted costs no memory
        tree = {name: leaf for name, leaf in tree.items() if name_of(name).split("/")[0] in roots}
    wanted = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)
    as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    with ocp.PyTreeCheckpointer() as checkpointer, orbax_path(folder) as source:
        arguments = ocp.args.PyTreeRestore(wanted, as_arrays, partial_restore=True)
        found = checkpointer.restore(source, args=arguments)
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {name_of(jax.tree_util.keystr(path)): np.asarray(leaf) for path, leaf in leaves}


def name_of(path: str) -> str:
    """The words of a path in a tree, whatever holds them: a dictionary, or a NamedTuple."""
    return "/".join(re.findall(r"\w+", path))


def fit_weights(
    arrays: Mapping[str, np.ndarray], params: Params, latent_params: NetworkParams, what: str
) -> tuple[Params, NetworkParams]:
    """Weights as trees of the expected shapes.

    Args:
        arrays: by their names.
        params: arrays or `ShapeDtypeStruct`s of the expected shapes, a leading axis of lanes.
        latent_params: the same for the latent policy.
        what: the beginning of a complaint, such as "these weights do not fit".

    Raises:
        ConfigError: names the first array that is missing, of another shape or not expected.
    """
    expected = {"params": params, "latent_params": latent_params}
    leaves, tree = jax.tree_util.tree_flatten_with_path(expected)
    named = {name_of(jax.tree_util.keystr(path)): leaf for path, leaf in leaves}
    fitting = []
    for name, leaf in named.items():
        if 0 in leaf.shape and name not in arrays:  # arrays of no elements are not saved
            fitting.append(np.zeros(leaf.shape, leaf.dtype))
            continue
        if name not in arrays:
            raise ConfigError(f"{what}: array '{name}' is missing; expected shape {leaf.shape}")
        if arrays[name].shape != leaf.shape:
            raise ConfigError(
                f"{what}: array '{name}' has shape {arrays[name].shape}; expected {leaf.shape}"
            )
        fitting.append(arrays[name].astype(leaf.dtype))
    for name, array in arrays.items():
        if name not in named:
            raise ConfigError(f"{what}: array '{name}' of shape {array.shape} is not expected")
    whole = jax.tree.unflatten(tree, fitting)
    return whole["params"], whole["latent_params"]


def fit_lanes(
    arrays: Mapping[str, np.ndarray], trainer: Trainer, config: Config, num_lanes: int, what: str
) -> tuple[Params, NetworkParams]:
    """`fit_weights` to the shapes of a configuration's networks, of so many lanes."""
    fresh = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    params, latent_params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((num_lanes, *x.shape), x.dtype),
        (fresh.params, fresh.latent_params),
    )
    return fit_weights(arrays, params, latent_params, what)


def checksum_of_arrays(arrays: Mapping[str, np.ndarray]) -> int:
    """Tells weights apart, whatever folder they are in."""
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), checksum)
    return checksum


def refuse_normalized(config: Config, whose: str = "") -> None:
    """Refuses normalised targets on either side of weights that go from one run to another.

    Raises:
        ConfigError: `config.training.normalize_targets` is set.
    """
    check(
        not config.training.normalize_targets,
        f"{whose}training.normalize_targets",
        True,
        "false with --init-from, since weights of normalised targets have units of their own",
    )
