"""A run resumes as itself, under its own settings; its metrics are those that training wrote.

And nothing that is planted in its folder is executed.
"""

import pickle
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import Planted
from small_experiments import contents, edit_info, read_info, refused, small_config

from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.errors import MavenJaxError
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.folder import INITIAL_WEIGHTS, checkpoint_files, parts_of
from maven_jax.experiments.grid import Part, make_lanes
from maven_jax.experiments.new_folder import create_run_folder
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import Plan, open_plan
from maven_jax.experiments.provenance import check_settings
from maven_jax.experiments.restoring import load_checkpoint, newest_weights
from maven_jax.experiments.run import load_run
from maven_jax.experiments.runner import new_info
from maven_jax.experiments.sweep import lane_keys
from maven_jax.experiments.weights import read_initial_weights
from maven_jax.training.train import make_trainer

CONFIG = small_config("vdn")
LANES = make_lanes(CONFIG.hyperparameters, [0, 1])


@pytest.fixture
def path(trained, tmp_path) -> Path:
    """A copy of the finished run, with its last checkpoint."""
    path = shutil.copytree(trained, tmp_path / "run")
    for older in checkpoint_files(path)[1:]:
        older.unlink()
    return path


@pytest.fixture
def jax_settings():
    """JAX's settings, restored afterwards."""
    before = {name: getattr(jax.config, name, False) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


SETTINGS = {
    "jax_threefry_partitionable": (True, False),
    "jax_default_prng_impl": ("rbg", "unsafe_rbg"),
    "jax_random_seed_offset": (0, 1),
    "jax_high_dynamic_range_gumbel": (False, True),
    "jax_enable_x64": (True, False),
    "jax_numpy_dtype_promotion": ("standard", "strict"),
    "jax_default_matmul_precision": (None, "highest"),
    "jax_softmax_custom_jvp": (False, True),
    "jax_disable_most_optimizations": (False, True),
}
"""Values of JAX's settings, with which a run starts and is resumed."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_is_not_resumed_under_other_settings(name, jax_settings, tmp_path, capsys):
    then, now = SETTINGS[name]
    path, sweep = tmp_path / "run", tmp_path / "sweep"
    jax.config.update(name, then)
    create_run_folder(path, CONFIG, new_info(LANES, {}))
    parts = [Part(part, CONFIG, LANES, {}) for part in ("a", "b")]
    open_plan(Plan(tuple(parts)), sweep, Options(console=plain_console(quiet=True)))
    before = contents(tmp_path)
    jax.config.update(name, now)
    remedy = f"unset {name.upper()}" if then is None else f"set {name.upper()}={then}"
    for started in (path, sweep / "a"):
        line = f"{name} is {now!r}; allowed: {then!r}, with which run '{started}' was started: "
        folder = path if started == path else sweep
        assert refused(capsys, "resume", folder) == line + remedy
    longer = "--training.total-env-steps", "900"
    assert refused(capsys, "resume", sweep, *longer) == line + remedy
    assert contents(tmp_path) == before


def test_a_run_without_a_record_is_resumed_under_any_settings(jax_settings, tmp_path):
    jax.config.update("jax_threefry_partitionable", False)
    check_settings(tmp_path, {"status": "interrupted"})


@pytest.mark.slow
def test_another_version_and_number_of_devices_are_reported_and_recorded(path, capsys, monkeypatch):
    first = read_info(path)
    assert first["history"] == [{name: first[name] for name in first["history"][0]}]
    start = {"command": ["first"], "num_devices": 7} | {
        name: first[name] for name in ("versions", "device", "platform", "xla_flags")
    }
    edit_info(path, status="interrupted", history=[start], **start)
    monkeypatch.setattr("maven_jax.experiments.new_folder.__version__", "9.9.9")
    monkeypatch.setenv("XLA_FLAGS", first["xla_flags"] + " --xla_dump_to=")
    capsys.readouterr()
    assert run(["resume", str(path), "--no-tensorboard"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "resumed with" in line]
    assert f"run '{path}' is resumed with " in line
    assert f"maven-jax '9.9.9' (before: '{first['versions']['maven-jax']}')" in line
    assert f"num_devices {len(jax.devices())} (before: 7)" in line
    assert "xla_flags" in line
    assert "jax '" not in line.replace("maven-jax '", ""), "what is as before is not listed"
    before, after = read_info(path)["history"]
    assert before == start
    assert (after["versions"]["maven-jax"], after["num_devices"]) == ("9.9.9", 2)
    assert read_info(path)["versions"] == after["versions"]


@pytest.mark.slow
def test_a_start_as_before_reports_nothing_and_the_record_of_metrics_follows(path, capsys):
    """Of a run that is extended."""
    capsys.readouterr()

    def assert_recorded() -> int:
        text = (path / "metrics.csv").read_bytes()
        rows = len(text.splitlines()) - 1
        record = {"rows": rows, "length": len(text), "checksum": zlib.crc32(text)}
        assert read_info(path)["metrics_csv"] == record
        return rows

    before = assert_recorded()
    longer = ["--training.total-env-steps", "120"]
    assert run(["resume", str(path), "--no-tensorboard", *longer]) == 0
    assert assert_recorded() > before
    assert "resumed with" not in capsys.readouterr().err
    assert len(read_info(path)["history"]) == 2


def third_column(text: bytes) -> bytes:
    """The last row's `num_updates` are others."""
    *rows, last = text.splitlines(keepends=True)
    seed, steps, updates, rest = last.split(b",", 3)
    return b"".join([*rows, b",".join([seed, steps, b"1" + updates, rest])])


def second_return(text: bytes) -> bytes:
    header, *rows = text.splitlines()
    added = [row + b",100.0" for row in rows]
    return b"\r\n".join([header + b",return", *added, b""])


EDITS = {
    "third column": third_column,
    "cut": lambda text: b"".join(text.splitlines(keepends=True)[:-2]),
    "second return": second_return,
    "last row twice": lambda text: text + text.splitlines(keepends=True)[-1],
    "a byte of the header": lambda text: text.replace(b"return", b"regret", 1),
    "line ends": lambda text: text.replace(b"\r\n", b"\n"),
    "blank line": lambda text: text + b"\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("status", ["finished", "interrupted"])
@pytest.mark.parametrize("name", EDITS)
def test_metrics_that_training_did_not_write_are_refused(name, status, path, capsys):
    edit_info(path, status=status)
    file = path / "metrics.csv"
    file.write_bytes(EDITS[name](file.read_bytes()))
    before = contents(path)
    for command in ("table", "evaluate"):
        assert refused(capsys, command, path).startswith(f"run '{path}' is damaged: metrics.csv")
    if status == "finished":
        line = refused(capsys, "resume", path, "--training.total-env-steps", "120")
        assert "metrics.csv" in line
    assert contents(path) == before


def test_metrics_of_a_run_without_a_record_are_read(path):
    edit_info(path, without="metrics_csv")
    (path / "metrics.csv").write_bytes(third_column((path / "metrics.csv").read_bytes()))
    assert run(["table", str(path)]) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings", []),
        *(("history", value) for value in ({}, [3], [{"versions": 3}])),
        ("versions", 3),
        *(("metrics_csv", value) for value in (3, {"rows": 3}, {"length": "3", "checksum": 3})),
    ],
)
def test_records_of_another_form_are_refused(name, value, path, capsys):
    edit_info(path, **{name: value})
    assert refused(capsys, "table", path).startswith(f"run '{path}' is damaged: run.json: ")


def pickled(file: Path, marker: Path) -> None:
    file.write_bytes(pickle.dumps(Planted(marker)))


def pickled_array(file: Path, marker: Path) -> None:
    """An archive of an array of objects, which NumPy pickles."""
    with file.open("wb") as stream:
        np.savez(stream, weights=np.array([Planted(marker)], object))


def yaml_tag(file: Path, marker: Path) -> None:
    file.write_text(f"!!python/object/apply:builtins.open [{marker}, w]\n")


def test_nothing_that_is_planted_in_a_folder_is_executed(path, tmp_path):
    sound, marker = load_run(path), tmp_path / "marker"
    np.savez(path / INITIAL_WEIGHTS, weights=np.zeros(2))
    init = jax.vmap(make_trainer(sound.config, make_env(sound.config)).init)
    shapes = jax.eval_shape(init, lane_keys([0, 1]), LANES.hyperparameters)
    checkpoint, lanes = str(checkpoint_files(path)[0].relative_to(path)), sound.lanes
    readers = {
        "config.yaml": lambda: load_run(path),
        "run.json": lambda: load_run(path),
        "metrics.csv": lambda: load_run(path),
        INITIAL_WEIGHTS: lambda: read_initial_weights(path),
        "weights.npz": lambda: newest_weights(sound, print),
        checkpoint: lambda: load_checkpoint(path, shapes, lanes, print),
    }
    for read in readers.values():
        read()
    readers["sweep.json"] = lambda: parts_of(path)
    kept = contents(path)
    for name, read in readers.items():
        for plant in (pickled, pickled_array, yaml_tag):
            plant(path / name, marker)
            with suppress(MavenJaxError):
                read()
            assert not marker.exists(), name
            shutil.rmtree(path)
            for whole, content in kept.items():
                Path(whole).parent.mkdir(parents=True, exist_ok=True)
                Path(whole).write_bytes(content)


@pytest.mark.parametrize("command", ["train", "study", "sweep"])
def test_nothing_in_a_configuration_is_executed(command, tmp_path, capsys):
    yaml_tag(tmp_path / "planted.yaml", tmp_path / "marker")
    line = refused(capsys, command, tmp_path / "planted.yaml", "--out", tmp_path / "out")
    assert "is not valid YAML" in line
    assert not (tmp_path / "marker").exists()
