"""`maven-jax sweep`, `resume` and `table` as a user meets them."""

import re

import pandas as pd
import pytest
from small_experiments import SMALL, refused

from maven_jax.cli.main import run
from maven_jax.errors import ConfigError
from maven_jax.experiments import plan as plans
from maven_jax.experiments import programs
from maven_jax.experiments.options import InterruptedRunError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a small configuration of each algorithm."""
    folder = tmp_path_factory.mktemp("workspace")
    for algorithm in ("maven", "qmix"):
        (folder / f"{algorithm}.yaml").write_text(SMALL.format(algorithm=algorithm))
    return folder


GRID = ("--seeds", "2", "--grid", "hyperparameters.learning-rate=5e-4,1e-3")
TWO_PROGRAMS = (*GRID, "--grid", "network.hidden-size=2,3")


@pytest.fixture(scope="module")
def swept(workspace):
    """A sweep of two programs, each run in two groups of two lanes: four runs' folders."""
    out = workspace / "swept"
    arguments = ["sweep", workspace / "qmix.yaml", *TWO_PROGRAMS]
    assert run([*map(str, arguments), "--group-size", "2", "--out", str(out)]) == 0
    return out


def test_a_sweep_of_several_programs_is_tabulated_by_its_grid(swept, capsys):
    assert sorted(path.name for path in swept.iterdir()) == [
        "figures",
        "network.hidden_size=2,group=0",
        "network.hidden_size=2,group=1",
        "network.hidden_size=3,group=0",
        "network.hidden_size=3,group=1",
        "sweep.json",
    ]
    assert run(["table", str(swept), "--metric", "td_loss"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[4:-1]]
    assert rows == [[size, rate, "2"] for size in ("2", "3") for rate in ("0.0005", "0.001")]


def test_a_sweep_is_drawn_by_its_grid(swept, capsys):
    out = swept.parent / "sweep.png"
    assert run(["plot", str(swept), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(out) in capsys.readouterr().out


def test_a_sweep_of_hyperparameters_is_one_run(workspace):
    out = workspace / "one_program"
    assert run(["sweep", f"{workspace}/qmix.yaml", *GRID, "--out", str(out)]) == 0
    table = pd.read_csv(out / "metrics.csv")
    lanes = table.groupby(["seed", "hyperparameters.learning_rate"]).size()
    assert len(lanes) == 4
    assert run(["evaluate", str(out), "--episodes", "2"]) == 0


def test_runs_of_several_lengths_share_a_program(workspace, capsys):
    out = workspace / "lengths"
    command = ["sweep", f"{workspace}/qmix.yaml", "--seeds", "2", "--out", str(out)]
    assert run([*command, "--grid", "training.total_env_steps=60,120"]) == 0
    assert capsys.readouterr().err.count("compiling one program for 2 runs") == 1
    short, long = (
        (out / f"training.total_env_steps={steps}" / "metrics.csv").read_text().splitlines()
        for steps in (60, 120)
    )
    assert len(short) < len(long)
    assert set(short) < set(long), "seed by seed, the longer run begins as the shorter one"


def test_a_sweep_goes_on_where_it_was_interrupted(workspace, swept, monkeypatch, capsys):
    """Of four programs the second is stopped: the first is kept, the others follow."""
    out = workspace / "stopped_sweep"
    finished = []

    def stop_after_one(*arguments):
        if len(finished) == 1:
            raise InterruptedRunError(arguments[0])
        finished.append(arguments[0])
        return go_on(*arguments)

    go_on = plans.continue_run
    arguments = ["sweep", workspace / "qmix.yaml", *TWO_PROGRAMS]
    arguments = [*map(str, arguments), "--group-size", "2", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(plans, "continue_run", stop_after_one)
        assert run(arguments) == 130
    said = capsys.readouterr().err
    assert "8 runs in 4 parts; 2 programs to compile" in said
    assert "network.hidden_size=2,group=0: memory for 2 runs: " in said
    assert f"resume it with: maven-jax resume '{out}'" in said
    kept = (out / "network.hidden_size=2,group=0" / "metrics.csv").read_bytes()
    assert run(arguments) == 0, "the same command once more resumes"
    assert f"maven-jax: '{out}' exists; it is resumed\n" in capsys.readouterr().err
    assert (out / "network.hidden_size=2,group=0" / "metrics.csv").read_bytes() == kept
    for path in swept.glob("*/metrics.csv"):
        assert (out / path.parent.name / "metrics.csv").read_bytes() == path.read_bytes()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.err == f"maven-jax: '{out}' has finished; there is nothing to train\n"
    assert said.out.rstrip().endswith(f"results in {out}/")
    message = refused(capsys, *arguments, "--hyperparameters.gamma", "0.5")
    assert "gamma is 0.99 there, 0.5 here; choose a new path" in message
    assert message.startswith(f"'{out}' holds another sweep: run 'network.hidden_size=2,group=0': ")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_what_does_not_fit_is_refused_with_what_would(workspace, capsys, monkeypatch):
    monkeypatch.setattr(programs, "free_bytes", lambda devices: 200_000)
    out = workspace / "too_large"
    message = refused(capsys, "sweep", workspace / "qmix.yaml", "--seeds", "100", "--out", out)
    fit = re.search(r"but only 0\.2 MB are free; use --group-size (\d+) or less", message)
    assert message.startswith("100 runs need ")
    assert 1 <= int(fit[1]) < 100
    assert not out.exists()


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["training.replay_size=16,100000"], "run 'training.replay_size=100000': 2 runs need "),
        (["env.options.m=3,400"], "run 'env.options.m=400': 2 runs need "),
        (
            ["env.options.good_branches=2,3"],
            "run 'env.options.good_branches=3': env.options: good_branches must be one of (2, 4)",
        ),
        (["algorithm=qmix,qmx"], "unknown algorithm 'qmx'; did you mean 'qmix'?"),
        (
            ["env.options.m=3,20"],
            "run 'env.options.m=20': training.total_env_steps is 60; allowed: more than",
        ),
        (
            ["training.total_env_steps=60,7"],
            "run 'training.total_env_steps=7': training.total_env_steps is 7; allowed: more than",
        ),
        (
            ["training.batch_size=4,8", "training.replay_size=16,4"],
            "training.replay_size is 4; allowed: at least training.batch_size, which is 8",
        ),
    ],
)
def test_every_part_is_checked_before_the_first_trains(
    workspace, capsys, monkeypatch, grid, message
):
    """One of a sweep's programs cannot be: the others do not begin."""
    monkeypatch.setattr(programs, "compile_sweep", lambda *_: pytest.fail("compiled"))
    monkeypatch.setattr(programs, "free_bytes", lambda devices: 2_000_000)
    out = workspace / "refused"
    arguments = [argument for field in grid for argument in ("--grid", field)]
    if "400" in grid[0]:
        arguments += ["--training.total-env-steps", "10000"]
    command = ["sweep", workspace / "qmix.yaml", "--seeds", "2", *arguments, "--out", out]
    assert refused(capsys, *command).startswith(message)
    assert not out.exists()


def test_figure3_is_refused_whole(tmp_path, capsys, monkeypatch):
    """Its third run does not fit: the others do not begin."""

    def check(config, env, num_lanes):
        if config.latent.kind == "bandit":
            raise ConfigError(f"{num_lanes} runs do not fit")

    monkeypatch.setattr(programs, "compile_sweep", lambda *_: pytest.fail("compiled"))
    monkeypatch.setattr(plans, "check_run", check)
    out = tmp_path / "figure3"
    assert (
        refused(capsys, "figure3", "--seeds", "5", "--out", out)
        == "run 'maven_team': 5 runs do not fit"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "latent.sise=1"], "did you mean 'latent.size'?"),
        (["--grid", "latent.size"], "grid is 'latent.size'; allowed: FIELD=VALUE,VALUE,..."),
        (["--group-size", "0"], "group_size is 0; allowed: a whole number from 1 on"),
        (["--grid", "env.options.m=0,3"], "m must be an integer from 1 to 10000, got 0"),
        (["--seeds", "0"], "seeds is 0; allowed: a whole number from 1 to 65536"),
        (["--checkpoint.keep", "0"], "checkpoint.keep is 0"),
    ],
)
def test_sweeps_that_cannot_be_are_refused(workspace, capsys, arguments, message):
    out = workspace / "refused"
    text = refused(capsys, "sweep", workspace / "maven.yaml", *arguments, "--out", out)
    assert message in text
    assert not out.exists()


def test_what_is_no_interrupted_run_is_not_resumed(workspace, swept, capsys):
    part = swept / "network.hidden_size=2,group=0"
    before = (part / "metrics.csv").read_bytes()
    assert "has already finished" in refused(capsys, "resume", part)
    assert (part / "metrics.csv").read_bytes() == before
    assert "has already finished" in refused(capsys, "resume", swept)
    assert "is not a folder" in refused(capsys, "resume", workspace / "nowhere")
    assert "config.yaml is missing" in refused(capsys, "resume", workspace)
    assert "is not a folder" in refused(capsys, "table", workspace / "nowhere")
    assert "no run given" in refused(capsys, "table")
