"""Studies: files of named runs, trained as far as they are missing, whatever stopped them."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pandas as pd
import pytest
from helpers import CUSTOM
from small_experiments import refused

import maven_jax
from maven_jax.cli.main import run
from maven_jax.config import Config, EnvConfig
from maven_jax.configs import packaged_studies
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError, StorageError
from maven_jax.experiments import plan as plans
from maven_jax.experiments.extending import extend
from maven_jax.experiments.folder import load_setup, parts_of
from maven_jax.experiments.lock import LOCK
from maven_jax.experiments.options import Options
from maven_jax.experiments.run import Run
from maven_jax.studies.report import REPORTS, write_report
from maven_jax.studies.study import load_study, parse_study
from maven_jax.validation.files import load_config

pytestmark = pytest.mark.slow

SMALL = """
report: {report}
seeds: 2
steps: 60
runs:
  a: {{config: small.yaml}}
  b: {{config: small.yaml, changes: {{hyperparameters: {{learning_rate: 0.001}}}}}}
  c: {{config: small.yaml, changes: {{algorithm: vdn}}}}
  d: {{config: small.yaml, seeds: 3, changes: {{training: {{batch_size: 5}}}}}}
"""
CONFIG = """
algorithm: qmix
env: {options: {m: 3}}
network: {hidden_size: 8, mixer_embed_size: 4}
training: {total_env_steps: 60, batch_size: 4, replay_size: 16, updates_per_evaluation: 5}
evaluation: {episodes: 4, episodes_per_latent: 1}
"""
OUT = ("--no-tensorboard", "--out", "runs")


def write_studies(folder: Path) -> None:
    """Two studies of four small runs, of three programs; they differ in their report."""
    (folder / "small.yaml").write_text(CONFIG)
    (folder / "four.yaml").write_text(SMALL.format(report="best_return"))
    (folder / "curves.yaml").write_text(SMALL.format(report="curves"))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with the studies."""
    write_studies(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def c_trained(tmp_path_factory) -> Path:
    """The folder of a study of curves, of whose runs `c` has been trained."""
    folder = tmp_path_factory.mktemp("study")
    write_studies(folder)
    words = ["--only", "c", "--no-tensorboard", "--out", str(folder / "runs")]
    assert run(["study", str(folder / "curves.yaml"), *words]) == 0
    return folder / "runs"


@pytest.fixture
def begun(here, c_trained) -> Path:
    """A copy of that folder, in the working folder."""
    return shutil.copytree(c_trained, here / "runs")


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    files = (path for path in sorted(folder.glob(pattern)) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def compiled_in(capsys) -> list[str]:
    """For which part a program was compiled, and for how many runs."""
    said = capsys.readouterr().err
    return [": ".join(m) for m in re.findall(r"(\S+): compiling one program for (\d+)", said)]


def test_a_study_trains_what_is_missing_and_reports_what_is(here, capsys):
    """`a` and `b` differ in a hyperparameter alone, which is traced: they share a program."""
    assert run(["study", "four.yaml", "--only", "a", "b", *OUT]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("compiling one program for") == 1
    assert "still missing: 'c', which has not started\n" in printed.out
    report = (here / "runs" / "report.txt").read_text()
    assert report.count("still missing") == 2
    assert report.endswith("resume it with: maven-jax resume 'runs'\n")
    a, b = (load_setup(here / "runs" / name)[0].hyperparameters for name in "ab")
    assert (a.learning_rate, b.learning_rate) == (5e-4, 1e-3)
    before = contents(here / "runs", "[ab]/*.*")
    assert before["a/metrics.csv"] != before["b/metrics.csv"]
    assert run(["resume", "runs/c", "--no-tensorboard"]) == 0
    assert (here / "runs" / "report.txt").read_text().count("still missing") == 1
    capsys.readouterr()
    assert run(["study", "four.yaml", *OUT]) == 0
    assert compiled_in(capsys) == ["d: 3"]
    assert contents(here / "runs", "[ab]/*.*") == before
    report = (here / "runs" / "report.txt").read_text()
    assert "still missing" not in report
    assert [line.split()[0] for line in report.splitlines()[4:8]] == ["a", "b", "c", "d"]
    assert "of 3" in report
    (here / "runs" / "report.txt").unlink()
    for command in (["study", "four.yaml", *OUT], ["resume", "runs", "--no-tensorboard"]):
        capsys.readouterr()
        assert run(command) == 0, "all has finished: it is reported once more"
        assert (here / "runs" / "report.txt").read_text() == report
        assert "d " in capsys.readouterr().out
    for command in (["plot", "--out", "x.png"], ["export", "--out", "x.json"]):
        assert run([command[0], "runs", *command[1:]]) == 0
    capsys.readouterr()
    assert run(["table", "runs"]) == 0
    labels = re.findall(r"^ *(runs/\w) ", capsys.readouterr().out, re.MULTILINE)
    assert labels == ["runs/a", "runs/b", "runs/c", "runs/d"]


def start_and_kill(arguments: list[str], second: Path) -> None:
    """Runs a command in a process of its own and kills it once its second run has three rows."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maven_jax", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
    )
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        rows = second / "metrics.csv"
        if rows.is_file() and rows.read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.01)
    assert process.poll() is None, "it had ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert load_setup(second)[1]["status"] == "running"


def test_figure3_that_was_killed_resumes_bit_for_bit(tmp_path, capsys):
    """By the same command, as of a job that is requeued; and it tells what it shows."""
    command = ["figure3", "--seeds", "2", "--m", "3", "--steps", "1000", "--config", "smoke"]
    command += ["--no-tensorboard", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start_and_kill([*command, str(killed)], killed / "qmix")
    assert load_setup(killed / "maven")[1]["status"] == "finished"
    assert "still missing: 'maven_team'" in (killed / "report.txt").read_text()
    assert (killed / "figure3.png").is_file(), "the report is written after every finished run"
    assert run([*command, str(killed)]) == 0
    capsys.readouterr()
    assert run([*command, str(whole)]) == 0
    printed = capsys.readouterr().out
    for files in ("figure3.csv", "*/metrics.csv", "report.txt"):
        assert contents(killed, files) == contents(whole, files) != {}
    assert "nan" not in printed
    assert str(whole / "figure3.png") in printed
    assert (whole / "figure3.png").read_bytes().startswith(b"\x89PNG")
    words = " ".join(printed.split())
    for said in (
        "QMIX ends at a median of",
        "within 0.1 of the best return, 6",
        "2 seeds and 1,000 steps can tell who finds the best return early",
        "20 seeds, 100,000 steps and published MAVEN run maven-jax figure3.",
    ):
        assert said in words
    table = pd.read_csv(whole / "figure3.csv")
    assert set(table["algorithm"]) == {"maven", "qmix", "maven_team"}
    assert 1000 <= table["env_steps"].max() < 1130, "the first evaluation after the last step"


def test_packaged_studies_have_their_documented_runs():
    sizes = {"figure3": 3, "ten_step": 19, "foraging": 3, "smax": 3, "smax_2s3z": 3}
    sizes |= {"smax_3s_vs_5z": 3, "smax_6h_vs_8z": 3, "spread": 3, "warehouse": 3}
    assert {name: len(load_study(name).runs) for name in packaged_studies()} == sizes
    for name in ("figure3", "ten_step"):  # the others are tried by the tests of `--config`
        for study_run in load_study(name).runs.values():
            make_env(study_run.config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "the study is [1]; allowed: a mapping of report, seeds, steps, runs"),
        ("{run: {}}", "unknown key 'run'; did you mean 'runs'?"),
        ("{report: curve, runs: {a: {}}}", "unknown report 'curve'; did you mean 'curves'?"),
        ("{report: [a], runs: {a: {}}}", "unknown report ['a']; allowed: best_return, curves"),
        ("{seeds: 3}", "runs is None; allowed: a mapping of names to runs"),
        ("{runs: {}}", "runs is {}; allowed: a mapping of names to runs"),
        ("{runs: {a/b: {}}}", "the name of a run is 'a/b'; allowed: one that a folder can have"),
        ("{runs: {report.txt: {}}}", "the name of a run is 'report.txt'; allowed: one without"),
        ("{seeds: true, runs: {a: {}}}", "runs.a.seeds is True; allowed: a whole number"),
        ('{runs: {"": {}}}', "the name of a run is ''; allowed: one that a folder can have"),
        ('{runs: {"a\\0": {}}}', "the name of a run is 'a\\x00'; allowed: one that a folder"),
        ("{runs: {a: {}, b: {seeds: 3}}}", "runs.b is the same as runs.a; allowed: each once"),
        (
            "{runs: {a: {config: qmix, changes: {hyperparameters: {mi_weight: 1}}}}}",
            "runs.a: hyperparameters.mi_weight has no effect, since algorithm is qmix",
        ),
        (
            "{report: figure3, runs: {a: {}, b: {changes: {env: {options: {m: 5}}}}}}",
            "runs.b: env.options is {'good_branches': 2, 'm': 5}; allowed: those of all runs",
        ),
        ("{runs: {1: {}}}", "the name of a run is 1; allowed: one that a folder can have"),
        ("{runs: {a: 3}}", "runs.a is 3; allowed: a mapping of config, seeds, changes"),
        ("{runs: {a: {seed: 3}}}", "unknown key 'runs.a.seed'; did you mean 'runs.a.seeds'?"),
        ("{runs: {a: {seeds: 0}}}", "runs.a: seeds is 0; allowed: a whole number from 1 to 65536"),
        ("{runs: {a: {seeds: x}}}", "runs.a.seeds is 'x'; allowed: a whole number"),
        (
            "{runs: {a: {config: mavn}}}",
            f"runs.a: unknown config 'mavn'; did you mean 'maven'? {CUSTOM}",
        ),
        ("{runs: {a: {config: 1}}}", "runs.a.config is 1; allowed: a packaged name or a YAML"),
        ("{runs: {a: {changes: {latent: 1}}}}", "runs.a: latent is 1; allowed: a mapping"),
        ("{runs: {a: {grid: 3}}}", "runs.a: grid is 3; allowed: a mapping of fields to lists"),
        ("{runs: {a: {grid: {latent.size: 3}}}}", "runs.a: grid of latent.size is 3; allowed: a"),
        ("{runs: {a: {grid: {latent.size: [3, x]}}}}", "runs.a: latent.size is 'x'; allowed: a "),
        ("{runs: {a: {grid: {latent.sizes: [3]}}}}", "runs.a: unknown key 'latent.sizes'; did"),
        ("{runs: {a: {}}, steps: x}", "steps is 'x'; allowed: a whole number"),
        (
            "{report: figure3, runs: {a: {config: foraging}}}",
            "runs.a: env.name is 'level_based_foraging'; allowed: m_step_matrix",
        ),
        ("{runs: {a: {}, a: {}}}", "is not valid YAML: look at line 1"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_a_line(here, capsys, text, message):
    (here / "study.yaml").write_text(text)
    said = refused(capsys, "study", "study.yaml", "--out", "runs")
    assert said.startswith(f"study 'study.yaml': {message}")
    assert not (here / "runs").exists()


def test_whole_numbers_of_a_study_in_scientific_notation():
    study = parse_study({"steps": "2e3", "seeds": "2e0", "runs": {"a": {"config": "qmix"}}})
    assert study.runs["a"].config.training.total_env_steps == 2_000
    assert study.runs["a"].seeds == range(2)


GRID = """
report: best_return
seeds: 2
runs:
  a:
    config: small.yaml
    changes: {algorithm: vdn}
    grid: {training.batch_size: [2, 4], hyperparameters.gamma: [0.9, 1.0]}
"""


def test_a_run_of_a_study_has_a_grid(here, capsys):
    """A part for each value that fixes the program; a row of the report for each point."""
    study = here / "study.yaml"
    study.write_text(GRID)
    assert run(["study", "study.yaml", *OUT]) == 0
    parts = ["a,training.batch_size=2", "a,training.batch_size=4"]
    assert [part.name for part in parts_of(here / "runs")] == parts
    report = (here / "runs" / "report.txt").read_text()
    rows = re.findall(r"^  (a,\S+) ", report, re.MULTILINE)
    assert rows == [f"{part},gamma={gamma}" for part in parts for gamma in ("0.9", "1.0")]
    assert report.count("0 of 2") == 4, "the two seeds of each point"
    capsys.readouterr()
    study.write_text(GRID.replace("[2, 4]", "[2, 8]"))
    said = refused(capsys, "study", "study.yaml", *OUT)
    assert "holds another study: its runs are a,training.batch_size=2, a,training.batch" in said
    study.write_text(GRID.replace("[2, 4]", "[2, 400]"))
    said = refused(capsys, "study", "study.yaml", "--out", "other")
    assert "'study.yaml': runs.a: training.replay_size is 16; allowed: at least training" in said


def test_pictures_of_curves_stay_in_the_folder(tmp_path):
    """Whatever an environment is called in a part's configuration."""
    columns = {"seed": [0, 0], "return": [0, 1], "env_steps": [10, 20], "num_updates": [1, 2]}
    metrics = {name: np.array(column, float) for name, column in columns.items()}
    info = {"lanes": {"seed": [0]}, "status": "finished"}
    trained = Run(tmp_path / "a", Config(env=EnvConfig("../../x:Y")), info, metrics)
    assert REPORTS["curves"].draw({"a": trained}, tmp_path) == [tmp_path / "_x_Y.png"]
    assert (tmp_path / "_x_Y.png").is_file()


def test_options_that_cannot_be_are_refused_in_a_line(here, capsys):
    options = ["--out", "runs"]
    for arguments, message in (
        (["study", "figur3"], "unknown study 'figur3'; did you mean 'figure3'?"),
        (["study", "no.yaml"], "study 'no.yaml' is not a file"),
        (["study", "four.yaml", "--only", "e"], "unknown run of the study 'e'; allowed: a, b"),
        (["study", "four.yaml", "--seeds", "0"], "seeds is 0; allowed: a whole number from 1"),
        (["study", "four.yaml", "--seed", "-1"], "seed is -1; allowed: a whole number from 0"),
        (["study", "four.yaml", "--steps", "3"], "run 'a': training.total_env_steps is 3; allow"),
        (["study", "four.yaml", "--checkpoint.keep", "0"], "checkpoint.keep is 0; allowed"),
    ):
        assert refused(capsys, *arguments, *options).startswith(message)
    assert not (here / "runs").exists()
    (here / "runs").mkdir()
    assert refused(capsys, "study", "four.yaml", *options).startswith(
        "output folder 'runs' already exists"
    )


def test_another_study_is_not_mixed_into_a_folder(begun, capsys):
    before = contents(begun, "**/*.*")
    Path("fewer.yaml").write_text("runs: {a: {config: small.yaml}}\nreport: curves")
    for arguments, difference in (
        (["curves.yaml", "--seeds", "4"], "run 'a': seed is [0, 1] there, [0, 1, 2, 3] here"),
        (
            ["curves.yaml", "--steps", "70"],
            "run 'a': training.total_env_steps is 60 there, 70 here",
        ),
        (["four.yaml"], "its report is 'curves', not 'best_return'"),
        (["fewer.yaml"], "its runs are a, b, c, d"),
    ):
        said = refused(capsys, "study", *arguments, *OUT)
        assert said.startswith(f"'runs' holds another study: {difference}; choose ")
    assert contents(begun, "**/*.*") == before


def test_a_study_with_a_damaged_report_is_named(begun, capsys):
    sweep = begun / "sweep.json"
    whole = sweep.read_text()
    sweep.write_text(whole.replace("curves", "curvs"))
    assert refused(capsys, "resume", "runs").startswith("study 'runs' is damaged: its report is")
    sweep.write_text(whole.replace('"curves"', "3"))
    assert "report is 3; allowed: a name" in refused(capsys, "resume", "runs")
    sweep.write_text(whole)
    shutil.rmtree(begun / "d")
    assert "its part 'd' is missing" in refused(capsys, "resume", "runs")


def test_changes_of_options_leave_the_others(here):
    text = "runs: {a: {config: foraging, changes: {env: {options: {num_agents: 3}}}}}\nsteps: 5000"
    (here / "study.yaml").write_text(text)
    config = load_study("study.yaml").runs["a"].config
    packaged = load_config("foraging").env.options
    assert config.env.options["num_agents"] == 3
    assert config.env.options["time_limit"] == packaged["time_limit"] != 100
    assert config.training.total_env_steps == 5000
    own = text.replace("{num_agents: 3}}", "{num_agents: 3}}, training: {total_env_steps: 6000}")
    (here / "study.yaml").write_text(own)
    assert load_study("study.yaml").runs["a"].config.training.total_env_steps == 6000


def test_what_is_damaged_or_cannot_be_drawn_costs_no_more_than_itself(begun, capsys):
    """A sibling that is damaged is refused before others train, and left out of the report."""
    (begun / "m_step_matrix.png").unlink()
    (begun / "m_step_matrix.png").mkdir()
    assert any(line.startswith("not drawn: ") for line in write_report(begun).missing)
    (begun / "c" / "metrics.csv").write_text("seed\n")
    only_b = ["study", "curves.yaml", "--only", "b", *OUT]
    assert "'runs/c' is damaged" in refused(capsys, *only_b)
    assert load_setup(begun / "b")[1]["status"] == "waiting"
    *missing, damaged, last, resume = write_report(begun).missing
    assert missing == [f"still missing: '{name}', which has not started" for name in "ab"]
    assert damaged.startswith("left out: 'c': run ")
    assert last == "still missing: 'd', which has not started"
    assert resume == f"resume it with: maven-jax resume '{begun}'"
    with pytest.raises(ConfigError, match="unknown part 'e'"):
        plans.resume_plan(begun, only=["e"])


def plan_of(*names: str) -> plans.Plan:
    """Some runs of a study as a study of their own."""
    study = load_study("four.yaml")
    return plans.Plan(tuple(part for name in names for part in study.parts(name)), study.report)


def test_a_folder_in_which_another_process_trains_is_not_removed(here):
    """The first command fails before anything is learned; the second has taken the folder over."""
    runs, locked = here / "runs", []

    def fail_once_the_folder_is_there(config):
        if not runs.exists():
            return make_env(config)
        locked.append((runs / "c" / LOCK).open("w"))
        fcntl.flock(locked[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise StorageError("there is no room left")

    with pytest.raises(StorageError, match="no room left"):
        plans.train_plan(plan_of("a", "c"), runs, make_env=fail_once_the_folder_is_there)
    before = contents(runs, "*/config.yaml")
    assert before.keys() == {"a/config.yaml", "c/config.yaml"}
    with pytest.raises(StorageError, match="is being trained by another process"):
        extend(runs, 100)
    assert contents(runs, "*/config.yaml") == before
    locked.pop().close()


def test_a_part_that_another_process_trains_is_skipped(begun, capsys):
    with (begun / "b" / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(["study", "curves.yaml", "--only", "a", "b", *OUT]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("maven-jax: 'b' is skipped: another process trains it\n") == 1
    assert "still missing: 'b', which is being trained\n" in printed.out
    before = contents(begun, "*/metrics.csv")
    assert before.keys() == {"a/metrics.csv", "c/metrics.csv"}
    assert run(["resume", "runs", "--no-tensorboard"]) == 0
    after = contents(begun, "*/metrics.csv")
    assert after.keys() == {f"{name}/metrics.csv" for name in "abcd"}
    assert {name: after[name] for name in before} == before
    assert "still missing" not in (begun / "report.txt").read_text()


def test_two_processes_share_out_a_study(here):
    """Both begin with the folder, and neither trains what the other does."""
    command = [sys.executable, "-m", "maven_jax", "study", "four.yaml", "--no-tensorboard"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "COLUMNS": "200"}
    environment["PYTHONPATH"] = str(Path(maven_jax.__file__).parent.parent)
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([*command, "--out", "runs"], env=environment, **options) for _ in "12"
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    for name in "abcd":
        assert load_setup(here / "runs" / name)[1]["status"] == "finished"
        assert not (here / "runs" / name / "metrics-1.csv").exists()
    assert sum("9 runs in 4 parts" in text for text in said) == 1
    assert "still missing" not in (here / "runs" / "report.txt").read_text()
    assert not list(here.glob(".draft-*"))


def test_of_two_that_make_a_folder_at_once_one_does(here):
    """Both have seen that it is not there."""
    meet = Barrier(2)

    def make_together(config):
        meet.wait(120)
        return make_env(config)

    def open_folder(_):
        return plans.open_plan(plan_of("a"), here / "runs", Options(), make_together)

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(open_folder, range(2))) == [False, True]
    assert load_setup(here / "runs" / "a")[0] == plan_of("a").parts[0].config
    assert not list(here.glob(".draft-*"))
