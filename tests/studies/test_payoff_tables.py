import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from maven_jax.envs.matrix_game import PAYOFFS
from maven_jax.studies.payoff_tables import best_additive, best_monotone

SHAPES = [(3,), (2, 2), (2, 3), (3, 3), (2, 2, 2)]
NUMBERS = st.floats(-100, 100, width=32)


TABLES = st.sampled_from(SHAPES).flatmap(lambda shape: arrays(np.float64, shape, elements=NUMBERS))


def squared_error(fit, payoff):
    return ((fit - payoff) ** 2).sum()


def own_orders(table):
    """Each agent's order of its actions, if the table is monotone in any: by their total."""
    axes = range(table.ndim)
    totals = [table.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    return np.ix_(*(np.argsort(total, kind="stable") for total in totals))


def assert_monotone(table):
    ordered = table[own_orders(table)]
    for axis in range(table.ndim):
        assert (np.diff(ordered, axis=axis) >= -1e-9).all()


def assert_additive(table):
    for axis in range(table.ndim):
        gains = np.diff(np.moveaxis(table, axis, 0), axis=0).reshape(table.shape[axis] - 1, -1)
        np.testing.assert_allclose(gains, gains[:, :1] + 0 * gains, rtol=0, atol=1e-9)


def random_monotone(rng, shape):
    """A table that does not decrease along any axis, many of its steps zero."""
    table = rng.exponential(10, shape) * rng.integers(2, size=shape)
    for axis in range(len(shape)):
        table = table.cumsum(axis)
    return table + rng.normal(0, 50)


@pytest.mark.parametrize(
    ("fit", "payoff", "expected"),
    [
        (best_additive, [[0, 1], [2, 3]], [[0, 1], [2, 3]]),
        (best_additive, [[1, 0], [0, 1]], [[1 / 2, 1 / 2], [1 / 2, 1 / 2]]),
        (best_additive, [3, -1, 2], [3, -1, 2]),
        (
            best_additive,
            [[[0, 0], [0, 0]], [[0, 0], [0, 8]]],
            [[[-2, 0], [0, 2]], [[0, 2], [2, 4]]],
        ),
        (best_monotone, [[0, 0], [0, 1]], [[0, 0], [0, 1]]),
        (best_monotone, [[3, 1], [3, 0]], [[3, 1], [3, 0]]),
        (best_monotone, [[5, 0], [0, 1]], [[5, 1 / 3], [1 / 3, 1 / 3]]),
        (best_monotone, [[5, 0], [4, 9]], [[2.5, 2.5], [4, 9]]),
        (best_monotone, [3, -1, 2], [3, -1, 2]),
    ],
)
def test_fits_computed_by_hand(fit, payoff, expected):
    np.testing.assert_allclose(fit(np.array(payoff, float)), expected, atol=1e-12)


def test_non_monotonic_game():
    """The squared errors of MAVEN's game, table 1 of Mahajan et al. 2019."""
    payoff = np.array(PAYOFFS["non_monotonic"])
    assert squared_error(best_monotone(payoff), payoff) == pytest.approx(66.79, abs=0.01)
    assert squared_error(best_additive(payoff), payoff) == pytest.approx(114.7, abs=0.1)
    low = 10 / 3
    expected = [[10.1, low, 10.1], [low, low, 10], [10.1, 10, 10.1]]
    np.testing.assert_allclose(best_monotone(payoff), expected)


def test_qtran_game():
    payoff = np.array(PAYOFFS["qtran"], float)
    additive, monotone = best_additive(payoff), best_monotone(payoff)
    np.testing.assert_allclose(additive[0], [-6.22, -4.89, -4.89], atol=0.005)
    np.testing.assert_allclose(additive[1:, 1:], -3.56, atol=0.005)
    assert squared_error(additive, payoff) == pytest.approx(455.1, abs=0.1)
    np.testing.assert_allclose(monotone, [[8, -6, -6], [-6, -6, -6], [-6, -6, -6]])
    assert squared_error(monotone, payoff) == pytest.approx(288)
    other = np.array([[-8, -8, -8], [-8, 0, 0], [-8, 0, 0]])
    assert_monotone(other)
    assert squared_error(monotone, payoff) < squared_error(other, payoff) == 320


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(0, 2**32 - 1))
def test_no_monotone_table_is_nearer(payoff, seed):
    rng = np.random.default_rng(seed)
    fit = best_monotone(payoff)
    assert_monotone(fit)
    error = squared_error(fit, payoff)
    for step in (1.0, 0.1, 0.001):
        same_orders = np.empty(payoff.shape)
        same_orders[own_orders(fit)] = random_monotone(rng, payoff.shape)
        nearby = fit + step * (same_orders - fit)
        assert_monotone(nearby)
        assert error <= squared_error(nearby, payoff) + 1e-6
    shuffled = np.ix_(*(rng.permutation(size) for size in payoff.shape))
    other = random_monotone(rng, payoff.shape)[shuffled]
    assert error <= squared_error(other, payoff) + 1e-6
    assert error <= squared_error(best_additive(payoff), payoff) + 1e-6


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(0, 2**32 - 1))
def test_no_additive_table_is_nearer(payoff, seed):
    rng = np.random.default_rng(seed)
    fit = best_additive(payoff)
    assert_additive(fit)
    error = squared_error(fit, payoff)
    for step in (10.0, 0.1, 0.001):
        change = sum(np.ix_(*(rng.normal(0, step, size) for size in payoff.shape)))
        assert error <= squared_error(fit + change, payoff) + 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_a_representable_table_is_its_own_fit(shape):
    rng = np.random.default_rng(0)
    additive = sum(np.ix_(*(rng.normal(0, 10, size) for size in shape)))
    np.testing.assert_allclose(best_additive(additive), additive, atol=1e-8)
    monotone = random_monotone(rng, shape)[np.ix_(*map(rng.permutation, shape))]
    np.testing.assert_allclose(best_monotone(monotone), monotone, atol=1e-8)


def test_an_offset_and_a_scale_carry_over():
    payoff = np.array(PAYOFFS["climbing"], float)
    for fit in (best_additive, best_monotone):
        np.testing.assert_allclose(fit(3 * payoff - 1e6), 3 * fit(payoff) - 1e6, atol=1e-6, rtol=0)


def test_the_largest_table_has_a_monotone_fit():
    assert_monotone(best_monotone(np.random.default_rng(0).normal(size=(4, 4))))


@pytest.mark.parametrize("shape", [(5, 5), (3, 3, 3), (2,) * 5, (7,), (2, 8), (300, 300)])
def test_too_large_a_table_is_refused(shape):
    with pytest.raises(ValueError, match=r"^payoff must have at most 16 entries and 1000 .*\)$"):
        best_monotone(np.zeros(shape))
