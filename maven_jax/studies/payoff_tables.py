"""The best that value decomposition can represent: least squares fits to a payoff table.

A table has one axis for each agent, along which its actions lie; the axes may differ in size.
Every fit minimises `sum(weights * (fit - payoff) ** 2)`. Weights are how often each joint action is
visited: all 1 (uniform) if None, and positive. A squared error is in squared units of payoff.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float
from numpy.typing import NDArray

MAX_ENTRIES = 16
MAX_ORDERINGS = 1_000

Table: TypeAlias = Sequence[Any] | ArrayLike
"""An array, or lists nested one level for each agent."""


def best_additive(payoff: Table, weights: Table | None = None) -> Float[np.ndarray, "..."]:
    """The nearest sum of utilities, one for each agent: what VDN converges to at best.

    Sunehag et al. 2018 (value decomposition networks). Raises `ValueError` for what is no table.
    """
    table, weight = _checked(payoff, weights)
    chosen = np.indices(table.shape).reshape(table.ndim, -1)
    one_hots = [np.eye(size)[own] for size, own in zip(table.shape, chosen, strict=True)]
    actions = np.concatenate(one_hots, axis=1)
    root = np.sqrt(weight.ravel())
    utilities = np.linalg.lstsq(root[:, None] * actions, root * table.ravel(), rcond=None)[0]
    return (actions @ utilities).reshape(table.shape)


def best_monotone(payoff: Table, weights: Table | None = None) -> Float[np.ndarray, "..."]:
    """The nearest table that does not decrease in any agent's utility, whatever the utilities.

    Each agent puts its own actions in one order (by utility, ties allowed) and the table must not
    decrease along any of the orders. For each choice of orders the fit is isotonic regression,
    exact by its min-max formula (Robertson, Wright and Dykstra 1988, theorem 1.4.4); the best of
    all orders is returned, the first of them in lexicographic order if several are as good.

    No monotonic mixer, QMIX's included, has a smaller error (Rashid et al. 2018). QMIX's own may
    not get as near: its one hidden layer of ELUs with weights of at least 0 makes Q_tot a sum of
    convex functions of weighted utilities, so that one agent's gain never shrinks when another
    agent's utility grows; a monotone table need not be so.

    The table has at most 16 entries, and its agents' actions at most 1,000 orders: two agents with
    4 actions, or four agents with 2. Raises `ValueError` for a larger one, and for what is no
    table.
    """
    table, weight = _checked(payoff, weights)
    num_orderings = math.prod(math.factorial(min(size, MAX_ENTRIES + 1)) for size in table.shape)
    if table.size > MAX_ENTRIES or num_orderings > MAX_ORDERINGS:
        raise ValueError(
            f"payoff must have at most {MAX_ENTRIES} entries and {MAX_ORDERINGS} orderings of its "
            f"agents' actions, got the shape {table.shape}"
        )
    mean = np.average(table, weights=weight)
    table = table - mean
    cells = np.arange(table.size).reshape(table.shape)
    orders = itertools.product(*(itertools.permutations(range(size)) for size in table.shape))
    ordered = np.stack([cells[np.ix_(*order)].ravel() for order in orders])
    values, weight = table.ravel()[ordered], weight.ravel()[ordered]
    fits = _isotonic(values, weight, _upper_sets(table.shape))
    errors = (weight * (fits - values) ** 2).sum(axis=1)
    tolerance = 1e-12 * (weight[0] * values[0] ** 2).sum()
    best = np.flatnonzero(errors <= errors.min() + tolerance)[0]
    fit = np.empty(table.size)
    fit[ordered[best]] = mean + fits[best]
    return fit.reshape(table.shape)


def _isotonic(
    values: Float[np.ndarray, "P K"],
    weight: Float[np.ndarray, "P K"],
    upper_sets: Bool[np.ndarray, "M K"],
) -> Float[np.ndarray, "P K"]:
    """Isotonic regression of P tables of K entries under one partial order.

    An entry's fit is the max over upper sets U that hold it of the min over lower sets L that hold
    it of the weighted mean over U and L's common entries.
    """
    lower_sets = ~upper_sets
    num_sets, size = upper_sets.shape
    common = (upper_sets[:, None] & lower_sets).reshape(-1, size).astype(np.float64)
    mass = common @ weight.T
    means = common @ (weight * values).T / np.where(mass > 0, mass, 1.0)
    means = means.reshape(num_sets, num_sets, -1)
    holding = (np.ix_(upper_sets[:, k], lower_sets[:, k]) for k in range(size))
    return np.stack([means[pairs].min(axis=1).max(axis=0) for pairs in holding], axis=1)


@functools.cache
def _upper_sets(shape: tuple[int, ...]) -> Bool[np.ndarray, "M K"]:
    """The sets of entries that hold, with an entry, all entries at higher or equal indices."""
    size = math.prod(shape)
    sets = (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(bool)
    for axis in range(len(shape)):
        tables = np.moveaxis(sets.reshape(-1, *shape), axis + 1, 1)
        closed = tables[:, :-1] <= tables[:, 1:]
        sets = sets[closed.reshape(len(sets), -1).all(axis=1)]
    return sets


def _checked(
    payoff: Table, weights: Table | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = _numbers("payoff", payoff)
    shape = table.shape
    if table.ndim == 0 or table.size == 0:
        raise ValueError(f"payoff must have an axis for each agent, got the shape {shape}")
    weight = np.ones(shape) if weights is None else _numbers("weights", weights)
    if weight.shape != shape:
        raise ValueError(
            f"weights must have the shape of payoff, {shape}, got the shape {weight.shape}"
        )
    if not (weight > 0).all():
        raise ValueError(f"weights must be positive, got {weight.min():g}")
    return table, weight


def _numbers(name: str, values: Table) -> NDArray[np.float64]:
    try:
        table = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a table of numbers, got {values!r}") from None
    if not np.isfinite(table).all():
        bad = table[~np.isfinite(table)][0]
        raise ValueError(f"{name} must hold finite numbers, got {bad:g}")
    return table
