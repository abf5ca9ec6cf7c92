"""`maven-jax sweep`, `resume` and `table` as a user meets them."""

import re
from argparse import Namespace

import pandas as pd
import psutil
import pytest
from helpers import CUSTOM
from small_experiments import SMALL, refused

from maven_jax.cli.main import run

pytestmark = pytest.mark.slow

RATES = ("--seeds", "2", "--grid", "hyperparameters.learning-rate=5e-4,1e-3")
TWO_PROGRAMS = (*RATES, "--grid", "network.hidden-size=2,3", "--group-size", "2")
PARTS = [f"network.hidden_size={size},group={group}" for size in (2, 3) for group in (0, 1)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a small configuration."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "qmix.yaml").write_text(SMALL.format(algorithm="qmix"))
    return folder


@pytest.fixture(scope="module")
def swept(workspace):
    """A sweep of two programs, each run in two groups of two lanes."""
    out = workspace / "swept"
    assert run(["sweep", f"{workspace}/qmix.yaml", *TWO_PROGRAMS, "--out", str(out)]) == 0
    return out


def contents(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_of_several_programs_is_tabulated_and_drawn_by_its_grid(swept, capsys):
    assert sorted(path.name for path in swept.iterdir()) == ["figures", *PARTS, "sweep.json"]
    assert run(["table", str(swept), "--metric", "td_loss"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[4:-1]]
    assert rows == [[size, rate, "2"] for size in ("2", "3") for rate in ("0.0005", "0.001")]
    out = swept.parent / "sweep.png"
    assert run(["plot", str(swept), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(out) in capsys.readouterr().out


def test_runs_of_several_lengths_and_hyperparameters_share_a_program(workspace, capsys):
    out = workspace / "lengths"
    command = ["sweep", f"{workspace}/qmix.yaml", *RATES, "--out", str(out)]
    assert run([*command, "--grid", "training.total_env_steps=60,120"]) == 0
    assert capsys.readouterr().err.count("compiling one program for 4 runs") == 1
    paths = [out / f"training.total_env_steps={steps}" / "metrics.csv" for steps in (60, 120)]
    for path in paths:
        lanes = pd.read_csv(path).groupby(["seed", "hyperparameters.learning_rate"])
        assert len(lanes.size()) == 4
    short, long = (path.read_text().splitlines() for path in paths)
    assert len(short) < len(long)
    assert set(short) < set(long), "seed by seed, the longer run begins as the shorter one"
    assert run(["evaluate", str(paths[0].parent), "--episodes", "2"]) == 0


def test_a_sweep_goes_on_with_the_parts_that_are_not_trained(workspace, swept, capsys):
    out = workspace / "in_pieces"
    arguments = ["sweep", f"{workspace}/qmix.yaml", *TWO_PROGRAMS, "--out", str(out)]
    assert run([*arguments, "--part-index", "1"]) == 0
    said = capsys.readouterr().err
    assert "8 runs in 4 parts; 2 programs to compile" in said
    assert f"{PARTS[1]}: memory for 2 runs: " in said
    kept = (out / PARTS[1] / "metrics.csv").read_bytes()
    assert run(arguments) == 0, "the same command once more resumes"
    assert f"maven-jax: '{out}' exists; it is resumed\n" in capsys.readouterr().err
    assert (out / PARTS[1] / "metrics.csv").read_bytes() == kept
    for part in PARTS:
        files = [folder / part / "metrics.csv" for folder in (out, swept)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_of_a_finished_sweep_trains_nothing(workspace, swept, capsys):
    before = contents(swept)
    arguments = ["sweep", f"{workspace}/qmix.yaml", *TWO_PROGRAMS, "--out", str(swept)]
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.err == f"maven-jax: '{swept}' has finished; there is nothing to train\n"
    assert said.out.rstrip().endswith(f"results in {swept}/")
    message = refused(capsys, *arguments, "--hyperparameters.gamma", "0.5")
    assert message.startswith(f"'{swept}' holds another sweep: run '{PARTS[0]}': ")
    assert "gamma is 0.99 there, 0.5 here; choose a new path" in message
    for path in (swept, swept / PARTS[0]):
        assert "has already finished" in refused(capsys, "resume", path)
    assert "config.yaml is missing" in refused(capsys, "resume", workspace)
    assert contents(swept) == before


def test_what_does_not_fit_is_refused_with_what_would(workspace, capsys, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Namespace(available=200_000))
    out = workspace / "too_large"
    message = refused(capsys, "sweep", workspace / "qmix.yaml", "--seeds", "100", "--out", out)
    fit = re.search(r"but only 0\.2 MB are free; use --group-size (\d+) or less", message)
    assert message.startswith("100 runs need ")
    assert 1 <= int(fit[1]) < 100
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--grid training.replay_size=16,100000", "run 'training.replay_size=100000': 2 runs need"),
        (
            "--grid env.options.m=3,400 --training.total-env-steps 10000",
            "run 'env.options.m=400': 2 runs need ",
        ),
        (
            "--grid env.options.good_branches=2,3",
            "run 'env.options.good_branches=3': env.options: good_branches must be one of (2, 4)",
        ),
        ("--grid algorithm=qmix,qmx", f"unknown algorithm 'qmx'; did you mean 'qmix'? {CUSTOM}"),
        (
            "--grid env.options.m=3,20",
            "run 'env.options.m=20': training.total_env_steps is 60; allowed: more than",
        ),
        (
            "--grid training.total_env_steps=60,7",
            "run 'training.total_env_steps=7': training.total_env_steps is 7; allowed: more than",
        ),
        (
            "--grid training.batch_size=4,8 --grid training.replay_size=16,4",
            "training.replay_size is 4; allowed: at least training.batch_size, which is 8",
        ),
        ("--grid latent.size", "grid is 'latent.size'; allowed: FIELD=VALUE,VALUE,..."),
        ("--group-size 0", "group_size is 0; allowed: a whole number from 1 on"),
        ("--checkpoint.keep 0", "checkpoint.keep is 0"),
    ],
)
def test_all_is_checked_before_the_first_part_trains(
    workspace, capsys, monkeypatch, arguments, message
):
    """Where one of a sweep's programs cannot be, the others do not begin."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Namespace(available=2_000_000))
    out = workspace / "refused"
    command = ["sweep", workspace / "qmix.yaml", "--seeds", "2", *arguments.split(), "--out", out]
    assert refused(capsys, *command).startswith(message)
    assert not out.exists()
