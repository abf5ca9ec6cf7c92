"""Checkpoints: damage is found, a full disk loses nothing, and a resumed run is the same run."""

import io
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import chex
import numpy as np
import pytest
from rich.console import Console
from small_experiments import (
    assert_same_results,
    contents,
    forget_config,
    read_info,
    stop_after,
    train_run,
)

from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError, MavenJaxError, StorageError
from maven_jax.experiments.checkpoint import Checkpointing, with_plain_keys
from maven_jax.experiments.folder import checkpoint_files
from maven_jax.experiments.grid import expand, make_lanes
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import Plan, resume_plan, train_plan
from maven_jax.experiments.restoring import load_checkpoint
from maven_jax.experiments.run import load_run, load_runs

pytestmark = pytest.mark.slow

FULL = OSError(28, "No space left on device")
EVERY_CHUNK = Checkpointing(updates=1, keep=2)


def quiet(checkpoint: Checkpointing = EVERY_CHUNK) -> Options:
    return Options(checkpoint=checkpoint, console=Console(quiet=True))


def heard(said: io.StringIO) -> Options:
    return Options((), EVERY_CHUNK, Console(file=said, width=1000))


def newest(path: Path) -> Path:
    return checkpoint_files(path)[0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_all(path: Path) -> None:
    for file in checkpoint_files(path):
        truncate(file)


def add_half_a_checkpoint(path: Path) -> None:
    """Of a process that is killed while it writes one."""
    whole = newest(path).read_bytes()
    (path / "checkpoints" / ".draft-0a1b2c3d").write_bytes(whole[: len(whole) // 2])


def add_half_a_row(path: Path) -> None:
    with (path / "metrics.csv").open("ab") as file:
        file.write(b"0,0.0005,")


LEFT = {
    "as it was": (lambda path: None, 3),
    "name[is=a]?*pattern": (lambda path: None, 3),
    "a checkpoint cut": (lambda path: truncate(newest(path)), 2),
    "a bit flipped": (lambda path: flip_a_bit(newest(path)), 2),
    "an empty checkpoint": (lambda path: newest(path).write_bytes(b""), 2),
    "half a checkpoint": (add_half_a_checkpoint, 3),
    "half a row": (add_half_a_row, 3),
    "every checkpoint damaged": (damage_all, 0),
}
"""What a process that was killed may leave, by the name of its folder, and from which evaluation
the run then resumes."""


def test_whatever_is_left_goes_on_bit_for_bit(trained, tmp_path):
    """A damaged checkpoint is named and set aside, and the one before it is used."""
    said = io.StringIO()
    for name, (damage, _) in LEFT.items():
        shutil.copytree(trained, tmp_path / name)
        stop_after(tmp_path / name, 3)
        damage(tmp_path / name)
    (tmp_path / "sweep.json").write_text(json.dumps({"parts": list(LEFT)}))
    options = Options((), Checkpointing(keep_final=True), Console(file=said, width=1000))
    resume_plan(tmp_path, options)
    lines = said.getvalue().splitlines()
    resumed = [line for line in lines if "resuming after" in line]
    numbers = [number for _, number in LEFT.values() if number]
    assert resumed == [f"maven-jax: resuming after {number} evaluations" for number in numbers]
    whole = load_run(trained).info["seed_updates"]
    for name, (_, number) in LEFT.items():
        path = tmp_path / name
        assert_same_results(path, trained)
        assert (read_info(path)["status"], read_info(path)["seed_updates"]) == ("finished", whole)
        damaged = [line for line in lines if f"'{path}/checkpoints/3.npz' is damaged" in line]
        assert len(damaged) == (number != 3)
        assert (path / "checkpoints" / "damaged-3.npz").is_file() == (number != 3)
        assert any(f"'{path}' restarts from step 0" in line for line in lines) == (number == 0)


def test_no_changed_bit_is_restored_as_another_number(trained, program, tmp_path):
    """Of 60 bits each is found, or is in no number: those of dates and the like."""
    path = shutil.copytree(trained, tmp_path / "run")
    lanes = load_run(path).lanes

    def load():
        copy = shutil.copytree(path, tmp_path / "copy", dirs_exist_ok=True)
        return load_checkpoint(copy, program.sweep.state_shapes, lanes, lambda _: None)

    file, expected, found = newest(path), load(), 0
    data, random = file.read_bytes(), np.random.default_rng(0)
    for position in random.integers(0, 8 * len(data), 60):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        file.write_bytes(changed)
        loaded = load()
        if loaded.progress.num_chunks < expected.progress.num_chunks:
            found += 1
        else:
            states = (x.position.state for x in (loaded, expected))
            chex.assert_trees_all_equal(*map(with_plain_keys, states))
    assert found > 30


def test_a_checkpoint_that_memory_is_too_short_for_is_left_alone(trained, tmp_path, monkeypatch):
    """It is sound: training must neither rename it nor start again."""
    path = shutil.copytree(trained, tmp_path / "run")
    stop_after(path, 3)
    before = contents(path)

    def load(*_, **__):
        raise MemoryError("Unable to allocate 300 MiB")

    monkeypatch.setattr("numpy.load", load)
    with pytest.raises(StorageError, match=r"3.npz' cannot be read: Unable to allocate 300 MiB"):
        resume_plan(path, quiet())
    after = contents(path)
    assert {name: after[name] for name in before if "run.json" not in name} == {
        name: content for name, content in before.items() if "run.json" not in name
    }


def test_a_sound_checkpoint_of_another_configuration_is_left_alone(trained, tmp_path):
    """Its weights of other sizes are named, and neither it nor the metrics are touched."""
    path = shutil.copytree(trained, tmp_path / "run")
    stop_after(path, 3)
    before, config = (path / "metrics.csv").read_bytes(), (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("hidden_size: 8", "hidden_size: 6"))
    forget_config(path)
    message = r"checkpoints/3.npz' does not fit its run's configuration: "
    with pytest.raises(StorageError, match=message):
        resume_plan(path, quiet())
    assert [file.stem for file in checkpoint_files(path)] == ["3", "2", "1"]
    assert (path / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("reason", ["No space left on device", "is a file"])
def test_without_checkpoints_training_goes_on(reason, trained, program, tmp_path, monkeypatch):
    """On a full disk, or where a file stands in their place, as with a read-only folder."""

    def full(*_, **__):
        raise FULL

    path, said = shutil.copytree(program.fresh, tmp_path / "run"), io.StringIO()
    if reason == "is a file":
        (path / "checkpoints").write_text("")
    else:
        save = np.savez
        monkeypatch.setattr(
            "numpy.savez", lambda *x, **named: (full if "progress" in named else save)(*x, **named)
        )
    program.train(path, heard(said))
    assert f"could not be saved in '{path}/checkpoints': " in said.getvalue()
    assert reason in said.getvalue() or reason == "is a file"
    assert_same_results(path, trained)


@pytest.fixture
def full_at(monkeypatch):
    """Makes the n-th synchronisation with the disk from now on fail; gives a count of them."""
    synchronise, calls = os.fsync, []

    def fail_at(number):
        calls.clear()

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == number:
                raise FULL
            synchronise(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return calls

    return fail_at


def test_a_disk_that_is_full_at_any_write_loses_nothing(trained, program, tmp_path, full_at):
    """One synchronisation of all that a run makes fails, from the first to the very last."""
    number = full_at(0)
    program.train(tmp_path / "whole", quiet())
    number = len(number)
    for share in (0, 0.4, 0.9, 1):
        path = tmp_path / f"{share}"
        full_at(1 + round(share * (number - 1)))
        with suppress(MavenJaxError, OSError):
            program.train(path, quiet())
        full_at(0)
        if read_info(path)["status"] != "finished":
            program.train(path, quiet())
        assert_same_results(path, trained)


def test_weights_that_cannot_be_written_leave_a_run_that_resumes(
    trained, program, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", full)
        with pytest.raises(StorageError, match=r"weights cannot be written in .*: No space left"):
            program.train(tmp_path / "run", quiet())
    assert read_info(tmp_path / "run")["status"] == "failed"
    program.train(tmp_path / "run", quiet())
    assert_same_results(tmp_path / "run", trained)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_no_more_than_the_last_few_are_kept(program, tmp_path):
    """Every second chunk is of ten updates; the last of all is kept besides."""
    settings = Checkpointing(updates=10, keep=2, keep_final=True)
    program.train(tmp_path / "run", quiet(settings))
    last = len(np.unique(load_run(tmp_path / "run").metrics["num_updates"]))
    names = [int(file.stem) for file in checkpoint_files(tmp_path / "run")]
    assert names == [last, (last - 1) // 2 * 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minutes": 0.0}, r"checkpoint\.minutes is 0\.0; allowed: a positive number"),
        ({"updates": 0}, r"checkpoint\.updates is 0; allowed: a whole number from 1"),
        ({"keep": 0}, r"checkpoint\.keep is 0; allowed: a whole number from 1"),
    ],
)
def test_settings_that_cannot_be(trained, tmp_path, settings, message):
    config = load_run(trained).config
    lanes, options = make_lanes(config.hyperparameters, [0]), quiet(Checkpointing(**settings))
    with pytest.raises(ConfigError, match=message):
        train_run(config, make_env(config), tmp_path / "run", lanes, options)
    assert not list(tmp_path.iterdir())


def test_a_group_that_diverges_leaves_the_others_alone(trained, tmp_path):
    """Its lanes are reported, and the group after it is learned; alone it is refused."""
    config, rate = load_run(trained).config, "hyperparameters.learning_rate"
    grid = {rate: [1e30, 1e29, 5e-4, 1e-3]}
    parts = tuple(expand(config, grid, [0], group_size=2))
    runs = train_plan(Plan(parts), tmp_path / "sweep", quiet())
    sizes = {len(run.metrics["seed"]) > 0: run for run in runs}
    assert sizes[False].lanes[rate] == [1e30, 1e29]
    assert [lane["seed"] for lane in sizes[False].diverged] == [0, 0]
    assert sizes[True].diverged == []
    assert {run.info["status"] for run in load_runs(tmp_path / "sweep")} == {"finished"}
    with pytest.raises(ConfigError, match="all 2 runs diverged before the first"):
        train_plan(Plan(parts[:1]), tmp_path / "alone", quiet())
    assert not (tmp_path / "alone").exists()
