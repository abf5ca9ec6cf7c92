"""Checkpoints: what is saved comes back, damage is found, and a resumed run is the same run."""

import fcntl
import io
import json
import os
import shutil
import signal
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import chex
import jax
import numpy as np
import pytest
from rich.console import Console
from small_experiments import forget_config, train_run

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.config import from_dict
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import ConfigError, MavenJaxError, StorageError
from maven_jax.experiments.checkpoint import (
    Checkpointing,
    CheckpointWriter,
    Progress,
    checkpoint_files,
)
from maven_jax.experiments.grid import expand, make_lanes
from maven_jax.experiments.lock import LOCK
from maven_jax.experiments.memory import Memory, check_memory
from maven_jax.experiments.metrics import MetricsPrefix, MetricsWriter
from maven_jax.experiments.new_folder import create_run_folder
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.plan import Plan, train_plan
from maven_jax.experiments.restoring import load_checkpoint
from maven_jax.experiments.run import load_run, load_runs
from maven_jax.experiments.runner import continue_run
from maven_jax.experiments.sweep import Sweep, compile_sweep, lane_keys, run_sweep, take_lanes
from maven_jax.experiments.weights import read_weights
from maven_jax.training.train import make_trainer

pytestmark = pytest.mark.slow

ENV = MStepMatrixGame(m=3)
CONFIG = from_dict(
    {
        "algorithm": "maven",
        "env": {"options": {"m": 3}},
        "network": {"hidden_size": 8, "mixer_embed_size": 4},
        "latent": {"size": 3, "hidden_size": 8, "updates": 2, "batch_size": 4},
        "discriminator": {"hidden_size": 4, "hidden_layers": 1, "recurrent_size": 4},
        "training": {
            "total_env_steps": 60,
            "batch_size": 4,
            "replay_size": 16,
            "updates_per_evaluation": 5,
        },
        "evaluation": {"episodes": 4, "episodes_per_latent": 1},
    }
)
LANES = make_lanes(CONFIG.hyperparameters, range(3), {"learning_rate": [5e-4]})
COLUMNS = {name: column.tolist() for name, column in LANES.columns.items()}
EVERY_CHUNK = Checkpointing(updates=1, keep=2)


class Reference(NamedTuple):
    """A run that never stopped, its program, and its folder as it was before the first update."""

    sweep: Sweep
    path: Path
    fresh: Path
    fsyncs: list[int]
    """How often a run synchronises with the disk, once counted."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    sweep = compile_sweep(make_trainer(CONFIG, ENV), 3)
    info = {"status": "waiting", "lanes": {k: v.tolist() for k, v in LANES.columns.items()}}
    create_run_folder(folder / "fresh", CONFIG, info)
    shutil.copytree(folder / "fresh", folder / "run")
    continue_run(folder / "run", ENV, quiet(), sweep)
    return Reference(sweep, folder / "run", folder / "fresh", [])


def quiet(checkpoint: Checkpointing = EVERY_CHUNK) -> Options:
    return Options(tensorboard=False, checkpoint=checkpoint, console=Console(quiet=True))


@pytest.fixture(scope="module")
def stopped_once(reference, tmp_path_factory):
    """A run whose process fails after its fourth chunk, before it is saved: checkpoints 2 and 3."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    shutil.copytree(reference.fresh, path)
    write, written = CheckpointWriter.save, []

    def fail(self, *arguments):
        written.append(arguments)
        if len(written) == 4:
            raise RuntimeError("pulled the plug")
        write(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointWriter, "save", fail)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            continue_run(path, ENV, quiet(), reference.sweep)
    assert [file.stem for file in checkpoint_files(path)] == ["3", "2"]
    return path


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of that run, to do with as one likes."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def load(path: Path, sweep: Sweep, said: list | None = None):
    say = (said if said is not None else []).append
    return load_checkpoint(path, sweep.state_shapes, COLUMNS, say)


def test_what_is_saved_comes_back_though_its_arrays_were_donated(reference, tmp_path):
    run = run_sweep(reference.sweep, lane_keys(LANES.seeds), LANES.hyperparameters)
    chunk = next(run)
    plain = chunk.state._replace(key=jax.random.key_data(chunk.state.key))
    kept = take_lanes(plain, 3)
    writer = CheckpointWriter(tmp_path, EVERY_CHUNK, pytest.fail)
    (tmp_path / "metrics.csv").write_text("seed\n0\n1\n")
    rows = MetricsPrefix(7, zlib.crc32(b"seed\n0\n"))
    metrics = {name: values.tolist() for name, values in chunk.metrics.items()}
    writer.save(chunk.state, Progress(1, COLUMNS, metrics, rows, {"diverged": []}), 5)
    next(run)
    writer.close()
    found = load(tmp_path, reference.sweep)
    state = found.position.state
    chex.assert_trees_all_equal(state._replace(key=jax.random.key_data(state.key)), kept)
    chex.assert_trees_all_equal(found.position.metrics, chunk.metrics)
    assert found[1:] == (1, rows, {"diverged": []})


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_the_state_of_every_algorithm_comes_back(algorithm, tmp_path):
    """Those without a latent have no replay of its outcomes."""
    trainer = make_trainer(replace(CONFIG, algorithm=algorithm), ENV)
    keys = lane_keys(LANES.seeds)
    shapes = jax.eval_shape(jax.vmap(trainer.init), keys, LANES.hyperparameters)
    state = jax.tree.map(
        lambda x: keys if x.dtype == keys.dtype else np.full(x.shape, 1, x.dtype), shapes
    )
    writer = CheckpointWriter(tmp_path, EVERY_CHUNK, pytest.fail)
    (tmp_path / "metrics.csv").touch()
    writer.save(state, Progress(1, COLUMNS, {}, MetricsPrefix(0, 0), {}), 5)
    writer.close()
    found = load_checkpoint(tmp_path, shapes, COLUMNS, pytest.fail).position.state
    chex.assert_trees_all_equal_shapes_and_dtypes(found, state)
    chex.assert_trees_all_equal(found._replace(key=0), state._replace(key=0))
    np.testing.assert_array_equal(jax.random.key_data(found.key), jax.random.key_data(keys))


def test_a_resumed_run_is_bit_for_bit_the_one_that_never_stopped(reference, stopped):
    run = continue_run(stopped, ENV, quiet(), reference.sweep)
    same(stopped, reference.path)
    assert run.info["status"] == "finished"
    assert run.info["seed_updates"] == load_run(reference.path).info["seed_updates"]
    assert not checkpoint_files(stopped)


def same(one: Path, other: Path) -> None:
    """The metrics are the same bytes and the weights the same bits."""
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    chex.assert_trees_all_equal(weights(one), weights(other))


def weights(path: Path):
    return read_weights(path).arrays


def test_a_run_that_failed_before_its_first_checkpoint_starts_again(reference, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)
    (path / "metrics.csv").write_text("seed,env_steps\n0,3\n")
    continue_run(path, ENV, quiet(Checkpointing(minutes=1000.0)), reference.sweep)
    same(path, reference.path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(reference, stopped, damage):
    newest, _ = checkpoint_files(stopped)
    damage(newest)
    said = []
    assert load(stopped, reference.sweep, said).num_chunks == 2
    (line,) = said
    assert f"checkpoint '{newest}' is damaged and not used: " in line
    assert [file.stem for file in checkpoint_files(stopped)] == ["2"]
    assert (newest.parent / "damaged-3.npz").is_file(), "it is set aside, not deleted"
    continue_run(stopped, ENV, quiet(), reference.sweep)
    same(stopped, reference.path)


def test_no_changed_bit_of_a_checkpoint_is_restored_as_another_number(reference, stopped):
    """Of 60 bits, each is found or is in no number: dates and the like."""
    expected = load(stopped, reference.sweep)
    newest, _ = checkpoint_files(stopped)
    data, random = newest.read_bytes(), np.random.default_rng(0)
    found = 0
    for position in random.integers(0, 8 * len(data), 60):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        newest.write_bytes(changed)
        loaded = load_checkpoint(
            stopped, reference.sweep.state_shapes, COLUMNS, lambda _: None, set_aside=False
        )
        if loaded.num_chunks < expected.num_chunks:
            found += 1
            continue
        states = (x.position.state for x in (loaded, expected))
        chex.assert_trees_all_equal(*(s._replace(key=jax.random.key_data(s.key)) for s in states))
    assert found > 30


def test_a_sound_checkpoint_of_another_configuration_is_left_alone(reference, stopped):
    """Its weights of other sizes are named, and neither it nor the metrics are touched."""
    before = (stopped / "metrics.csv").read_bytes()
    config = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(config.replace("hidden_size: 8", "hidden_size: 6"))
    forget_config(stopped)
    with pytest.raises(
        StorageError, match=r"checkpoints/3.npz' does not fit its run's configuration: "
    ):
        continue_run(stopped, ENV, quiet())
    assert [file.stem for file in checkpoint_files(stopped)] == ["3", "2"]
    assert (stopped / "metrics.csv").read_bytes() == before
    (stopped / "config.yaml").write_text(config)
    continue_run(stopped, ENV, quiet(), reference.sweep)
    same(stopped, reference.path)


def events_of(path: Path) -> list[tuple[str, int]]:
    """Name and step of every scalar that a reader of the run's events shows."""
    from tensorboardX.proto import event_pb2

    found = []
    for file in sorted((path / "events").iterdir()):
        data, position = file.read_bytes(), 0
        while position < len(data):
            (size,) = struct.unpack_from("<Q", data, position)
            event = event_pb2.Event.FromString(data[position + 12 : position + 12 + size])
            if event.session_log.status == event_pb2.SessionLog.START:
                found = [entry for entry in found if entry[1] < event.step]
            found += [(value.tag, event.step) for value in event.summary.value]
            position += 16 + size
    return found


def test_a_resumed_run_shows_every_event_once(reference, tmp_path, monkeypatch):
    """Also where it goes on in the same second, by which the event files are named."""
    monkeypatch.setattr("tensorboardX.event_file_writer.time", SimpleNamespace(time=lambda: 1e9))
    events = {}
    for name in ("whole", "broken"):
        path = tmp_path / name
        shutil.copytree(reference.fresh, path)
        options = Options(True, Checkpointing(updates=10), Console(quiet=True))
        if name == "broken":
            write, seen = MetricsWriter.write, []

            def fail(self, metrics, active, write=write, seen=seen):
                seen.append(active)
                if len(seen) == 4:
                    raise RuntimeError("pulled the plug")
                write(self, metrics, active)

            with monkeypatch.context() as patch:
                patch.setattr(MetricsWriter, "write", fail)
                with pytest.raises(RuntimeError, match="pulled the plug"):
                    continue_run(path, ENV, options, reference.sweep)
        continue_run(path, ENV, options, reference.sweep)
        events[name] = events_of(path)
    assert sorted(events["broken"]) == sorted(events["whole"])


def test_where_all_checkpoints_are_damaged_the_run_starts_again(reference, stopped):
    for file in checkpoint_files(stopped):
        truncate(file)
    continue_run(stopped, ENV, quiet(), reference.sweep)
    same(stopped, reference.path)


def test_a_half_written_checkpoint_is_none(reference, stopped):
    """What a killed process leaves of the checkpoint that it was writing is removed."""
    draft = stopped / "checkpoints" / ".draft-0a1b2c3d"
    draft.write_bytes(checkpoint_files(stopped)[0].read_bytes()[:999])
    assert load(stopped, reference.sweep).num_chunks == 3
    continue_run(stopped, ENV, quiet(Checkpointing(updates=1, keep_final=True)), reference.sweep)
    same(stopped, reference.path)
    assert not draft.exists()


def test_a_folder_that_takes_no_checkpoints_is_said_and_training_goes_on(reference, tmp_path):
    """A file stands where they would go: as with a read-only folder, none can be made there."""
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)
    (path / "checkpoints").write_text("")
    said = io.StringIO()
    options = Options(False, EVERY_CHUNK, Console(file=said, width=300))
    continue_run(path, ENV, options, reference.sweep)
    assert f"could not be saved in '{path}/checkpoints': " in said.getvalue()
    same(path, reference.path)


@pytest.fixture
def full_at(monkeypatch):
    """Makes the n-th synchronisation with the disk from now on fail; gives a count of them."""
    synchronise, calls = os.fsync, []

    def fail_at(number):
        calls.clear()

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == number:
                raise OSError(28, "No space left on device")
            synchronise(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return calls

    return fail_at


@pytest.mark.parametrize("share", [0, 0.4, 0.9, 1])
def test_a_disk_that_is_full_at_any_write_loses_nothing(reference, tmp_path, full_at, share):
    """One synchronisation of all that a run makes fails, from the first to the very last."""
    if not reference.fsyncs:
        shutil.copytree(reference.fresh, tmp_path / "whole")
        calls = full_at(0)
        continue_run(tmp_path / "whole", ENV, quiet(), reference.sweep)
        reference.fsyncs.append(len(calls))
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)
    full_at(1 + round(share * (reference.fsyncs[0] - 1)))
    with suppress(MavenJaxError, OSError):
        continue_run(path, ENV, quiet(), reference.sweep)
    full_at(0)
    if json.loads((path / "run.json").read_text())["status"] != "finished":
        continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_a_run_in_a_folder_whose_name_is_a_pattern_goes_on(reference, stopped):
    path = stopped.rename(stopped.with_name("run[a]?*"))
    assert load(path, reference.sweep).num_chunks == 3
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_a_failed_write_of_metrics_leaves_a_run_that_resumes(reference, tmp_path, monkeypatch):
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)
    with monkeypatch.context() as patch:
        rows = []

        def full(self, metrics, active):
            rows.append(active)
            if len(rows) == 3:
                self._file.write(b"0,0.0005,")
                raise OSError(28, "No space left on device")
            write(self, metrics, active)

        write = MetricsWriter.write
        patch.setattr(MetricsWriter, "write", full)
        with pytest.raises(OSError, match="No space left"):
            continue_run(path, ENV, quiet(), reference.sweep)
    assert json.loads((path / "run.json").read_text())["status"] == "failed"
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_no_more_than_the_last_few_are_kept(reference, tmp_path, monkeypatch):
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)
    monkeypatch.setattr("maven_jax.experiments.runner.remove_checkpoints", lambda _: None)
    continue_run(path, ENV, quiet(Checkpointing(updates=10, keep=3)), reference.sweep)
    numbers = [int(file.stem) for file in checkpoint_files(path)]
    assert len(numbers) == 3
    assert all(number % 2 == 0 for number in numbers), "every second chunk is of ten updates"


def test_a_run_that_was_killed_at_its_very_end_only_needs_its_results(
    reference, tmp_path, monkeypatch
):
    """After the checkpoint of its last chunk, before its weights."""
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)

    def fail(*_):
        raise RuntimeError("pulled the plug")

    with monkeypatch.context() as patch:
        patch.setattr("maven_jax.experiments.loop.save_weights", fail)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            continue_run(path, ENV, quiet(), reference.sweep)
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_a_run_that_is_being_trained_is_left_alone(reference, stopped):
    before = (stopped / "metrics.csv").read_bytes()
    with (stopped / LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="is being trained by another process"):
            continue_run(stopped, ENV, quiet(), reference.sweep)
    assert (stopped / "metrics.csv").read_bytes() == before


def test_a_finished_run_is_not_resumed(reference):
    with pytest.raises(StorageError, match="has already finished"):
        continue_run(reference.path, ENV, quiet(), reference.sweep)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minutes": 0.0}, r"checkpoint\.minutes is 0\.0; allowed: a positive number"),
        ({"updates": 0}, r"checkpoint\.updates is 0; allowed: a whole number from 1"),
        ({"keep": 0}, r"checkpoint\.keep is 0; allowed: a whole number from 1"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train_run(CONFIG, ENV, tmp_path / "run", LANES, quiet(Checkpointing(**settings)))
    assert not list(tmp_path.iterdir())


def test_an_interruption_saves_first(reference, tmp_path, monkeypatch):
    """The first Ctrl-C ends the chunk and saves; going on gives the same run."""
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)
    write = MetricsWriter.write

    def interrupt(self, metrics, active):
        write(self, metrics, active)
        if metrics["num_updates"].max() == 15:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsWriter, "write", interrupt)
        with pytest.raises(InterruptedRunError, match=f"resume it with: maven-jax resume '{path}'"):
            continue_run(path, ENV, quiet(Checkpointing(minutes=1000.0)), reference.sweep)
    assert [file.stem for file in checkpoint_files(path)] == ["3"]
    assert len(load_run(path).metrics["seed"]) == 9
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_a_run_in_which_every_lane_diverges_at_once_is_refused(reference, tmp_path):
    lanes = make_lanes(CONFIG.hyperparameters, range(3), {"learning_rate": [1e30]})
    with pytest.raises(ConfigError, match="all 3 runs diverged before the first"):
        train_run(CONFIG, ENV, tmp_path / "run", lanes, quiet())
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_be_written_leave_a_run_that_resumes(reference, tmp_path, monkeypatch):
    path = tmp_path / "run"
    shutil.copytree(reference.fresh, path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", full)
        with pytest.raises(StorageError, match=r"weights cannot be written in .*: No space left"):
            continue_run(path, ENV, quiet(), reference.sweep)
    continue_run(path, ENV, quiet(), reference.sweep)
    same(path, reference.path)


def test_a_group_that_diverges_leaves_the_others_alone(tmp_path):
    """Its lanes are reported, and the group after it is learned."""
    grid = {"hyperparameters.learning_rate": [1e30, 5e-4]}
    parts = expand(replace(CONFIG, algorithm="vdn"), grid, [0], group_size=1)
    runs = train_plan(Plan(tuple(parts)), tmp_path / "sweep", quiet(), lambda _: ENV)
    sizes = {len(run.metrics["seed"]) > 0: run for run in runs}
    assert sizes[False].lanes["hyperparameters.learning_rate"] == [1e30]
    assert [lane["seed"] for lane in sizes[False].diverged] == [0]
    assert sizes[True].diverged == []
    assert {run.info["status"] for run in load_runs(tmp_path / "sweep")} == {"finished"}


def test_the_size_that_is_said_to_fit_does():
    """Groups are padded to an even share of the devices: the advice allows for it."""
    held = Memory(replay=1000 * 100, weights=0)
    with pytest.raises(ConfigError, match="group-size 4 or less"):
        check_memory(held, 5900, num_lanes=100, num_devices=4)
    check_memory(Memory(replay=1000 * 4, weights=0), 5900, num_lanes=4, num_devices=4)
    with pytest.raises(ConfigError, match="a smaller replay_size"):
        check_memory(held, 900, num_lanes=100, num_devices=4)
