"""Trees of arrays as files of NumPy's `.npz` format, which has a checksum of every array.

An array's name is its path in the tree, such as `params/agent/rnn/kernel`.
"""

import errno
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from maven_jax.errors import ConfigError
from maven_jax.experiments.files import DRAFT, replace_file

T = TypeVar("T")


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree, in the host's memory, by their names."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Writes an archive; one that is there stays until the new one is on the disk.

    Raises:
        OSError: it cannot be written.
    """
    for left in file.parent.glob(f"{DRAFT}*"):  # by a process that was killed
        left.unlink(missing_ok=True)
    replace_file(file, lambda stream: np.savez(stream, **arrays))


def read_arrays(file: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, np.ndarray]:
    """The arrays of an archive; nothing in it is executed.

    Args:
        file: the archive.
        prefixes: how the names of the arrays to read begin; by default all are read.

    Raises:
        Exception: the file is missing or damaged; NumPy and zipfile raise many kinds.
    """
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith(prefixes)}


def is_damaged(file: Path, error: Exception) -> bool:
    """Whether an archive that `read_arrays` could not read is damaged.

    Else it is out of reach for now: memory is short, or the file system refuses.
    """
    if not isinstance(error, OSError | MemoryError):
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is not None
    except OSError as refused:
        return refused.errno == errno.EINVAL  # an offset before the file's beginning
    except Exception:  # zipfile raises many kinds
        return True


def fit_arrays(arrays: Mapping[str, np.ndarray], shapes: T, what: str, *, cast: bool = False) -> T:
    """Arrays as a tree of the expected shapes and dtypes.

    Args:
        arrays: by their names.
        shapes: a tree of arrays or `ShapeDtypeStruct`s.
        what: the beginning of the error, such as "these weights do not fit".
        cast: accept other dtypes, and convert them.

    Raises:
        ConfigError: names the first array that is missing, misshapen or not expected.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    expected = {_name(path): leaf for path, leaf in leaves}
    fitting = []
    for name, leaf in expected.items():
        if 0 in leaf.shape and name not in arrays:  # converted weights have none of no elements
            fitting.append(np.zeros(leaf.shape, leaf.dtype))
            continue
        if name not in arrays:
            raise ConfigError(f"{what}: array '{name}' is missing; expected shape {leaf.shape}")
        if arrays[name].shape != leaf.shape:
            raise ConfigError(
                f"{what}: array '{name}' has shape {arrays[name].shape}; expected {leaf.shape}"
            )
        array = arrays[name]
        if array.dtype.kind == "V":  # as NumPy reads dtypes that are not its own, such as bfloat16
            array = array.view(leaf.dtype)
        if array.dtype != leaf.dtype and not cast:
            raise ConfigError(f"{what}: array '{name}' is {array.dtype}; expected {leaf.dtype}")
        fitting.append(array.astype(leaf.dtype))
    for name, array in arrays.items():
        if name not in expected:
            raise ConfigError(f"{what}: array '{name}' of shape {array.shape} is not expected")
    return jax.tree.unflatten(tree, fitting)


def _name(path: Any) -> str:
    """The words of a path in a tree, whatever holds them: a dictionary, or a NamedTuple."""
    return "/".join(re.findall(r"\w+", jax.tree_util.keystr(path)))
