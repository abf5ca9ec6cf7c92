"""Trains what one folder holds: progress, live metrics, checkpoints, interruption, resuming.

A folder is made with all that a run needs to start; `continue_run` starts or resumes it.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from maven_jax.config import Config
from maven_jax.environments.registry import class_name
from maven_jax.errors import ConfigError, MavenJaxError, StorageError, first_line
from maven_jax.experiments.checkpoint import remove_checkpoints
from maven_jax.experiments.console import log_to
from maven_jax.experiments.files import draft_of
from maven_jax.experiments.folder import has_rows, load_setup
from maven_jax.experiments.grid import Lanes
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.lock import lock, try_lock
from maven_jax.experiments.loop import INITIAL_COUNTS, train_lanes
from maven_jax.experiments.new_folder import write_info
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.programs import compile_run, explain_out_of_memory
from maven_jax.experiments.provenance import (
    check_env_of_run,
    check_settings,
    current_settings,
    describe_changes,
    record_start,
)
from maven_jax.experiments.restoring import load_checkpoint
from maven_jax.experiments.run import Run, load_run
from maven_jax.experiments.sweep import Sweep
from maven_jax.experiments.text import pluralize
from maven_jax.experiments.weights import fit_lanes, read_initial_weights
from maven_jax.training.budget import late_evaluation
from maven_jax.training.train import make_trainer
from maven_jax.types import MarlEnv
from maven_jax.validation.files import AnyPath

UNFIT_START = "the initial weights (--init-from) do not fit the configuration"


def continue_run(
    path: AnyPath,
    env: MarlEnv,
    options: Options | None = None,
    compiled: Sweep | None = None,
    stop: StopRequest | None = None,
) -> Run:
    """Trains a run from where its folder stands, the start or a checkpoint, to its end.

    On as many devices as before, the result is bit for bit that of a run that never stopped.

    Args:
        path: the run's folder.
        env: the environment of its configuration.
        options: console, callbacks, checkpoints, figures.
        compiled: the program of this configuration, whatever its number of steps, and of as many
            lanes, if there is one already.
        stop: a stop flag that the caller shares; a signal after the last chunk lets the run finish.

    Raises:
        StorageError: the folder is damaged, is being trained, or the run has finished.
        ConfigError: the lanes do not fit.
        InterruptedRunError: after a signal to stop.
    """
    path, options = Path(path), options or Options()
    options.checkpoint.validate()
    stop = stop or StopRequest(log_to(options.console))
    _load_unfinished(path)
    with lock(path), ExitStack() as cleanup:
        try:
            return _continue_run(path, env, options, compiled, stop, cleanup)
        except KeyboardInterrupt:
            raise InterruptedRunError(path) from None


def refuse_ended(path: Path, status: str) -> None:
    """Raises `StorageError` for a run or sweep that has finished or was converted."""
    if status == "finished":
        what = "sweep" if (path / "sweep.json").exists() else "run"
        raise StorageError(
            f"{what} '{path}' has already finished; to train longer, if --checkpoint.keep-final "
            f"was given, use maven-jax resume '{path}' --training.total-env-steps NUMBER"
        )
    if status == "converted":
        raise StorageError(
            f"run '{path}' was converted and cannot be resumed; to start from its weights use "
            f"maven-jax train CONFIG --init-from '{path}'"
        )


def _load_unfinished(path: Path) -> tuple[Config, dict[str, Any]]:
    config, info = load_setup(path)
    refuse_ended(path, info["status"])
    check_settings(path, info)
    return config, info


def _continue_run(
    path: Path,
    env: MarlEnv,
    options: Options,
    compiled: Sweep | None,
    stop: StopRequest,
    cleanup: ExitStack,
) -> Run:
    """`continue_run`, once locked; from `enter_context(stop)` on a signal only sets a flag."""
    say = log_to(options.console)
    config, info = _load_unfinished(path)  # again: another process may have finished it
    check_env_of_run(path, info, env)
    if changes := describe_changes(info):
        say(f"run '{path}' is {changes}")
    started = time.perf_counter()
    arrays = read_initial_weights(path) if "init_from" in info else None
    num_lanes = len(info["lanes"]["seed"])
    late = late_evaluation(config.training, env.time_limit)
    if late and not has_rows(path):
        say(late)
    if compiled is None:
        sweep = compile_run(config, env, num_lanes, options, from_weights=arrays is not None)
    else:
        sweep = compiled._replace(total_env_steps=config.training.total_env_steps)
    cleanup.enter_context(stop)  # once compiled: from here on a signal waits for what is written
    checkpoint, weights = load_checkpoint(path, sweep.state_shapes, info["lanes"], say), None
    if checkpoint:
        say(f"resuming after {checkpoint.progress.num_chunks} evaluations")
    elif arrays is not None:
        weights = fit_lanes(arrays, make_trainer(config, env), config, num_lanes, UNFIT_START)
    info |= checkpoint.progress.info if checkpoint else INITIAL_COUNTS
    info |= {
        "status": "running",
        **record_start(info),
        "environment": class_name(env),
        "compile_seconds": round(sweep.compile_seconds, 2),
        "keep_final": options.checkpoint.keep_final or info.get("keep_final", False),
    }
    for name in ("metrics_csv", "stopped_early"):  # of an end before this one
        info.pop(name, None)
    write_info(path, info)

    def end_as(status: str) -> None:
        seconds = time.perf_counter() - started + info.get("wall_seconds", 0)
        write_info(path, info | {"status": status, "wall_seconds": round(seconds, 2)})

    for callback in options.callbacks:
        cleanup.callback(callback.close)
    try:
        if stop.requested:
            raise KeyboardInterrupt
        with explain_out_of_memory(num_lanes):
            if train_lanes(sweep, config, path, options, info, checkpoint, weights, stop):
                raise KeyboardInterrupt
        draw_runs([load_run(path)], path, options)
        end_as("finished")
    except BaseException as error:
        with suppress(OSError):  # such as a full disk: `status` stays as it was
            end_as("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    if not info["keep_final"]:
        remove_checkpoints(path)
    run = load_run(path)
    for callback in options.callbacks:
        callback.on_end(run)
    return run


def draw_runs(runs: Sequence[Run], path: Path, options: Options) -> None:
    """Draws the figure of a folder; training does not depend on it."""
    if options.draw is None or not runs:
        return
    try:
        options.draw(runs, path / "figures" / "return.png")
    except (MavenJaxError, OSError) as error:
        log_to(options.console)(f"no figure: {first_line(error)}")


def new_info(lanes: Lanes, coordinates: dict[str, Any]) -> dict[str, Any]:
    """`run.json` of a run that has not begun."""
    columns = {name: column.tolist() for name, column in lanes.columns.items()}
    return {
        "status": "waiting",
        "lanes": columns,
        "coordinates": coordinates,
        "settings": current_settings(),
    }


def remove_if_untrained(path: Path, train: Callable[[], list[Run]]) -> list[Run]:
    """Trains in a new folder; one in which nothing was learned is removed again.

    Raises:
        ConfigError: all runs diverged before their first evaluation.
    """
    try:
        runs = train()
        if runs and not any(run.metrics["seed"].size for run in runs):
            raise ConfigError(
                f"all {pluralize(sum(run.num_lanes for run in runs), 'run')} diverged before the "
                "first evaluation; try a lower learning_rate"
            )
        return runs
    except BaseException as error:
        _remove_untrained(path)
        if isinstance(error, InterruptedRunError):
            raise InterruptedRunError(path) from None
        raise


def _remove_untrained(path: Path) -> None:
    """Removes a folder in which nothing was learned and no other process trains."""
    folders = [file.parent for file in path.rglob("run.json")]
    with ExitStack() as held, suppress(StorageError):
        for folder in folders:
            if not held.enter_context(try_lock(folder)) or has_rows(folder):
                return
        if folders:
            removed = path.rename(draft_of(path))  # in one step
            shutil.rmtree(removed, ignore_errors=True)
