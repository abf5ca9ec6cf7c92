"""The command line as a user meets it: results on disk, one-line errors, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers import CUSTOM
from PIL import Image
from small_experiments import SMALL, refused

from maven_jax.cli.main import run
from maven_jax.config import Config
from maven_jax.configs import packaged_configs
from maven_jax.environments.registry import ENVIRONMENTS
from maven_jax.experiments.new_folder import write_config
from maven_jax.experiments.run import load_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a small configuration of each algorithm and a run of MAVEN, `first`."""
    folder = tmp_path_factory.mktemp("workspace")
    for algorithm in ("maven", "qmix"):
        (folder / f"{algorithm}.yaml").write_text(SMALL.format(algorithm=algorithm))
    arguments = ["--seed", "4", "--seeds", "3", "--out", f"{folder}/first"]
    assert run(["train", f"{folder}/maven.yaml", *arguments]) == 0
    return folder


def test_a_run_leaves_its_documented_folder(workspace):
    path = workspace / "first"
    assert {file.name for file in path.iterdir()} == {
        ".lock",
        "config.yaml",
        "events",
        "figures",
        "metrics.csv",
        "run.json",
        "weights.npz",
    }
    assert (path / "figures" / "return.png").read_bytes().startswith(b"\x89PNG")
    assert any((path / "events").iterdir())
    loaded = load_run(path)
    assert loaded.config.env.options == {"m": 3, "good_branches": 2}
    assert loaded.info["status"] == "finished"
    assert {"versions", "device", "compile_seconds", "train_seconds"} <= set(loaded.info)
    assert sorted(pd.read_csv(path / "metrics.csv")["seed"].unique()) == [4, 5, 6]


def test_the_same_command_twice_gives_the_same_bits(workspace):
    arguments = ["--seed", "4", "--seeds", "3", "--out", f"{workspace}/second", "--no-tensorboard"]
    assert run(["train", f"{workspace}/maven.yaml", *arguments]) == 0
    first, second = (workspace / name / "metrics.csv" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert not (workspace / "second" / "events").exists()


def test_evaluate_prints_a_row_for_each_seed(workspace, capsys):
    assert run(["evaluate", f"{workspace}/first", "--episodes", "8"]) == 0
    printed = capsys.readouterr().out
    assert "8 greedy episodes a run" in printed
    rows = [line.split()[0] for line in printed.splitlines()[-4:] if line.strip()]
    assert rows == ["4", "5", "6"]


def test_evaluate_renders_an_episode_and_draws_what_each_z_does(workspace, capsys):
    gif, picture = workspace / "episode.gif", workspace / "z.png"
    arguments = ["evaluate", f"{workspace}/first", "--episodes", "2", "--lane", "1"]
    assert run([*arguments, "--render", str(gif), "--behaviour", str(picture)]) == 0
    assert str(gif) in capsys.readouterr().out
    with Image.open(gif) as image:
        assert 2 <= image.n_frames <= 4
    assert picture.read_bytes().startswith(b"\x89PNG")
    before = gif.read_bytes()
    assert refused(capsys, *arguments, "--render", gif) == (
        f"GIF '{gif}' already exists; choose a new path"
    )
    assert gif.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--render x.mp4", "render is 'x.mp4'; allowed: a name ending in .gif"),
        ("--behaviour x.gif", "behaviour is 'x.gif'; allowed: a name ending in .png"),
        ("--lane 3 --render x.gif", "lane is 3; allowed: a whole number from 0 to 2"),
        ("--lane 0", "lane is 0; --lane needs --render or --behaviour"),
    ],
)
def test_what_evaluate_refuses_to_draw(workspace, capsys, words, message):
    assert refused(capsys, "evaluate", workspace / "first", *words.split()).startswith(message)


def test_evaluate_in_another_environment(workspace, capsys):
    """Another option of the run's own, with a picture of it; and an environment by its name."""
    picture = workspace / "elsewhere.png"
    arguments = ["evaluate", f"{workspace}/first", "--episodes", "2"]
    other = ["--env.options.good-branches", "4", "--behaviour", str(picture)]
    assert run([*arguments, *other]) == 0
    printed = capsys.readouterr().out
    assert "in m_step_matrix, m=3,good_branches=4" in printed
    rows = [line.split()[0] for line in printed.splitlines()[-5:-1] if line.strip()]
    assert rows == ["4", "5", "6"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_evaluate_prints_its_help_without_a_run(capsys):
    assert run(["evaluate", "--help"]) == 0
    assert "--env.name" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--env.options.m 4",
            "environment has 9 features in an agent's view; the weights are of 8",
        ),
        ("--env.name matrix_game", "environment has 3 actions; the weights are of 2"),
        (
            "--env.name matrix_game --env.options.m 4",
            "Unrecognized options: --env.options.m, 4",
        ),
        ("--env.options.n 4", "Unrecognized options: --env.options.n, 4"),
        ("--env.name smaxx", "unknown env.name 'smaxx'; did you mean 'smax'?"),
        ("--example maven_team", "evaluate needs either RUN, the folder of a run, or --example"),
    ],
)
def test_where_evaluate_refuses_to_play(workspace, capsys, words, message):
    assert refused(capsys, "evaluate", workspace / "first", *words.split()).startswith(message)


def test_evaluate_plays_packaged_weights(capsys):
    assert refused(capsys, "evaluate", "--example", "mavenn").startswith("unknown example 'mavenn'")
    assert refused(capsys, "evaluate") == (
        "evaluate needs either RUN, the folder of a run, or --example NAME"
    )
    assert run(["evaluate", "--example", "maven_team", "--episodes", "2"]) == 0
    assert "13.00" in capsys.readouterr().out


def test_plot_draws_and_never_overwrites(workspace, capsys):
    out = workspace / "plot.png"
    arguments = ["plot", f"{workspace}/first", "--out", str(out), "--metric", "td_loss"]
    assert run(arguments) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert "already exists; choose a new path" in refused(capsys, *arguments)


def test_matrix_games_prints_what_was_learnt_beside_what_can_be(capsys):
    arguments = ["--games", "qtran", "--algorithms", "vdn", "--seeds", "3", "--steps", "40"]
    assert run(["matrix-games", *arguments]) == 0
    printed = capsys.readouterr().out
    for words in ("vdn on qtran: 3 seeds", "uniform", "eps-greedy", "455.11", "288.00"):
        assert words in printed
    assert re.search(r"\([ABC], [ABC]\): [123]", printed)


WITHOUT_CONFIG = (
    "train needs CONFIG first; allowed: a YAML file, or one of foraging, iql, maven, maven_iql, "
    "maven_qtran, maven_team, maven_unconstrained, maven_vdn, qmix, qmix_unconstrained, qtran, "
    "smax_2s3z, smax_3m, smax_3s_vs_5z, smax_6h_vs_8z, spread, vdn, warehouse"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?"),
        ("train mavn", f"unknown config 'mavn'; did you mean 'maven'? {CUSTOM}"),
        ("train no/such.yaml", "config 'no/such.yaml' is not a file"),
        (f"train {'x' * 300}", "[Errno 36] File name too long"),
        ("train", WITHOUT_CONFIG),
        ("train --seeds 3", "train needs CONFIG first"),
        ("train maven --seeds 0", "seeds is 0; allowed: a whole number from 1 to 65536"),
        ("train vdn --seeds 1e9", "seeds is 1000000000; allowed: a whole number from"),
        ("train maven --seed -1", "seed is -1; allowed: a whole number from 0"),
        *(
            (f"train maven --seeds {number}", f"--seeds is '{number}'; allowed: a whole num")
            for number in ("many", "2.5", "1.5e0", "1e400", "nan", "2e-3")
        ),
        ("train maven --out /dev/null/run", "output folder '/dev/null/run' cannot be"),
        ("train maven --tensorboard no", "Unrecognized options: no; an option that is on"),
        ("train maven --checkpoint.updates abc", "--checkpoint.updates is 'abc'; allowed: a whole"),
        ("train maven --env.options.m 0", "env.options: m must be an integer from 1 to 10000, got"),
        (f"train maven --env.options.m {10**20}", "env.options: m must be an integer"),
        ("train maven --env.options.good-branches 3", "env.options: good_branches must be one of"),
        ("train maven --env.name m_step", "unknown env.name 'm_step'; did you mean"),
        ("train maven --algorithm vdm", "unknown algorithm 'vdm'; did you mean 'vdn'?"),
        ("train maven --network.hidden-size 2000000000", "network.hidden_size is 2000000000; all"),
        ("train maven --hyperparameters.gamma high", "--hyperparameters.gamma is 'high'; allowed:"),
        (
            "train maven --training.replay-size 8",
            "training.replay_size is 8; allowed: at least training.batch_size, which is 32",
        ),
        (
            "train maven --training.batchsize 8",
            "Unrecognized options: --training.batchsize, 8; did you mean --training.batch-size?",
        ),
        (
            "train maven --training.total-env-steps 100",
            "training.total_env_steps is 100; allowed: more than",
        ),
        ("figure3 --seeds 0", "seeds is 0; allowed: a whole number from 1 to 65536"),
        ("figure3 --configs qmx", "unknown configuration of figure3 'qmx'; did you mean 'qmix'?"),
        ("figure3 --steps 0", "training.total_env_steps is 0; allowed:"),
        ("figure3 --m 0", "run 'maven': env.options: m must be an integer from 1 to"),
        ("matrix-games --games qtrain", "unknown game 'qtrain'; did you mean 'qtran'?"),
        ("matrix-games --games", "games is (); allowed: one or more of non_monotonic"),
        (
            "matrix-games --algorithms qtran maven",
            "unknown algorithm 'maven'; allowed: iql, qmix, qmix_unconstrained, qtran, vdn",
        ),
        ("matrix-games --seeds 0", "seeds is 0; allowed: a whole number from 1 to 10000"),
        ("matrix-games --steps 0", "steps is 0; allowed: a whole number from 1 to 1000000"),
        *(
            (f"{name} nowhere", "run 'nowhere' is not a folder")
            for name in ("evaluate", "plot", "table", "resume")
        ),
        *((name, "no run given; allowed: one or more folders") for name in ("plot", "table")),
        (f"evaluate {'x' * 300}", "[Errno 36] File name too long"),
        ("plot nowhere --out a.txt", "out is 'a.txt'; allowed: a name ending in .png"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, *arguments.split()).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        *[(config, "level_based_foraging") for config in sorted(packaged_configs())],
        *[("maven_team", environment) for environment in ENVIRONMENTS],
    ],
)
def test_a_configuration_takes_another_environment(config, environment, capsys, tmp_path):
    """All is checked before the output folder is, which exists."""
    exists = f"output folder '{tmp_path}' already exists; choose a new path"
    arguments = [config, "--env.name", environment, "--env.options.time-limit", "7"]
    arguments = arguments[: 3 if environment in ("m_step_matrix", "matrix_game") else 5]
    assert refused(capsys, "train", *arguments, "--out", tmp_path) == exists


def test_another_environment_s_options_are_those_on_the_command_line(capsys, tmp_path):
    arguments = ["qmix", "--env.name=level_based_foraging", "--env.options.num-agents"]
    assert "num_agents is 51; allowed" in refused(capsys, "train", *arguments, "51")
    assert "Unrecognized options: --env.options.m" in refused(
        capsys, "train", *arguments, "3", "--env.options.m", "3"
    )
    exists = f"output folder '{tmp_path}' already exists"
    assert refused(capsys, "sweep", *arguments, "3", "--out", tmp_path).startswith(exists)
    grid = ["--grid", "env.name=m_step_matrix,level_based_foraging", "--out", tmp_path]
    assert refused(capsys, "sweep", "qmix", *grid).startswith(exists)
    path = tmp_path / "config.yaml"
    path.write_text("env: {name: level_based_foraging, options: {num_agents: 3}}")
    assert refused(capsys, "train", path, "--out", tmp_path).startswith(exists)
    other = ["--env.name", "cleaner", "--env.options.fov", "3"]
    assert "Unrecognized options: --env.options.fov" in refused(capsys, "train", path, *other)


def test_without_a_latent_nothing_of_it_is_checked(capsys, tmp_path):
    many = ["--training.num-envs", "600", "--out", tmp_path]
    assert refused(capsys, "train", "maven", *many).startswith("latent.replay_size is 512")
    assert refused(capsys, "train", "qmix", *many).startswith("output folder")


def test_bad_environment_options_in_a_file(capsys, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("env: {options: {mm: 3}}")
    message = "unknown option of environment m_step_matrix 'mm'; did you mean 'm'?"
    assert refused(capsys, "train", path) == message
    path.write_text("env: {options: {m: three}}")
    assert refused(capsys, "train", path) == "env.options.m is 'three'; allowed: a whole number"


def test_an_existing_folder_is_refused_before_training(capsys, workspace):
    before = (workspace / "first" / "metrics.csv").read_bytes()
    for command in ("train maven", "figure3"):
        message = refused(capsys, *command.split(), "--out", workspace / "first")
        assert f"'{workspace / 'first'}' holds " in message
        assert "; choose a new path" in message
    assert (workspace / "first" / "metrics.csv").read_bytes() == before


def test_damaged_runs_are_refused(capsys, workspace, tmp_path):
    write_config(tmp_path, Config())
    assert refused(capsys, "evaluate", tmp_path) == (
        f"run '{tmp_path}' is damaged: run.json is missing"
    )


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], *([name, "--help"] for name in ("train", "figure3", "plot"))]
)
def test_help_on_every_level(arguments, capsys):
    assert run(arguments) == 0
    assert "usage: maven-jax" in capsys.readouterr().out


@pytest.fixture
def sigint_heard():
    """A suite started in the background ignores SIGINT, and its children would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_heard")
def test_ctrl_c_leaves_what_has_been_learned(workspace, capsys):
    """A real process: the exit code, and a run that `evaluate` can load.

    While it trains, an editor replaces its files: a second process is refused all the same.
    """
    out = workspace / "interrupted"
    arguments = ["train", workspace / "qmix.yaml", "--seeds", "1", "--out", out]
    arguments += ["--training.total-env-steps", "100000000"]
    command = [sys.executable, "-m", "maven_jax", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            wait_for_rows(out / "metrics.csv", process)
            for name in ("config.yaml", "run.json"):  # as `sed -i` does
                draft = workspace / name
                draft.write_bytes((out / name).read_bytes())
                draft.replace(out / name)
            for command in (["resume", out], arguments):
                message = refused(capsys, *command)
                assert message == f"run '{out}' is being trained by another process"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        f"maven-jax: interrupted; progress is saved in '{out}'; resume it with: "
        f"maven-jax resume '{out}'"
    )
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert run(["evaluate", str(out), "--episodes", "2"]) == 0


def wait_for_rows(path: Path, process: subprocess.Popen, limit: float = 120.0) -> None:
    """Until `metrics.csv` has a row, so that there is something to keep."""
    deadline = time.monotonic() + limit
    while not path.exists() or path.read_text().count("\n") < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
