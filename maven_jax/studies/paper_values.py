"""Figure 3(b) of Mahajan et al. 2019, read off: returns on the 10-step matrix game, 20 seeds."""

M = 10
SEEDS = 20
STEPS = (10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000)

FIGURE_3 = {
    "maven": {
        25: (9.8, 10.0, 10.0, 10.0, 10.3, 10.8, 12.2, 12.9),
        50: (10.0, 10.5, 12.4, 12.8, 12.9, 12.9, 13.0, 13.0),
        75: (11.0, 12.5, 12.8, 13.0, 13.0, 13.0, 13.0, 13.0),
    },
    "qmix": {
        50: (10.0,) * 8,
        75: (10.0, 10.0, 10.0) + (13.0,) * 5,
    },
}
"""Percentiles over seeds of the mean return of 64 greedy episodes, at each of `STEPS`."""
