"""The best that value decomposition can represent: least squares fits to a payoff table.

A table has one axis for each agent, along which its actions lie; the axes may differ in size. All
joint actions count alike (uniform behaviour). A squared error is in squared units of payoff.
"""

import functools
import itertools
import math

import numpy as np
from jaxtyping import Bool, Float

MAX_ENTRIES = 16
MAX_ORDERINGS = 1_000


def best_additive(payoff: Float[np.ndarray, "*A"]) -> Float[np.ndarray, "*A"]:
    """The nearest sum of utilities, one for each agent: what VDN converges to at best.

    Sunehag et al. 2018 (value decomposition networks).
    """
    chosen = np.indices(payoff.shape).reshape(payoff.ndim, -1)
    one_hots = [np.eye(size)[own] for size, own in zip(payoff.shape, chosen, strict=True)]
    actions = np.concatenate(one_hots, axis=1)
    utilities = np.linalg.lstsq(actions, payoff.ravel().astype(float), rcond=None)[0]
    return (actions @ utilities).reshape(payoff.shape)


def best_monotone(payoff: Float[np.ndarray, "*A"]) -> Float[np.ndarray, "*A"]:
    """The nearest table that does not decrease in any agent's utility, whatever the utilities.

    Each agent puts its own actions in one order (by utility, ties allowed) and the table must not
    decrease along any of the orders. For each choice of orders the fit is isotonic regression,
    exact by its min-max formula (Robertson, Wright and Dykstra 1988, theorem 1.4.4); the best of
    all orders is returned, the first of them in lexicographic order if several are as good.

    No monotonic mixer, QMIX's included, has a smaller error (Rashid et al. 2018). QMIX's own may
    not get as near: its one hidden layer of ELUs with weights of at least 0 makes Q_tot a sum of
    convex functions of weighted utilities, so that one agent's gain never shrinks when another
    agent's utility grows; a monotone table need not be so.

    Raises:
        ValueError: the table has more than 16 entries, or its agents' actions more than 1,000
            orders: two agents may have 4 actions each, or four agents 2.
    """
    shape, mean = payoff.shape, payoff.mean(dtype=float)
    num_orderings = math.prod(math.factorial(min(size, MAX_ENTRIES + 1)) for size in shape)
    if payoff.size > MAX_ENTRIES or num_orderings > MAX_ORDERINGS:
        raise ValueError(
            f"payoff must have at most {MAX_ENTRIES} entries and {MAX_ORDERINGS} orderings of its "
            f"agents' actions, got the shape {shape}"
        )
    cells = np.arange(payoff.size).reshape(shape)
    orders = itertools.product(*(itertools.permutations(range(size)) for size in shape))
    ordered = np.stack([cells[np.ix_(*order)].ravel() for order in orders])
    values = (payoff - mean).ravel()[ordered]
    fits = _isotonic(values, _upper_sets(shape))
    errors = ((fits - values) ** 2).sum(axis=1)
    best = np.flatnonzero(errors <= errors.min() + 1e-12 * (values[0] ** 2).sum())[0]
    fit = np.empty(payoff.size)
    fit[ordered[best]] = mean + fits[best]
    return fit.reshape(shape)


def _isotonic(
    values: Float[np.ndarray, "P K"], upper_sets: Bool[np.ndarray, "M K"]
) -> Float[np.ndarray, "P K"]:
    """Isotonic regression of P tables of K entries under one partial order.

    An entry's fit is the max over upper sets U that hold it of the min over lower sets L that hold
    it of the mean over U and L's common entries.
    """
    lower_sets = ~upper_sets
    num_sets, size = upper_sets.shape
    common = (upper_sets[:, None] & lower_sets).reshape(-1, size).astype(float)
    means = common @ values.T / np.maximum(common.sum(1, keepdims=True), 1)
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
