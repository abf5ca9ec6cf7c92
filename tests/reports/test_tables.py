"""Numbers that tables print."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maven_jax.reports.tables import interquartile_mean


def test_the_interquartile_mean_by_hand():
    """Of eight seeds the two lowest and the two highest do not count."""
    mean, low, high = interquartile_mean(np.array([0.0, 10, 10, 10, 12, 12, 13, 13]))
    assert mean == 11.0
    assert 5 < low < 11 < high < 13
    assert interquartile_mean(np.full(5, 13.0)) == (13.0, 13.0, 13.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12))
def test_the_interval_holds_the_mean_and_lies_within_the_values(values):
    mean, low, high = interquartile_mean(np.array(values))
    slack = 1e-6 * (1 + np.abs(values).max())
    assert min(values) - slack <= low <= mean + slack
    assert mean - slack <= high <= max(values) + slack
