"""Events of every seed and of the median, each once, also after a run has resumed."""

import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2

from maven_jax.config import Config
from maven_jax.experiments.callbacks import Callback, ChunkEnd, RunStart, TensorBoard
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.folder import checkpoint_files
from maven_jax.experiments.options import Options
from maven_jax.experiments.run import load_run


def events_of(folder: Path) -> dict[tuple[str, int], list[float]]:
    """The values of every name and step that a reader of the folder's events shows."""
    found: dict[tuple[str, int], list[float]] = {}
    for file in sorted(folder.iterdir()):
        data, position = file.read_bytes(), 0
        while position < len(data):
            (size,) = struct.unpack_from("<Q", data, position)
            event = event_pb2.Event.FromString(data[position + 12 : position + 12 + size])
            if event.session_log.status == event_pb2.SessionLog.START:
                found = {key: values for key, values in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value.simple_value)
            position += 16 + size
    return found


class PulledPlug(BaseException):
    """Ends a run at a moment at which nothing more is written."""


class RaiseAtFourth(Callback):
    """Ends a run after its fourth evaluation."""

    def on_chunk(self, chunk):
        if chunk.num_evaluations == 4:
            raise PulledPlug


@pytest.mark.slow
def test_a_resumed_run_shows_every_event_once(program, tmp_path, monkeypatch):
    """Also where it resumes in the same second, by which the event files are named."""
    monkeypatch.setattr("tensorboardX.event_file_writer.time", SimpleNamespace(time=lambda: 1e9))
    checkpoint, console = Checkpointing(updates=10), Console(quiet=True)
    board = TensorBoard()
    program.train(tmp_path / "whole", Options([board], checkpoint, console))
    with pytest.raises(PulledPlug):
        program.train(tmp_path / "broken", Options([board, RaiseAtFourth()], checkpoint, console))
    assert [file.stem for file in checkpoint_files(tmp_path / "broken")] == ["2"]
    program.train(tmp_path / "broken", Options([board], checkpoint, console))
    run = load_run(tmp_path / "whole")
    for name in ("median", "seed=0", "seed=1"):
        whole, broken = (events_of(tmp_path / x / "events" / name) for x in ("whole", "broken"))
        assert whole == broken
        assert all(len(values) == 1 for values in whole.values())
        if name == "median":
            continue
        of_lane = run.metrics["seed"] == int(name[-1])
        columns = {key: column[of_lane] for key, column in run.metrics.items() if key != "seed"}
        steps = columns["env_steps"].astype(int).tolist()
        assert set(whole) == {(key, step) for key in columns for step in steps}
        shown = [whole["return", step][0] for step in steps]
        np.testing.assert_allclose(shown, columns["return"], rtol=1e-6)


def chunk_of(path, returns, diverged) -> ChunkEnd:
    diverged = np.array(diverged)
    metrics = {
        "return": np.array(returns, np.float32),
        "return_z": np.array([[x, -x] for x in returns], np.float32),
        "env_steps": 10 * np.arange(len(returns)),
        "num_updates": np.full(len(returns), 7),
    }
    return ChunkEnd(path, Config(), lanes(returns), metrics, ~diverged, diverged, 1, dict)


def lanes(values) -> dict[str, np.ndarray]:
    seeds = np.zeros(len(values), int)
    return {"seed": seeds, "hyperparameters.mi_weight": np.arange(len(values)) / 4}


def write(path, returns, diverged) -> list[str]:
    """Events of one chunk; the lines that are said."""
    board, said = TensorBoard(), []
    zeros = np.zeros(len(returns), np.int64)
    board.on_start(
        RunStart(path, Config(), lanes(returns), zeros, zeros.astype(bool), 0, said.append)
    )
    board.on_chunk(chunk_of(path, returns, diverged))
    board.close()
    return said


def test_lanes_and_the_median_have_the_same_names(tmp_path):
    """So they overlay in one chart; a lane that has diverged is in neither."""
    assert write(tmp_path, [1.0, 2.0, 4.0, 9.0], [False, False, False, True]) == []
    named = ["median", *(f"seed=0,mi_weight={x}" for x in (0.0, 0.25, 0.5, 0.75))]
    assert sorted(file.name for file in (tmp_path / "events").iterdir()) == sorted(named)
    median = events_of(tmp_path / "events" / "median")
    assert median == {
        ("return", 10): [2.0],
        ("return_z_0", 10): [2.0],
        ("return_z_1", 10): [-2.0],
        ("env_steps", 10): [10.0],
        ("num_updates", 10): [7.0],
    }
    third = events_of(tmp_path / "events" / "seed=0,mi_weight=0.5")
    assert third["return", 20] == [4.0]
    assert {name for name, _ in third} == {name for name, _ in median}
    assert events_of(tmp_path / "events" / "seed=0,mi_weight=0.75") == {}


def test_many_lanes_have_a_median_alone(tmp_path):
    said = write(tmp_path, np.arange(65.0), [False] * 65)
    assert said == [
        "TensorBoard shows the medians of 65 runs, without their own curves: they are more than 64"
    ]
    assert [file.name for file in (tmp_path / "events").iterdir()] == ["median"]
    assert events_of(tmp_path / "events" / "median")["return", 320] == [32.0]


def test_lanes_that_have_all_diverged_show_nothing(tmp_path):
    write(tmp_path, [1.0, 2.0], [True, True])
    assert events_of(tmp_path / "events" / "median") == {}
