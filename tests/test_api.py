"""Experiments from Python: one small sweep and one custom environment, and what is made of them."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from small_envs import Sides
from small_experiments import SMALL, contents

import maven_jax
from maven_jax.config import from_dict
from maven_jax.environments.registry import make_env
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import ConfigError
from maven_jax.examples import example_names
from maven_jax.experiments.plan import Plan

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)
PLAIN = yaml.safe_load(SMALL.format(algorithm="maven"))
WEIGHTS = (0.0, 0.5)


class Sweep(NamedTuple):
    out: Path
    results: maven_jax.Results


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two seeds at two points, one program."""
    out = tmp_path_factory.mktemp("api") / "sweep"
    return Sweep(out, train(out))


def train(out, **changes):
    arguments = {"seeds": 2, "seed": 3, "grid": {"hyperparameters.mi_weight": WEIGHTS}} | changes
    return maven_jax.train(PLAIN, out=out, console=QUIET, **arguments)


@pytest.fixture(scope="module")
def in_sides(tmp_path_factory):
    """A run in an environment that only Python has."""

    class Hidden(Sides):
        def __init__(self, weight: float = 1.0):
            self.weight = weight

    out = tmp_path_factory.mktemp("api") / "sides"
    config = from_dict(PLAIN | {"algorithm": "vdn"})
    return maven_jax.train(config, env=Hidden(2.0), seeds=1, out=out, console=QUIET)


def test_a_frame_has_every_row_with_its_coordinates(sweep):
    frame = sweep.results.frame()
    with (sweep.out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(frame.columns[:4]) == ["mi_weight", "seed", "env_steps", "num_updates"]
    assert len(frame) == len(rows)
    for name, column in (("mi_weight", "hyperparameters.mi_weight"), ("return", "return")):
        np.testing.assert_array_equal(frame[name], [float(row[column]) for row in rows])
    lanes = frame[["mi_weight", "seed"]].drop_duplicates().itertuples(index=False)
    assert sorted(map(tuple, lanes)) == [(w, s) for w in WEIGHTS for s in (3, 4)]
    assert frame["seed"].dtype == frame["env_steps"].dtype == np.int64


def test_the_same_call_finds_it_finished_and_another_is_refused(sweep, capsys):
    before = contents(sweep.out)
    again = train(sweep.out)
    assert again.frame().equals(sweep.results.frame())
    assert contents(sweep.out) == before
    with pytest.raises(maven_jax.StorageError, match="holds another run"):
        train(sweep.out, seeds=1)


def test_results_are_read_from_a_folder(sweep):
    loaded = maven_jax.load_results(sweep.out)
    assert loaded.frame().equals(sweep.results.frame())
    assert repr(loaded) == f"<Results of 4 runs in '{sweep.out}'>"


def test_a_plot_has_a_curve_of_each_point_and_is_in_no_list_of_pyplot(sweep):
    figure = sweep.results.plot("td_loss")
    assert isinstance(figure, Figure)
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert labels == ["mi_weight 0 (2 seeds)", "mi_weight 0.5 (2 seeds)"]
    assert plt.get_fignums() == []
    with pytest.raises(ConfigError, match="unknown metric"):
        sweep.results.plot("retrun")


def test_evaluate_has_a_row_for_each_lane(sweep):
    before = contents(sweep.out)
    frame = sweep.results.evaluate(episodes=4)
    assert frame[["mi_weight", "seed"]].to_numpy().tolist() == [
        [w, s] for w in WEIGHTS for s in (3, 4)
    ]
    assert {"return", "latent_probs_0", "return_z_2"} <= set(frame.columns)
    np.testing.assert_allclose(frame["return_z_0"] % 1, 0)  # the game's returns are whole
    assert contents(sweep.out) == before
    with pytest.raises(ConfigError, match="episodes is 0"):
        sweep.results.evaluate(episodes=0)


def test_evaluate_in_another_environment_of_the_same_sizes(sweep):
    """The game in which all branches pay has the same sizes; a longer one has not."""
    frame = sweep.results.evaluate(MStepMatrixGame(m=3, good_branches=4), episodes=4)
    own = sweep.results.evaluate(episodes=4)
    assert (frame["return_uniform"] >= own["return_uniform"]).all()
    message = "environment has 9 features in an agent's view; the weights are of 8"
    with pytest.raises(ConfigError, match=message):
        sweep.results.evaluate(MStepMatrixGame(m=4), episodes=4)


def test_a_policy_is_one_lane_and_returns_what_evaluate_says(sweep):
    env = MStepMatrixGame(m=3)
    frame = sweep.results.evaluate(episodes=4).set_index(["mi_weight", "seed"])
    for weight, seed in frame.index:
        policy = sweep.results.policy(seed=seed, mi_weight=weight)
        for z in range(3):
            state, timestep = env.reset(jax.random.key(0))
            carry = policy.reset(jax.random.key(1), timestep.observation)
            carry, total = carry._replace(latent=jax.nn.one_hot(z, 3)), 0.0
            while not timestep.last():
                action, carry = policy.act(carry, timestep.observation)
                state, timestep = env.step(state, action)
                total += float(timestep.reward)
            assert total == frame.loc[(weight, seed), f"return_z_{z}"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seed": 9}, "seed is 9; allowed: 3, 4"),
        ({"seed": 3}, "several runs have seed 3; allowed: values of mi_weight that one run has"),
        ({"seed": 3, "mi_wieght": 0}, "unknown coordinate 'mi_wieght'; did you mean 'mi_weight'?"),
        ({"seed": 3, "mi_weight": 0.2}, "mi_weight is 0.2; allowed: 0, 0.5"),
    ],
)
def test_a_policy_of_no_lane_or_of_several_is_refused(sweep, asked, message):
    with pytest.raises(ConfigError) as refused:
        sweep.results.policy(**asked)
    assert str(refused.value) == message


def test_an_environment_that_only_python_has(in_sides):
    """It plays in the process that has it, is recorded by name, and is asked for elsewhere."""
    env = in_sides.runs[0].config.env
    assert env.name.startswith("test_api:") or ".test_api:" in env.name
    assert env.name.endswith("Hidden")
    assert dict(env.options) == {"weight": 2.0}
    assert in_sides.evaluate(episodes=4)["return"].between(0, 2).all()
    assert in_sides.policy().num_agents == 2
    loaded = maven_jax.load_results(in_sides.path)
    with pytest.raises(ConfigError, match="Hidden"):
        loaded.evaluate(episodes=4)
    assert loaded.evaluate(Sides(), episodes=4).equals(in_sides.evaluate(episodes=4))


class Secretive(Sides):
    """An option of its constructor is no attribute."""

    def __init__(self, weight: float = 1.0):
        self._weight = weight


@pytest.mark.parametrize(
    ("what", "arguments", "message"),
    [
        ("qmxi", {}, "unknown config 'qmxi'; did you mean 'qmix'"),
        ("qmix", {"env": Sides}, "env is .*allowed: an environment, such as"),
        ("qmix", {"env": Sides(), "grid": {"env.name": ["smax"]}}, "grid is 'env.name'"),
        ("qmix", {"env": Secretive()}, "options of environment Secretive .* off it: weight; "),
        ("qmix", {"grid": {"hyperparameters.gamma": 0.9}}, "grid of hyperparameters.gamma is 0.9"),
        ("qmix", {"seeds": 0}, "seeds is 0"),
        ("qmix", {"env": "smaxx"}, "unknown env.name 'smaxx'; did you mean 'smax'"),
        ("qmix", {"callbacks": ["json_line"]}, "callback is 'json_line'; allowed: json_lines, te"),
        (
            "qmix",
            {"env": Sides(), "overrides": {"env": {"options": {"wieght": 2}}}},
            "unknown option of environment Sides 'wieght'; allowed: none",
        ),
        (Plan(()), {"overrides": "smoke"}, "overrides is 'smoke'; allowed: none with a Plan"),
    ],
)
def test_what_train_refuses(what, arguments, message, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=message):
        maven_jax.train(what, out=out, console=QUIET, **arguments)
    assert not out.exists()


def test_an_environment_by_name_has_the_options_of_the_overrides(tmp_path):
    small = PLAIN | {"algorithm": "vdn", "env": {"options": {"m": 3}}}
    results = maven_jax.train("vdn", env="m_step_matrix", seeds=1, overrides=small, console=QUIET)
    env = results.runs[0].config.env
    assert (env.name, env.options["m"]) == ("m_step_matrix", 3)


class Interrupting(Console):
    """Sends Ctrl-C once, when the first progress is shown."""

    sent = False

    def print(self, *objects, **options) -> None:
        if not self.sent and " of 60 steps" in str(objects[0]):
            self.sent = True
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_and_the_same_call_resumes(sweep, tmp_path):
    """Bit for bit: the rows are those of the sweep that nobody interrupted."""
    out = tmp_path / "run"
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"the same call with out='.*run' resumes it"):
            maven_jax.train(
                PLAIN,
                seeds=2,
                seed=3,
                grid={"hyperparameters.mi_weight": list(WEIGHTS)},
                out=out,
                console=Interrupting(),
            )
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(maven_jax.load_results(out).frame()) < len(sweep.results.frame())
    assert train(out).frame().equals(sweep.results.frame())


def test_the_packaged_agents_play_the_ten_step_game_to_its_best_return():
    results = maven_jax.load_example("maven_team")
    frame = results.evaluate(episodes=64)
    assert (frame["return"] > 12.5).all()
    best = frame[[name for name in frame if name.startswith("return_z")]].max(axis=1)
    assert (best == 13).all()
    with pytest.raises(ConfigError, match="unknown example 'maven'; did you mean 'maven_team'"):
        maven_jax.load_example("maven")


IN_A_PROCESS = """
import maven_jax, maven_jax.training.train
from pathlib import Path
results = maven_jax.train("iql", seeds=1, overrides="smoke")
assert results.path.name == "iql" and results.runs[0].has_ended
print(results.path)
"""


@pytest.mark.parametrize("name", example_names())
def test_a_packaged_run_is_whole(name):
    """It is finished, names no folder of the machine that trained it, and its weights act."""
    if name.startswith("smax"):
        pytest.importorskip("jaxmarl", reason="SMAX needs jaxmarl, which is not installed")
    (run,) = maven_jax.load_example(name).runs
    assert run.info["status"] == "finished"
    assert not any("/" in word for start in run.info["history"] for word in start["command"])
    env, policy = make_env(run.config), maven_jax.load_example(name).policy(seed=0)
    _, timestep = env.reset(jax.random.key(0))
    carry = policy.reset(jax.random.key(1), timestep.observation)
    actions, carry = policy.act(carry, timestep.observation)
    mask = np.asarray(timestep.observation.action_mask)
    assert mask[np.arange(env.num_agents), actions].all()
    assert np.isfinite(carry.hidden).all()


def test_without_out_the_folder_lives_as_long_as_the_process():
    """And `maven_jax.train` is the function, whatever module of that name is imported."""
    root = Path(__file__).parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "2,000 steps" in ended.stderr
    assert not Path(ended.stdout.strip()).parent.exists()
