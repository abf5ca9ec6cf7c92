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
from small_experiments import SMALL, forget_config

from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError
from maven_jax.experiments.archives import named_arrays
from maven_jax.experiments.evaluating import trained_weights
from maven_jax.experiments.folder import checkpoint_files
from maven_jax.experiments.lock import LOCK
from maven_jax.experiments.run import load_run
from maven_jax.experiments.weights import read_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished run of two seeds that kept its last two checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "qmix.yaml").write_text(SMALL.format(algorithm="qmix"))
    arguments = ["train", f"{folder}/qmix.yaml", "--seeds", "2", "--out", f"{folder}/run"]
    options = ["--no-tensorboard", "--checkpoint.updates", "1", "--checkpoint.keep-final"]
    assert run([*arguments, *options]) == 0
    assert len(checkpoint_files(folder / "run")) == 2
    return folder / "run"


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
FINISHED = "run 'RUN' has already finished; to train longer, raise "
EDITED = "run 'RUN' is damaged: config.yaml is not what training wrote"
OF_N = "; these are its weights after N of N evaluations"
DAMAGED = "run 'RUN' is damaged: "
ALL = ("checkpoints", "weights.npz", "metrics.csv", "figures")

STATES = {
    "waiting": State("waiting", ALL, evaluate=BEGINS, read=BEGINS),
    "compiling": State("waiting", ALL, locked=True, resume=BUSY, evaluate=TRAINED, read=TRAINED),
    "running": State(
        "running",
        ("weights.npz",),
        locked=True,
        resume=BUSY,
        beside="run 'RUN' is being trained" + OF_N,
    ),
    "running, a row half written": State(
        "running",
        ("weights.npz",),
        "half a row",
        locked=True,
        resume=BUSY,
        beside="run 'RUN' is being trained" + OF_N,
    ),
    "running, no row": State(
        "running", ALL, "no row", locked=True, resume=BUSY, evaluate=TRAINED, read=TRAINED
    ),
    "interrupted": State("interrupted"),
    "killed": State("running", ("weights.npz",), beside=f"run 'RUN' was killed; {RESUME}" + OF_N),
    "killed, no checkpoint": State(
        "running",
        ("weights.npz", "checkpoints"),
        evaluate=f"run 'RUN' has no weights yet: it was killed; {RESUME}",
    ),
    "killed before a row": State("running", ALL, "no row", evaluate=KILLED, read=KILLED),
    "killed before metrics": State("running", ALL, evaluate=KILLED, read=KILLED),
    "interrupted, resumed, killed": State(
        "running", (), "old weights", beside=f"run 'RUN' was killed; {RESUME}" + OF_N
    ),
    "failed": State("failed", ("weights.npz",), beside=f"run 'RUN' failed; {RESUME}" + OF_N),
    "failed before a row": State(
        "failed",
        ALL,
        evaluate=NO_ROW + f"failed; {RESUME}",
        read=NO_ROW + f"failed; {RESUME}",
    ),
    "finished": State("finished", ("checkpoints",), resume=FINISHED),
    "finished, checkpoints kept": State("finished", resume=FINISHED),
    "finished, one lane diverged": State(
        "finished", ("checkpoints",), "a lane diverged", resume=FINISHED
    ),
    "converted": State(
        "converted",
        ("checkpoints",),
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
        ("checkpoints",),
        "weights changed",
        resume=FINISHED,
        evaluate="weights of run 'RUN' are damaged: ",
    ),
    "weights changed, checkpoints kept": State(
        "finished", (), "weights changed", resume=FINISHED, beside="run 'RUN' has finished" + OF_N
    ),
    "metrics gone": State(
        "finished",
        ("metrics.csv",),
        resume=FINISHED,
        evaluate=DAMAGED + "metrics.csv is missing",
        read=DAMAGED + "metrics.csv is missing",
    ),
    "metrics gone, killed": State(
        "running",
        ("metrics.csv",),
        resume="run 'RUN' cannot be resumed: metrics.csv cannot be read: No such file",
        evaluate=DAMAGED + "metrics.csv is missing",
        read=DAMAGED + "metrics.csv is missing",
    ),
    "metrics cut, killed": State(
        "running",
        (),
        "metrics cut",
        resume="run 'RUN' cannot be resumed: metrics.csv was cut to ",
        evaluate=DAMAGED + "metrics.csv: ",
        read=DAMAGED + "metrics.csv: ",
    ),
    "run.json gone": State(
        "finished",
        ("run.json",),
        resume=DAMAGED + "run.json is missing",
        evaluate=DAMAGED + "run.json is missing",
        read=DAMAGED + "run.json is missing",
    ),
    "config.yaml gone": State(
        "finished",
        ("config.yaml",),
        resume=DAMAGED + "config.yaml is missing",
        evaluate=DAMAGED + "config.yaml is missing",
        read=DAMAGED + "config.yaml is missing",
    ),
    "config.yaml without its last sections": State(
        "interrupted",
        (),
        "sections cut",
        resume=DAMAGED + "config.yaml: its last section, hyperparameters, is missing: the rest",
        evaluate=DAMAGED + "config.yaml: its last section, hyperparameters, is missing: the rest",
        read=DAMAGED + "config.yaml: its last section, hyperparameters, is missing: the rest",
    ),
    "config.yaml cut within a line": State(
        "interrupted",
        (),
        "a line cut",
        resume=DAMAGED + "config.yaml: it ends within a line: the rest was cut off",
        evaluate=DAMAGED + "config.yaml: it ends within a line",
        read=DAMAGED + "config.yaml: it ends within a line",
    ),
    "metrics cut within the last row": State(
        "finished",
        (),
        "a row cut",
        resume=FINISHED,
        evaluate=DAMAGED + "metrics.csv: it ends within a row: the rest was cut off",
        read=DAMAGED + "metrics.csv: it ends within a row: the rest was cut off",
    ),
    "config.yaml of another network": State(
        "interrupted",
        (),
        "another network",
        resume=EDITED,
        evaluate=EDITED,
        read=EDITED,
    ),
    "run.json of other seeds": State(
        "interrupted",
        (),
        "other seeds",
        resume=DAMAGED + "run.json names other lanes than checkpoint '",
        evaluate=DAMAGED + "metrics.csv holds other lanes than run.json names",
        read=DAMAGED + "metrics.csv holds other lanes than run.json names",
    ),
    "run.json of the seeds in another order": State(
        "interrupted",
        (),
        "seeds swapped",
        resume=DAMAGED + "run.json names other lanes than checkpoint '",
    ),
    "no run": State(
        "finished",
        (*ALL, "config.yaml", "run.json"),
        resume="'RUN' is no run's folder: config.yaml is missing",
        evaluate="'RUN' is no run's folder: config.yaml is missing",
        read="'RUN' is no run's folder: config.yaml is missing",
    ),
}


def put(trained: Path, path: Path, state: State, stack: ExitStack) -> None:
    """Makes the folder of a state."""
    shutil.copytree(trained, path)
    info = json.loads((path / "run.json").read_text()) | {"status": state.status}
    metrics = path / "metrics.csv"
    if state.status in ("waiting", "running", "failed"):
        del info["metrics_csv"]
    match state.edit:
        case "half a row":
            with metrics.open("a") as file:
                file.write("0,12")
        case "a lane diverged":
            lines = metrics.read_text().splitlines(keepends=True)
            last = int(lines[-1].split(",")[0])
            metrics.write_text("".join(lines[:-1]), newline="")
            whole = metrics.read_bytes()
            info["metrics_csv"] |= {"length": len(whole), "checksum": zlib.crc32(whole)}
            info["diverged"] = [{"seed": last, "num_updates": 5}]
        case "sections cut":
            config = (path / "config.yaml").read_text()
            (path / "config.yaml").write_text(config[: config.index("\nevaluation:") + 1])
        case "another network":
            config = (path / "config.yaml").read_text()
            (path / "config.yaml").write_text(config.replace("hidden_size: 8", "hidden_size: 6"))
        case "a line cut":
            config = (path / "config.yaml").read_text()
            (path / "config.yaml").write_text(config[:-2])
        case "a row cut":
            metrics.write_bytes(metrics.read_bytes()[:-3])
        case "other seeds":
            info["lanes"]["seed"] = [0, 3]
        case "seeds swapped":
            info["lanes"]["seed"].reverse()
        case "metrics cut":
            metrics.write_bytes(metrics.read_bytes()[:40])
        case "weights changed":
            changed = bytearray((path / "weights.npz").read_bytes())
            changed[len(changed) // 2] ^= 1
            (path / "weights.npz").write_bytes(changed)
        case "old weights":
            old = dict(np.load(path / "weights.npz")) | {"num_chunks": 1}
            np.savez(path / "weights.npz", **old)
    (path / "run.json").write_text(json.dumps(info))
    for name in state.without:
        target = path / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    if state.edit == "no row":
        metrics.touch()
    if state.locked:
        file = stack.enter_context((path / LOCK).open("w"))
        fcntl.flock(file, fcntl.LOCK_EX)


def outcome(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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


def contents(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


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
    state, path = STATES[name], tmp_path / "run"
    with ExitStack() as stack:
        put(trained, path, state, stack)
        before = contents(path)
        for number, command in enumerate(("table", "plot", "export")):
            out = [] if command == "table" else ["--out", tmp_path / f"out{number}.png"]
            check(capsys, state.read, path, command, path, *out)
        said = check(capsys, state.evaluate, path, "evaluate", path, "--episodes", 2)
        assert fits(state.beside, said, path), said
        assert state.beside or state.evaluate or not said
        exists = f"output folder '{path}' already exists; choose a new path"
        another = trained_over(state, exists)
        check(capsys, another, path, "train", trained.parent / "qmix.yaml", "--out", path)
        check(capsys, exists, path, "convert", tmp_path, "--config", "qmix", "--out", path)
        if state.resume:
            check(capsys, state.resume, path, "resume", path, "--no-tensorboard")
        assert contents(path) == before, "whatever was refused or read is as it was"
        if not state.resume:
            check(capsys, "", path, "resume", path, "--no-tensorboard")
            assert load_run(path).info["status"] == "finished"
            same(path, trained)
            had_rows = sum(data.count(b"\n") > 1 for p, data in before.items() if "metrics" in p)
            kept = "checkpoints" in state.without and had_rows
            assert (path / "metrics-1.csv").exists() == bool(kept)


AGAIN = {
    "waiting": "'RUN' exists; it is resumed",
    "interrupted": "'RUN' exists; it is resumed",
    "killed": "'RUN' exists; it is resumed",
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
    if name in ("finished", "running"):
        assert contents(path) == before
    else:
        same(path, trained)
    if code == 0:
        assert out.count(f"results in {path}/") == 1


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        (["--seeds", 3], "seed is [0, 1] there, [0, 1, 2] here; choose a new path, or"),
        (["--seed", 1], "seed is [0, 1] there, [1, 2] here; choose a new path, or"),
        (["--hyperparameters.gamma", 0.5], "hyperparameters.gamma is 0.99 there, 0.5 here; choose"),
        (["--env.options.m", 4], "env.options.m is 3 there, 4 here; choose"),
        (
            ["--training.total-env-steps", 90],
            "training.total_env_steps is 60 there, 90 here; choose",
        ),
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


def same(one: Path, other: Path) -> None:
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    mine, theirs = read_weights(one).arrays, read_weights(other).arrays
    assert mine.keys() == theirs.keys()
    for array, value in theirs.items():
        np.testing.assert_array_equal(mine[array], value)


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
            info = json.loads((path / part / "run.json").read_text())
            info["coordinates"] = {"latent.size": ord(part)}
            info.pop("config_yaml")
            (path / part / "run.json").write_text(json.dumps(info))
            config = yaml.safe_load((path / part / "config.yaml").read_text())
            config["latent"]["size"] = ord(part)
            (path / part / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (path / "sweep.json").write_text(json.dumps({"parts": names}))
        before = contents(path)
        for number, command in enumerate(("table", "plot", "export")):
            out = [] if command == "table" else ["--out", tmp_path / f"out{number}.png"]
            said = check(capsys, read if isinstance(read, str) else "", path, command, path, *out)
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
                    kept = {name: data for name, data in before.items() if f"/{part}/" in name}
                    assert contents(path / part) == kept
                else:
                    same(path / part, trained)


NAMES = {
    "a folder above": [".."],
    "the folder itself": ["."],
    "nothing": [""],
    "a path": ["a/../b"],
    "an absolute path": ["/tmp"],
    "a path of another system": ["..\\b"],
    "a hidden folder": [".a"],
    "no text": [1],
    "a line break": ["a\nb"],
    "a surrogate": ["\ud800"],
    "twice the same": ["a", "a"],
    "too long": ["a" * 300],
}


@pytest.mark.parametrize("name", NAMES)
def test_parts_that_are_no_folders_of_the_sweep_are_damage(name, trained, tmp_path, capsys):
    path = tmp_path / "sweep"
    shutil.copytree(trained, path / "a")
    shutil.copytree(trained, tmp_path / "b")
    for report in ({}, {"report": "curves"}):
        (path / "sweep.json").write_text(json.dumps({"parts": NAMES[name]} | report))
        before = contents(tmp_path)
        message = "sweep 'RUN' is damaged: sweep.json: parts is ["
        for command in (["table", path], ["plot", path], ["resume", path], ["evaluate", path]):
            check(capsys, message, path, *command)
        again = [trained.parent / "qmix.yaml", "--seeds", 2, "--grid", "network.hidden_size=2,3"]
        check(capsys, message, path, "sweep", *again, "--out", path)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("target", ["b", "sweep/a"])
def test_a_part_that_is_a_link_is_damage(target, trained, tmp_path, capsys):
    path = tmp_path / "sweep"
    shutil.copytree(trained, path / "a")
    shutil.copytree(trained, tmp_path / "b")
    (path / "linked").symlink_to(tmp_path / target)
    (path / "sweep.json").write_text('{"parts": ["a", "linked"]}')
    for command in ("table", "resume", "evaluate"):
        message = "sweep 'RUN' is damaged: its part 'linked' is a link; allowed: a folder"
        check(capsys, message, path, command, path)


def test_a_missing_part_is_damage(trained, tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text('{"parts": ["a"]}')
    for command in ("table", "resume"):
        message = "sweep 'RUN' is damaged: its part 'a' is missing"
        check(capsys, message, tmp_path / "sweep", command, tmp_path / "sweep")


def test_what_is_evaluated_are_the_newest_weights(trained, tmp_path, capsys):
    """The last checkpoint's, where the weights of an interruption before it lie beside."""
    from maven_jax.experiments.restoring import newest_weights

    with ExitStack() as stack:
        put(trained, tmp_path / "run", STATES["interrupted, resumed, killed"], stack)
    said = []
    arrays = newest_weights(load_run(tmp_path / "run"), said.append)
    expected = read_weights(trained).arrays
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
    assert len(said) == 1


def test_trained_weights_are_those_on_disk(trained):
    """As trees with an axis of seeds; `evaluate`'s networks take them."""
    run = load_run(trained)
    params, latent_params = trained_weights(run, make_env(run.config))
    assert latent_params == {}
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
    message = r"weights of run .* do not fit its config.yaml: array 'params/agent/.*' has shape"
    with pytest.raises(ConfigError, match=message):
        trained_weights(other, make_env(other.config))
