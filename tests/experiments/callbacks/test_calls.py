"""When callbacks are called, with what, and what becomes of a run that one of them ends."""

import dataclasses
import io
import shutil
from pathlib import Path

import chex
import numpy as np
import pytest
from rich.console import Console
from small_experiments import assert_same_results, read_info

from maven_jax.cli.main import run as command_line
from maven_jax.experiments.callbacks import Callback
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.extending import extend
from maven_jax.experiments.folder import checkpoint_files
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.metrics import parse_metrics
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.plan import train_plan
from maven_jax.experiments.points import points_of
from maven_jax.experiments.run import load_run
from maven_jax.experiments.runner import continue_run
from maven_jax.experiments.weights import read_weights
from maven_jax.reports.tables import last_evaluation

pytestmark = pytest.mark.slow


class Recorder(Callback):
    """Notes its calls; `act` is called after each evaluation and may stop the run, or raise."""

    def __init__(self, act=lambda chunk: None) -> None:
        self.calls, self.starts, self.chunks, self.rows = [], [], [], []
        self._act = act

    def on_start(self, start):
        self.calls.append("start")
        self.starts.append(start)

    def on_chunk(self, chunk):
        self.calls.append(chunk.num_evaluations)
        self.chunks.append(chunk)
        self.rows.append(parse_metrics((chunk.path / "metrics.csv").read_text()))
        self.state = chunk.state()
        return self._act(chunk)

    def on_end(self, run):
        self.calls.append(f"end: {read_info(run.path)['status']}")

    def close(self):
        self.calls.append("close")


def options_with(*callbacks: Callback, console=None, **checkpoint) -> Options:
    settings = Checkpointing(**({"updates": 10} | checkpoint))
    return Options(callbacks, settings, console or Console(quiet=True))


def num_evaluations(path: Path) -> int:
    return load_run(path).num_evaluations


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory) -> tuple[Path, Recorder]:
    """A run that a recorder has watched from start to end."""
    path, recorder = tmp_path_factory.mktemp("whole") / "run", Recorder()
    program.train(path, options_with(recorder))
    return path, recorder


def test_callbacks_see_a_run_from_start_to_end(whole, trained):
    path, recorder = whole
    number = num_evaluations(path)
    assert recorder.calls == ["start", *range(1, number + 1), "end: finished", "close"]
    (start,) = recorder.starts
    assert (start.path, start.num_evaluations) == (path, 0)
    assert start.config == load_run(path).config
    np.testing.assert_array_equal(start.env_steps, [0, 0])
    np.testing.assert_array_equal(start.diverged, [False, False])
    np.testing.assert_array_equal(start.lanes["seed"], [0, 1])
    assert_same_results(path, trained)


def test_a_chunk_is_in_metrics_csv_before_callbacks_see_it(whole):
    _, recorder = whole
    for chunk, rows in zip(recorder.chunks, recorder.rows, strict=True):
        for lane, row in chunk.rows():
            of_lane = rows["seed"] == chunk.lanes["seed"][lane]
            assert row == {
                name: pytest.approx(rows[name][of_lane][-1]) for name in rows if name != "seed"
            }
        assert [lane for lane, _ in chunk.rows()] == np.flatnonzero(chunk.active).tolist()


def test_the_state_of_a_chunk_is_that_of_its_weights(whole):
    path, recorder = whole
    arrays = read_weights(path).arrays
    kernel = next(name for name in arrays if name.startswith("params/agent"))
    value = recorder.state.params
    for part in kernel.split("/")[1:]:
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    np.testing.assert_array_equal(value, arrays[kernel])
    assert recorder.state.key.shape == (2,)
    chex.assert_tree_shape_prefix(recorder.state, (2,))


class CallbackError(Exception):
    """Of a callback of someone's own."""


def raise_at_third(chunk):
    if chunk.num_evaluations == 3:
        raise CallbackError


def test_a_callback_that_raises_leaves_a_run_that_resumes(program, trained, tmp_path):
    path, recorder = tmp_path / "run", Recorder(raise_at_third)
    other = Recorder()
    with pytest.raises(CallbackError):
        program.train(path, options_with(other, recorder))
    assert recorder.calls == other.calls == ["start", 1, 2, 3, "close"]
    assert read_info(path)["status"] == "failed"
    again = Recorder()
    program.train(path, options_with(again))
    assert again.calls[:2] == ["start", 3]
    (start,) = again.starts
    np.testing.assert_array_equal(start.env_steps, recorder.chunks[1].metrics["env_steps"])
    assert start.env_steps.dtype == np.int64
    np.testing.assert_array_equal(
        again.chunks[0].metrics["return"], recorder.chunks[2].metrics["return"]
    )
    assert_same_results(path, trained)


def test_an_interrupted_run_is_closed_and_not_ended(program, tmp_path):
    path = shutil.copytree(program.fresh, tmp_path / "run")
    stop = StopRequest(lambda line: None)

    def request(chunk):
        stop.requested = chunk.num_evaluations == 2

    recorder = Recorder(request)
    with pytest.raises(InterruptedRunError):
        continue_run(path, program.env, options_with(recorder), program.sweep, stop)
    assert recorder.calls == ["start", 1, 2, "close"]
    assert checkpoint_files(path)[0].stem == "2"


class StopAtSecond(Recorder):
    """Stops a run after two evaluations."""

    reason = "enough"

    def __init__(self) -> None:
        super().__init__(lambda chunk: chunk.num_evaluations >= 2)


@pytest.fixture(scope="module")
def stopped(program, tmp_path_factory) -> tuple[Path, str]:
    """A run that a callback has stopped, with the checkpoint of its end; and what was said."""
    path, said = tmp_path_factory.mktemp("stopped") / "run", io.StringIO()
    console = Console(file=said, width=1000)
    stopping, other = StopAtSecond(), Recorder()
    program.train(path, options_with(stopping, other, console=console, keep_final=True))
    assert stopping.calls == other.calls == ["start", 1, 2, "end: finished", "close"]
    return path, said.getvalue()


def test_a_callback_stops_a_run(stopped, trained):
    path, said = stopped
    info = read_info(path)
    assert info["status"] == "finished"
    assert info["stopped_early"] == {"num_evaluations": 2, "reason": "enough"}
    assert "maven-jax: stopped early, after 2 evaluations: enough\n" in said
    assert read_weights(path).num_chunks == 2
    assert checkpoint_files(path)[0].stem == "2"
    whole = (trained / "metrics.csv").read_text()
    assert whole.startswith((path / "metrics.csv").read_text())
    assert 0 < load_run(path).last_step < load_run(trained).last_step


def test_a_stopped_run_is_finished_for_the_same_plan(stopped, program):
    path, _ = stopped
    before, recorder = (path / "metrics.csv").read_bytes(), Recorder()
    (run,) = train_plan(program.plan, path, options_with(recorder), lambda _: program.env)
    assert run.has_ended
    assert run.stopped_early
    assert recorder.calls == []
    assert (path / "metrics.csv").read_bytes() == before


def test_tables_say_that_a_run_was_stopped(stopped, trained, capsys):
    path, _ = stopped
    step = load_run(path).last_step
    assert command_line(["table", str(path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "steps, stopped early" in printed
    assert f"{step:,} 2 " in printed, "the column of stopped runs, and that of seeds"
    assert command_line(["table", str(path), str(trained)]) == 2  # the same seeds
    assert "seed 0 of one configuration is in both" in capsys.readouterr().err


def test_pooled_seeds_of_which_some_were_stopped(stopped, trained):
    """Other seeds of the same configuration, which were trained to the end, are listed first."""
    early, whole = load_run(stopped[0]), load_run(trained)
    others = whole.info | {"lanes": {"seed": [2, 3]}}
    seeds = {"seed": whole.metrics["seed"] + 2}
    other = dataclasses.replace(whole, info=others, metrics=whole.metrics | seeds)
    ((_, pooled),) = points_of([other, early])
    assert pooled.stopped_early
    assert pooled.num_lanes == 4
    assert pooled.last_step == early.last_step
    assert last_evaluation([pooled]).endswith("steps, stopped early")
    assert last_evaluation([other, early]).endswith("steps, some stopped early")
    assert last_evaluation([other]).endswith(" steps")


def test_a_stopped_run_is_extended_to_its_first_end(stopped, program, trained, tmp_path):
    """Or beyond; then it is as one that was never stopped."""
    path, _ = stopped
    steps = load_run(path).config.training.total_env_steps
    copy = shutil.copytree(path, tmp_path / "run")
    extend(copy, steps)
    program.train(copy, options_with())
    assert_same_results(copy, trained)
    assert "stopped_early" not in read_info(copy)
    further = shutil.copytree(path, tmp_path / "further")
    longer = ["--no-tensorboard", "--training.total-env-steps", str(steps + 20)]
    assert command_line(["resume", str(further), *longer]) == 0
    assert not load_run(further).stopped_early
    assert load_run(further).last_step == steps + 20


def test_fewer_steps_than_a_stopped_run_had_before_it(stopped, capsys):
    path, _ = stopped
    before = (path / "run.json").read_bytes()
    assert command_line(["resume", str(path), "--training.total-env-steps", "59"]) == 2
    said = capsys.readouterr().err
    assert f"total_env_steps is 59; allowed: 60, where run '{path}' ends, or more" in said
    assert (path / "run.json").read_bytes() == before


def test_stopping_at_the_end_is_not_early(program, whole, tmp_path):
    number = num_evaluations(whole[0])
    recorder = Recorder(lambda chunk: chunk.num_evaluations == number)
    program.train(tmp_path / "run", options_with(recorder))
    assert recorder.calls[-3:] == [number, "end: finished", "close"]
    assert "stopped_early" not in read_info(tmp_path / "run")
