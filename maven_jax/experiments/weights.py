"""Weights of every lane on disk, in a file of NumPy's format that is replaced as a whole."""

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from maven_jax.config import Config
from maven_jax.errors import ConfigError, StorageError, check, first_line
from maven_jax.experiments.files import DRAFT, replace_file
from maven_jax.experiments.folder import INITIAL_WEIGHTS, WEIGHTS
from maven_jax.training.train import Trainer
from maven_jax.types import NetworkParams, Params
from maven_jax.validation.files import AnyPath

NUM_CHUNKS = "num_chunks"
"""The entry of the file that is no array of weights: evaluations before they were saved."""


def save_weights(
    path: AnyPath, params: Params, latent_params: NetworkParams, num_chunks: int
) -> None:
    """Writes the weights of every lane; any that are there stay until these are whole.

    Args:
        path: the run's folder.
        params: weights, with a leading axis of lanes.
        latent_params: the same for the latent policy.
        num_chunks: evaluations before they were saved.

    Raises:
        StorageError: they cannot be written.
    """
    weights = {"params": params, "latent_params": latent_params}
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    arrays = {name_of(jax.tree_util.keystr(path)): np.asarray(leaf) for path, leaf in leaves}
    file = Path(path) / WEIGHTS
    for left in file.parent.glob(f"{DRAFT}*"):  # by a process that was killed
        left.unlink(missing_ok=True)
    try:
        # NumPy's stub takes every name for its own option `allow_pickle`
        replace_file(file, lambda stream: np.savez(stream, num_chunks=num_chunks, **arrays))  # type: ignore[arg-type]
    except OSError as error:
        raise StorageError(f"weights cannot be written in '{path}': {error.strerror}") from None


class Weights(NamedTuple):
    """Weights as they are on disk."""

    arrays: dict[str, np.ndarray]
    """By names such as `params/agent/rnn/kernel`; a leading axis of lanes."""
    num_chunks: int
    """Evaluations before they were saved."""


def read_weights(path: AnyPath) -> Weights:
    """Reads the weights of a run's folder, whatever their shapes.

    Raises:
        StorageError: they are missing or damaged.
    """
    file = Path(path) / WEIGHTS
    if not file.is_file():
        raise StorageError(f"run '{path}' has no weights")
    try:
        arrays = _read_arrays(file)
        return Weights(arrays, int(arrays.pop(NUM_CHUNKS)))
    except Exception as error:  # NumPy and zipfile raise many kinds
        reason = first_line(error, 200)
        raise StorageError(f"weights of run '{path}' are damaged: {reason}") from None


def read_initial_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights that a run started from, by their names; a leading axis of lanes.

    Raises:
        StorageError: they are missing or damaged.
    """
    try:
        return _read_arrays(path / INITIAL_WEIGHTS)
    except FileNotFoundError:
        raise StorageError(f"run '{path}' is damaged: {INITIAL_WEIGHTS} is missing") from None
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise StorageError(
            f"run '{path}' is damaged: {INITIAL_WEIGHTS}: {first_line(error, 200)}"
        ) from None


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive, each of which has a checksum there."""
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return dict(arrays)


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
    for name in sorted(name for name, array in arrays.items() if array.size):
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
