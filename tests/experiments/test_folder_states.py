"""Every state that a folder can be in, and what each command that reads one makes of it.

All states are copies of one trained run, edited to what a process would have left there.
"""

import fcntl
import json
import re
import shutil
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from rich.console import Console
from small_experiments import assert_same_results, contents, edit_info, forget_config, read_info

from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError
from maven_jax.experiments.array_files import named_arrays
from maven_jax.experiments.evaluating import trained_weights
from maven_jax.experiments.lock import LOCK
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import resume_plan
from maven_jax.experiments.run import load_run
from maven_jax.experiments.weights import read_weights

pytestmark = pytest.mark.slow


class State(NamedTuple):
    """How a folder is made of a finished run's, and what the commands say of it."""

    status: str
    without: tuple[str, ...] = ()
    edit: str = ""
    locked: bool = False
    resume: str = ""
    """What is said where the command is refused; it succeeds where this is empty."""
    evaluate: str = ""
    read: str = ""
    """`plot`, `table` and `export`."""
    beside: str = ""
    """What `evaluate` says beside its table."""


RESUME = "resume it with: maven-jax resume 'RUN'"
NO_ROW = "run 'RUN' has no evaluation yet: it "
BEGINS = NO_ROW + "has not started; start it with: maven-jax resume 'RUN'"
KILLED = NO_ROW + f"was killed; {RESUME}"
TRAINED = NO_ROW + "is being trained"
BUSY = "run 'RUN' is being trained by another process"
FINISHED = "run 'RUN' has already finished; to train longer, if "
EDITED = "run 'RUN' is damaged: config.yaml is not what training wrote"
OF_N = "; these are its weights after N of N evaluations"
DAMAGED = "run 'RUN' is damaged: "
NO_RUN = "'RUN' is no run's folder: config.yaml is missing"
FAILED = NO_ROW + f"failed; {RESUME}"
GONE = DAMAGED + "metrics.csv is missing"
OTHER_LANES = DAMAGED + "metrics.csv holds other lanes than run.json names"
WEIGHTS, CHECKPOINTS = ("weights.npz",), ("checkpoints",)
ALL = ("checkpoints", "weights.npz", "metrics.csv", "figures")


def unseen(status: str, edit: str, locked: bool, said: str, resume: str = "") -> State:
    """A run of which there is nothing to read yet."""
    return State(status, ALL, edit, locked, resume, evaluate=said, read=said)


def being_trained(edit: str = "") -> State:
    beside = "run 'RUN' is being trained" + OF_N
    return State("running", WEIGHTS, edit, True, resume=BUSY, beside=beside)


def broken(status: str, edit: str, message: str, resume: str = "", without=()) -> State:
    """A run that no command reads."""
    return State(status, without, edit, False, resume or message, message, message)


STATES = {
    "waiting": unseen("waiting", "", False, BEGINS),
    "compiling": unseen("waiting", "", True, TRAINED, BUSY),
    "running": being_trained(),
    "running, a row half written": being_trained("half a row"),
    "running, no row": unseen("running", "no row", True, TRAINED, BUSY),
    "interrupted": State("interrupted"),
    "killed": State("running", WEIGHTS, beside=f"run 'RUN' was killed; {RESUME}" + OF_N),
    "killed, no checkpoint": State(
        "running",
        ("weights.npz", "checkpoints"),
        evaluate=f"run 'RUN' has no weights yet: it was killed; {RESUME}",
    ),
    "killed before a row": unseen("running", "no row", False, KILLED),
    "killed before metrics": unseen("running", "", False, KILLED),
    "interrupted, resumed, killed": State(
        "running", edit="old weights", beside=f"run 'RUN' was killed; {RESUME}" + OF_N
    ),
    "failed": State("failed", WEIGHTS, beside=f"run 'RUN' failed; {RESUME}" + OF_N),
    "failed before a row": unseen("failed", "", False, FAILED),
    "finished": State("finished", CHECKPOINTS, resume=FINISHED),
    "finished, checkpoints kept": State("finished", resume=FINISHED),
    "finished, one lane diverged": State(
        "finished", CHECKPOINTS, "a lane diverged", resume=FINISHED
    ),
    "converted": State(
        "converted",
        CHECKPOINTS,
        resume="run 'RUN' was converted and cannot be resumed; to start from its weights use ",
    ),
    "weights gone": State(
        "finished",
        ("checkpoints", "weights.npz"),
        resume=FINISHED,
        evaluate="run 'RUN' has no weights",
    ),
    "weights changed": State(
        "finished",
        CHECKPOINTS,
        "weights changed",
        resume=FINISHED,
        evaluate="weights of run 'RUN' are damaged: ",
    ),
    "weights changed, checkpoints kept": State(
        "finished", (), "weights changed", resume=FINISHED, beside="run 'RUN' has finished" + OF_N
    ),
    "metrics gone": broken("finished", "", GONE, FINISHED, ("metrics.csv",)),
    "metrics gone, killed": broken(
        "running",
        "",
        GONE,
        "run 'RUN' cannot be resumed: metrics.csv cannot be read: No such file",
        ("metrics.csv",),
    ),
    "metrics cut, killed": broken(
        "running",
        "metrics cut",
        DAMAGED + "metrics.csv: ",
        "run 'RUN' cannot be resumed: metrics.csv was cut to ",
    ),
    "run.json gone": broken("finished", "", DAMAGED + "run.json is missing", without=("run.json",)),
    "config.yaml gone": broken(
        "finished", "", DAMAGED + "config.yaml is missing", without=("config.yaml",)
    ),
    "config.yaml without its last sections": broken(
        "interrupted",
        "sections cut",
        DAMAGED + "config.yaml: its last section, hyperparameters, is missing: the rest",
    ),
    "config.yaml cut within a line": broken(
        "interrupted",
        "a line cut",
        DAMAGED + "config.yaml: it ends within a line: the rest was cut off",
    ),
    "metrics cut within the last row": broken(
        "finished",
        "a row cut",
        DAMAGED + "metrics.csv: it ends within a row: the rest was cut off",
        FINISHED,
    ),
    "config.yaml of another network": broken("interrupted", "another network", EDITED),
    "run.json of other seeds": broken(
        "interrupted",
        "other seeds",
        OTHER_LANES,
        DAMAGED + "the lanes in run.json differ from those in checkpoint '",
    ),
    "run.json of the seeds in another order": State(
        "interrupted",
        edit="seeds swapped",
        evaluate=DAMAGED + "the lanes in run.json differ from those in checkpoint '",
        resume=DAMAGED + "the lanes in run.json differ from those in checkpoint '",
    ),
    "no run": broken("finished", "", NO_RUN, without=(*ALL, "config.yaml", "run.json")),
}


def put(trained: Path, path: Path, state: State, stack: ExitStack) -> None:
    """Makes the folder of a state."""
    shutil.copytree(trained, path)
    info = read_info(path) | {"status": state.status}
    config, metrics = (path / "config.yaml").read_text(), (path / "metrics.csv").read_bytes()
    weights = (path / "weights.npz").read_bytes()
    rows = metrics.splitlines(keepends=True)
    if state.status in ("waiting", "running", "failed"):
        del info["metrics_csv"]
    match state.edit:
        case "half a row":
            metrics += b"0,12"
        case "a lane diverged":
            info["diverged"] = [{"seed": int(rows[-1].split(b",")[0]), "num_updates": 5}]
            metrics = b"".join(rows[:-1])
            info["metrics_csv"] |= {"length": len(metrics), "checksum": zlib.crc32(metrics)}
        case "sections cut":
            config = config[: config.index("\nevaluation:") + 1]
        case "another network":
            config = config.replace("hidden_size: 8", "hidden_size: 6")
        case "a line cut":
            config = config[:-2]
        case "a row cut":
            metrics = metrics[:-3]
        case "metrics cut":
            metrics = metrics[:40]
        case "no row":
            metrics = b""
        case "other seeds":
            info["lanes"]["seed"] = [0, 3]
        case "seeds swapped":
            info["lanes"]["seed"].reverse()
        case "weights changed":
            half = len(weights) // 2
            weights = weights[:half] + bytes([weights[half] ^ 1]) + weights[half + 1 :]
    (path / "config.yaml").write_text(config)
    (path / "metrics.csv").write_bytes(metrics)
    (path / "weights.npz").write_bytes(weights)
    (path / "run.json").write_text(json.dumps(info))
    if state.edit == "old weights":
        old = {name: 0 * array for name, array in np.load(path / "weights.npz").items()}
        np.savez(path / "weights.npz", **old | {"num_chunks": 1})
    for name in state.without:
        target = path / name
        if target.is_dir():
            shutil.rmtree(target)
        elif state.edit != "no row" or name != "metrics.csv":
            target.unlink(missing_ok=True)
    if state.locked:
        file = stack.enter_context((path / LOCK).open("w"))
        fcntl.flock(file, fcntl.LOCK_EX)


def outcome(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def fits(expected: str, text: str, path: Path) -> bool:
    pattern = re.escape(expected).replace("RUN", re.escape(str(path)))
    return re.search(pattern.replace("N\\ of\\ N", r"(\d+)\ of\ \1"), text) is not None


def check(capsys, expected: str, path: Path, *arguments) -> str:
    """That the command succeeds, or is refused in one line that begins as expected."""
    code, out, err = outcome(capsys, *arguments)
    if not expected:
        assert code == 0, err
        return err
    assert code == 2, out
    assert err.splitlines()[-1].startswith("maven-jax: error: ")
    assert fits("maven-jax: error: " + expected, err, path), err
    assert "Traceback" not in err
    return err


def check_readers(capsys, expected: str, path: Path, folder: Path) -> str:
    """What `table`, `plot` and `export` say; they load alike, so one is enough that succeeds."""
    for number, command in enumerate(("plot", "export") if expected else ()):
        check(capsys, expected, path, command, path, "--out", folder / f"out{number}.png")
    return check(capsys, expected, path, "table", path)


def trained_over(state: State, exists: str) -> str:
    """What is said of the same configuration with eight seeds, trained into the folder."""
    if "run.json" in state.without:
        return exists
    if state.evaluate.startswith(DAMAGED + "config.yaml"):
        return state.evaluate
    if state.status == "converted":
        return "'RUN' holds another run: its weights were converted, not trained; choose a new path"
    return "'RUN' holds another run: seed is ["


@pytest.mark.parametrize("name", STATES)
def test_every_command_of_every_state(name, trained, tmp_path, capsys):
    """Apart from `resume` where it succeeds; whatever was refused or read is as it was."""
    state, path = STATES[name], tmp_path / "run"
    with ExitStack() as stack:
        put(trained, path, state, stack)
        before = contents(path)
        check_readers(capsys, state.read, path, tmp_path)
        said = check(capsys, state.evaluate, path, "evaluate", path, "--episodes", 2)
        assert fits(state.beside, said, path), said
        assert state.beside or state.evaluate or not said
        exists = f"output folder '{path}' already exists; choose a new path"
        another = trained_over(state, exists)
        check(capsys, another, path, "train", trained.parent / "qmix.yaml", "--out", path)
        check(capsys, exists, path, "convert", tmp_path, "--config", "qmix", "--out", path)
        if state.resume:
            check(capsys, state.resume, path, "resume", path, "--no-tensorboard")
        assert contents(path) == before


def test_whatever_can_be_resumed_ends_bit_for_bit(trained, tmp_path):
    """All in one sweep, whose parts share a program; rows without a checkpoint are set aside."""
    names = [name for name, state in STATES.items() if not state.resume]
    assert len(names) == 9
    for name in names:
        put(trained, tmp_path / name, STATES[name], ExitStack())
    (tmp_path / "sweep.json").write_text(json.dumps({"parts": names}))
    resume_plan(tmp_path, Options(console=Console(quiet=True)))
    for name in names:
        assert read_info(tmp_path / name)["status"] == "finished"
        assert_same_results(tmp_path / name, trained)
        aside = (tmp_path / name / "metrics-1.csv").exists()
        assert aside == (name == "killed, no checkpoint")


AGAIN = {
    "interrupted": "'RUN' exists; it is resumed",
    "finished": "'RUN' has finished; there is nothing to train",
    "running": "run 'RUN' is being trained by another process",
}


@pytest.mark.parametrize("name", AGAIN)
def test_the_same_command_once_more(name, trained, tmp_path, capsys):
    """As a job that is requeued: it resumes, or has finished and changes nothing."""
    path = tmp_path / "run"
    command = ["train", trained.parent / "qmix.yaml", "--seeds", 2, "--no-tensorboard"]
    with ExitStack() as stack:
        put(trained, path, STATES[name], stack)
        before = contents(path)
        code, out, err = outcome(capsys, *command, "--out", path)
    assert code == (2 if STATES[name].locked else 0), err
    assert fits(AGAIN[name], err, path), err
    if name == "interrupted":
        assert_same_results(path, trained)
    else:
        assert contents(path) == before
    if code == 0:
        assert out.count(f"results in {path}/") == 1


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        (["--seeds", 3], "seed is [0, 1] there, [0, 1, 2] here; choose a new path, or"),
        (["--seed", 1], "seed is [0, 1] there, [1, 2] here; choose a new path, or"),
        (["--hyperparameters.gamma", 0.5], "hyperparameters.gamma is 0.99 there, 0.5 here; choose"),
        (["--env.options.m", 4], "env.options.m is 3 there, 4 here; choose"),
        (["--training.total-env-steps", 90], "training.total_env_steps is 60 there, 90 here; choo"),
        (["--algorithm", "vdn"], "algorithm is 'qmix' there, 'vdn' here; choose"),
        (["--init-from"], "it starts from new weights; choose"),
    ],
)
def test_another_command_is_not_mixed_into_a_run(arguments, difference, trained, tmp_path, capsys):
    with ExitStack() as stack:
        put(trained, tmp_path / "run", STATES["interrupted"], stack)
    before = contents(tmp_path)
    command = ["train", trained.parent / "qmix.yaml", "--seeds", 2, "--out", tmp_path / "run"]
    arguments = [*arguments, trained] if arguments == ["--init-from"] else arguments
    message = f"'RUN' holds another run: {difference}"
    check(capsys, message, tmp_path / "run", *command, *arguments)
    grid = ["--grid", "network.hidden_size=2,3"]
    message = "'RUN' holds another sweep: it is a single run; choose a new path"
    check(capsys, message, tmp_path / "run", "sweep", *command[1:], *grid)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("status", ["finished", "interrupted"])
@pytest.mark.parametrize(
    "name", ["metrics cut, killed", "run.json of other seeds", "config.yaml of another network"]
)
def test_more_steps_are_refused_before_anything_changes(name, status, trained, tmp_path, capsys):
    """The checkpoints of a run are of other rows or lanes: it stays as it is, and as long."""
    state, path = STATES[name]._replace(status=status), tmp_path / "run"
    with ExitStack() as stack:
        put(trained, path, state, stack)
    before = contents(path)
    longer = ("--no-tensorboard", "--training.total-env-steps", 90)
    check(capsys, state.resume, path, "resume", path, *longer)
    assert contents(path) == before


SWEEPS = {
    "a finished, a running and a waiting part": (
        ["finished", "running", "waiting"],
        "",
        [
            "part 'b' of sweep 'RUN' is being trained; it is missing here",
            "part 'c' of sweep 'RUN' waits for its turn in a sweep that is being trained; it is",
        ],
    ),
    "a finished and a killed part": (
        ["finished", "killed"],
        "",
        [
            "part 'b' of sweep 'RUN' was killed; resume it with: maven-jax resume 'RUN/b'; it is "
            "missing"
        ],
    ),
    "a running part alone": (
        ["running", "waiting"],
        "",
        ["part 'a' of sweep 'RUN' is being trained; its rows so far are used"],
    ),
    "nothing yet": (
        ["compiling", "waiting"],
        "",
        "sweep 'RUN' has no evaluation yet: its part 'a' is being trained",
    ),
    "finished": (
        ["finished", "finished, one lane diverged"],
        "sweep 'RUN' has already finished",
        [],
    ),
    "a damaged and a killed part": (
        ["metrics gone", "killed"],
        "run 'PART 0' is damaged: metrics.csv is missing",
        "run 'RUN/a' is damaged: metrics.csv is missing",
    ),
    "a damaged part": (
        ["finished", "metrics gone"],
        "sweep 'RUN' has already finished",
        "run 'RUN/b' is damaged: metrics.csv is missing",
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_command_of_sweeps_of_such_parts(name, trained, tmp_path, capsys):
    parts, resume, read = SWEEPS[name]
    path, names = tmp_path / "sweep", ["a", "b", "c"][: len(SWEEPS[name][0])]
    path.mkdir()
    with ExitStack() as stack:
        for part, state in zip(names, parts, strict=True):
            put(trained, path / part, STATES[state], stack)
            weight = {"hyperparameters.mi_weight": ord(part) / 1000}  # which QMIX does not read
            edit_info(path / part, without="config_yaml", coordinates=weight)
            config = yaml.safe_load((path / part / "config.yaml").read_text())
            config["hyperparameters"]["mi_weight"] = ord(part) / 1000
            (path / part / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (path / "sweep.json").write_text(json.dumps({"parts": names}))
        before = contents(path)
        said = check_readers(capsys, read if isinstance(read, str) else "", path, tmp_path)
        for line in read if isinstance(read, list) else []:
            assert fits("maven-jax: " + line, said, path), said
        a_part = "'RUN' is a sweep of several programs; allowed: one of 'RUN/a', 'RUN/b'"
        check(capsys, a_part, path, "evaluate", path)
        if resume:
            resume = re.sub("PART (.)", lambda found: f"{path}/{names[int(found[1])]}", resume)
            check(capsys, resume, path, "resume", path, "--no-tensorboard")
        assert contents(path) == before
        if not resume:
            said = check(capsys, "", path, "resume", path, "--no-tensorboard")
            for part, state in zip(names, parts, strict=True):
                skipped = f"maven-jax: '{part}' is skipped: another process trains it\n" in said
                assert skipped == STATES[state].locked
                if skipped:
                    assert contents(path / part).items() <= before.items()
                else:
                    assert_same_results(path / part, trained)


NO_NAMES = ["..", ".", "", "a/../b", "/tmp", "..\\b", ".a", 1, "a\nb", "\ud800", "a" * 300]


@pytest.mark.parametrize("parts", [*([name] for name in NO_NAMES), ["a", "a"]])
def test_parts_that_are_no_folders_of_the_sweep_are_damage(parts, trained, tmp_path, capsys):
    path = tmp_path / "sweep"
    for folder in (path / "a", tmp_path / "b"):
        shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints"))
    for report in ({}, {"report": "curves"}):
        (path / "sweep.json").write_text(json.dumps({"parts": parts} | report))
        before = contents(tmp_path)
        message = "sweep 'RUN' is damaged: sweep.json: parts is ["
        for command in ("table", "plot", "resume", "evaluate"):
            check(capsys, message, path, command, path)
        again = [trained.parent / "qmix.yaml", "--seeds", 2, "--grid", "network.hidden_size=2,3"]
        check(capsys, message, path, "sweep", *again, "--out", path)
        assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("b", "its part 'linked' is a link; allowed: a folder"),
        ("sweep/a", "its part 'linked' is a link; allowed: a folder"),
        (None, "its part 'linked' is missing"),
    ],
)
def test_a_part_that_is_missing_or_a_link_is_damage(target, message, trained, tmp_path, capsys):
    path = tmp_path / "sweep"
    shutil.copytree(trained, path / "a")
    shutil.copytree(trained, tmp_path / "b")
    if target:
        (path / "linked").symlink_to(tmp_path / target)
    (path / "sweep.json").write_text('{"parts": ["a", "linked"]}')
    for command in ("table", "resume"):
        check(capsys, f"sweep 'RUN' is damaged: {message}", path, command, path)


@pytest.mark.parametrize("state", ["finished", "interrupted, resumed, killed"])
def test_trained_weights_are_the_newest_on_disk(state, trained, tmp_path):
    """As trees with an axis of seeds; those of an interruption before the last checkpoint lose."""
    put(trained, tmp_path / "run", STATES[state], ExitStack())
    run, said = load_run(tmp_path / "run"), []
    params, latent_params = trained_weights(run, make_env(run.config), said.append)
    assert latent_params == {}
    assert len(said) == (state != "finished")
    found = named_arrays(params)
    for name, array in read_weights(trained).arrays.items():
        np.testing.assert_array_equal(found.pop(name.removeprefix("params/")), array)
    assert not any(leaf.size for leaf in found.values())


def test_trained_weights_of_another_configuration_are_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    values = yaml.safe_load(file.read_text())
    values["network"]["hidden_size"] += 1
    file.write_text(yaml.safe_dump(values))
    forget_config(tmp_path / "run")
    other = load_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"do not fit its config.yaml: array 'params/agent/.*' h"):
        trained_weights(other, make_env(other.config))
