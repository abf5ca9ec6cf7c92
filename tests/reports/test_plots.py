"""Which curves share axes, and what is drawn with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from maven_jax.config import EnvConfig
from maven_jax.experiments.points import points_of
from maven_jax.experiments.run import Run
from maven_jax.reports.plots import curves_figure
from maven_jax.validation.files import load_config


def run_of(name, config, value):
    """A run of one seed with two evaluations."""
    info = {"lanes": {"seed": [0]}, "coordinates": {}, "status": "finished"}
    metrics = {"seed": np.zeros(2), "return": np.array([0.0, value])}
    metrics |= {column: np.array([10.0, 20.0]) for column in ("env_steps", "num_updates")}
    return Run(Path(name), config, info, metrics)


def drawn(*runs):
    """The figure of runs."""
    return curves_figure(points_of(runs))


def test_each_environment_has_its_panel():
    """Options that are the environment's own make no other one."""
    game, smax = load_config("maven"), load_config("smax_3m")
    long = replace(game, env=EnvConfig("m_step_matrix", {"m": 20}))
    spelt = replace(game, algorithm="qmix", env=EnvConfig("m_step_matrix", {"m": 10}))
    runs = [run_of("a", game, 13.0), run_of("b", smax, 2.0), run_of("c", long, 23.0)]
    figure = drawn(*runs, run_of("d", spelt, 10.0))
    titles = [ax.get_title().partition(":")[0] for ax in figure.axes]
    assert titles == ["m_step_matrix", "smax 3m", "m_step_matrix m=20"]
    ends = [sorted(line.get_ydata()[-1] for line in ax.get_lines()) for ax in figure.axes]
    assert ends == [[10.0, 13.0], [2.0], [23.0]]
    for ax in figure.axes:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("environment steps", "return")
        assert len(ax.get_legend().get_texts()) == len(ax.get_lines())


def test_many_panels_stand_in_rows():
    games = [EnvConfig("m_step_matrix", {"m": m}) for m in range(2, 7)]
    figure = drawn(*(run_of("a", replace(load_config("maven"), env=env), 1.0) for env in games))
    assert len(figure.axes) == 5
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 3)
