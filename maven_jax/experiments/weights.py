"""Weights of every lane in a run's folder."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from maven_jax.config import Config
from maven_jax.errors import StorageError, check, first_line
from maven_jax.experiments.array_files import fit_arrays, named_arrays, read_arrays, write_arrays
from maven_jax.experiments.folder import INITIAL_WEIGHTS, WEIGHTS
from maven_jax.training.train import Trainer
from maven_jax.types import NetworkParams, Params
from maven_jax.validation.files import AnyPath


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
    arrays = named_arrays({"params": params, "latent_params": latent_params})
    try:
        write_arrays(Path(path) / WEIGHTS, arrays | {"num_chunks": np.array(num_chunks)})
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
        arrays = read_arrays(file)
        return Weights(arrays, int(arrays.pop("num_chunks")))
    except Exception as error:  # NumPy and zipfile raise many kinds
        reason = first_line(error, 200)
        raise StorageError(f"weights of run '{path}' are damaged: {reason}") from None


def read_initial_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights that a run started from, by their names; a leading axis of lanes.

    Raises:
        StorageError: they are missing or damaged.
    """
    try:
        return read_arrays(path / INITIAL_WEIGHTS)
    except Exception as error:  # NumPy and zipfile raise many kinds
        missing = isinstance(error, FileNotFoundError)
        reason = " is missing" if missing else f": {first_line(error, 200)}"
        raise StorageError(f"run '{path}' is damaged: {INITIAL_WEIGHTS}{reason}") from None


def fit_lanes(
    arrays: Mapping[str, np.ndarray], trainer: Trainer, config: Config, num_lanes: int, what: str
) -> tuple[Params, NetworkParams]:
    """Arrays as weights and those of the latent policy, by `fit_arrays`.

    Raises:
        ConfigError: they do not fit.
    """
    fresh = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    one = {"params": fresh.params, "latent_params": fresh.latent_params}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_lanes, *x.shape), x.dtype), one)
    whole = fit_arrays(arrays, shapes, what, cast=True)
    return whole["params"], whole["latent_params"]


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
