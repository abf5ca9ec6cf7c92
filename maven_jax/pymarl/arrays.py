"""State dicts read and written as tables of rows say, every shape checked."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from maven_jax.errors import ConfigError
from maven_jax.pymarl.names import Row
from maven_jax.types import NetworkParams

Arrays = Mapping[str, np.ndarray]
"""A state dict."""

NO_ARRAYS: Arrays = MappingProxyType({})


class WeightsError(ConfigError):
    """An array, by its name, that is missing, misshapen or without a counterpart."""


def read_rows(arrays: Arrays, rows: list[Row], ignored: Iterable[str] = ()) -> dict[str, Any]:
    """Parameters from a state dict.

    Raises:
        WeightsError: an array is missing, misshapen or, unless ignored, without a row.
    """
    sizes = {"1": 1}
    stacks: dict[str, list[np.ndarray]] = {}
    for row in rows:
        if row.theirs not in arrays:
            raise WeightsError(f"array {row.theirs!r} is missing")
        array = np.asarray(arrays[row.theirs])
        if array.ndim == len(row.shape):
            _learn_sizes(sizes, row.shape, array.shape)
        expected = tuple(sizes.get(name) for name in row.shape)
        if array.shape != expected:
            raise misshapen(row.theirs, array.shape, expected)
        stacks.setdefault(row.ours, []).append(array)
    refuse_others(arrays, {*(row.theirs for row in rows), *ignored})
    flat = {
        ours: jnp.asarray(np.concatenate(stack).T, jnp.float32) for ours, stack in stacks.items()
    }
    return {"params": unflatten_dict(flat, sep="/")}


def write_rows(params: NetworkParams, rows: list[Row]) -> dict[str, Any]:
    """Views of the parameters as the rows say, in the rows' order."""
    flat = flatten_dict(params["params"], sep="/") if params else {}
    for path in sorted(flat.keys() - {row.ours for row in rows}):
        raise WeightsError(f"layer {path!r} has no counterpart in the published code")
    stacks: dict[str, list[Row]] = {}
    for row in rows:
        if row.ours not in flat:
            raise WeightsError(f"layer {row.ours!r} is missing")
        if flat[row.ours].ndim != len(row.shape):
            raise WeightsError(
                f"layer {row.ours!r} has shape {flat[row.ours].shape}; "
                f"expected {len(row.shape)} axes, those of one seed"
            )
        stacks.setdefault(row.ours, []).append(row)
    sizes: dict[str, int] = {}
    for path, stack in stacks.items():
        if len(stack) == 1:
            _learn_sizes(sizes, stack[0].shape, flat[path].shape[::-1])
    arrays = {}
    for path, (first, *others) in stacks.items():
        # The first of stacked arrays has the rows that the others leave: no layer tells its size.
        array = flat[path].T
        start = array.shape[0] - sum(sizes[row.shape[0]] for row in others)
        arrays[first.theirs] = array[:start]
        for row in others:
            end = start + sizes[row.shape[0]]
            arrays[row.theirs] = array[start:end]
            start = end
    return {row.theirs: arrays[row.theirs] for row in rows}


def _learn_sizes(sizes: dict[str, int], names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Adds the sizes that an array tells; inputs first, so that `H` is known before `3H`."""
    for name, size in zip(names[::-1], shape[::-1], strict=True):
        sizes.setdefault(name, size)
        sizes.setdefault(f"3{name}", 3 * size)


def misshapen(
    name: str, found: tuple[int, ...], expected: tuple[int | None, ...], prefix: str = ""
) -> WeightsError:
    """The error for an array of another shape than was expected."""
    wanted = str(expected).replace("None", "any")
    return WeightsError(f"{prefix}array {name!r} has shape {found}; expected {wanted}")


def refuse_others(arrays: Arrays, known: set[str], prefix: str = "") -> None:
    """Raises `WeightsError` for the first array that is not known."""
    for name in arrays:
        if name not in known:
            raise WeightsError(f"{prefix}array {name!r} has no counterpart here")
