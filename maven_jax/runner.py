"""Runs a sweep in a folder: progress, live metrics, checkpoints, interruption, going on.

A folder is made with all that a run needs to start, and `continue_run` takes it from wherever it
stands: from the start, or from its last checkpoint.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from rich.console import Console

from maven_jax.checkpoint import (
    Checkpoint,
    Checkpointing,
    CheckpointWriter,
    load_checkpoint,
    remove_checkpoints,
)
from maven_jax.config import Config, ConfigError, first_line
from maven_jax.grid import Lanes, Part, lanes_from_columns
from maven_jax.memory import Memory, check_memory, format_bytes, free_bytes, state_memory
from maven_jax.plots import count_of, draw_curves
from maven_jax.processes import anywhere, by_writer, is_writer, together
from maven_jax.progress import StopRequest, live_numbers, plain_console, progress_bar
from maven_jax.results import (
    MetricsWriter,
    Run,
    create_run_folder,
    create_sweep_folder,
    describe_machine,
    load_run,
    load_setup,
    save_weights,
    sweep_parts,
    write_info,
)
from maven_jax.sweep import (
    Sweep,
    SweepChunk,
    compile_sweep,
    lane_keys,
    make_mesh,
    run_sweep,
    take_lanes,
)
from maven_jax.train import make_trainer
from maven_jax.types import MarlEnv

try:
    import fcntl
except ImportError:  # where there is none, nothing is locked
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Options:
    """What a run leaves and says beside its results; none of it changes them."""

    tensorboard: bool = True
    """Write events for TensorBoard."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)
    """When the whole state is saved."""
    console: Console = field(default_factory=lambda: plain_console(stderr=True))
    """Where progress is shown."""
    remarks: Sequence[str] = ()
    """Lines to say of the configuration, of each program once it is known to fit."""


class InterruptedRunError(Exception):
    """Ctrl-C during training; what had been learned, if anything, is in the run's folder."""

    def __init__(self, path: Path) -> None:
        kept = f"what was learned so far is in '{path}': maven-jax resume '{path}' goes on"
        super().__init__(f"interrupted; {kept if path.exists() else 'nothing was learned yet'}")


def train_run(
    config: Config, env: MarlEnv, path: Path, lanes: Lanes, options: Options | None = None
) -> Run:
    """Trains all lanes in one program and leaves a run's folder (see `results`).

    Args:
        config: the experiment.
        env: its environment.
        path: folder to make.
        lanes: from `make_lanes`.
        options: what it leaves and says beside.

    Returns:
        The run, as it stands on disk.

    Raises:
        ConfigError: a value that cannot work, the folder exists, or the lanes do not fit.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    options = options or Options()
    options.checkpoint.validate()
    make_trainer(config, env)  # refuses what cannot work before a folder is made
    by_writer(lambda: create_run_folder(path, config, _new_info(lanes, {})))
    (run,) = _or_nothing(path, lambda: [continue_run(path, env, options)])
    return run


def train_sweep(
    parts: Sequence[Part],
    make_env: Callable[[Config], MarlEnv],
    path: Path,
    options: Options | None = None,
) -> list[Run]:
    """Trains a sweep of several programs, one after the other, in a folder of runs' folders.

    Args:
        parts: from `expand`.
        make_env: builds the environment of a configuration.
        path: folder to make.
        options: what the runs leave and say beside.

    Raises:
        ConfigError: a value that cannot work, the folder exists, or the lanes do not fit.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    options = options or Options()
    options.checkpoint.validate()
    for part in parts:
        make_trainer(part.config, make_env(part.config))
    infos = {part.name: (part.config, _new_info(part.lanes, part.coordinates)) for part in parts}
    by_writer(lambda: create_sweep_folder(path, infos))
    sizes = [len(part.lanes.seeds) for part in parts]
    programs = len({(repr(part.config), size) for part, size in zip(parts, sizes, strict=True)})
    _say(options)(
        f"{sum(sizes)} runs in {len(parts)} parts, {count_of(programs, 'program')} in all"
    )
    return _or_nothing(path, lambda: continue_sweep(path, make_env, options))


def continue_sweep(
    path: Path, make_env: Callable[[Config], MarlEnv], options: Options | None = None
) -> list[Run]:
    """Goes on with a sweep of several programs: `continue_run` of each that has not finished.

    Raises:
        ConfigError: a folder is missing or damaged, or all have finished.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    folders = sweep_parts(path)
    setups = [load_setup(folder) for folder in folders]
    options = options or Options()
    if all(info["status"] == "finished" for _, info in setups):
        raise ConfigError(f"sweep '{path}' has finished; allowed: one that was interrupted")
    compiled: tuple[Any, Sweep] | None = None
    try:
        for folder, (config, info) in zip(folders, setups, strict=True):
            if info["status"] == "finished":
                continue
            program = config, len(info["lanes"]["seed"])
            if compiled is None or compiled[0] != program:
                compiled = program, _compile(config, make_env(config), program[1], options)
            continue_run(folder, make_env(config), options, compiled[1])
    except (InterruptedRunError, KeyboardInterrupt):
        raise InterruptedRunError(path) from None
    runs = [load_run(folder) for folder in folders]
    _draw(runs, path, options)
    return runs


def continue_run(
    path: Path, env: MarlEnv, options: Options | None = None, compiled: Sweep | None = None
) -> Run:
    """Takes a run from where its folder stands, the start or a checkpoint, to its end.

    On as many devices as before, what it leaves is bit for bit that of a run that never stopped.

    Args:
        path: the run's folder.
        env: the environment of its configuration.
        options: what it leaves and says beside.
        compiled: the program of this configuration and number of lanes, if there is one already.

    Raises:
        ConfigError: the folder is damaged, the run has finished, or the lanes do not fit.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    options = options or Options()
    options.checkpoint.validate()
    with _lock(path):
        return _continue_run(path, env, options, compiled)


def _continue_run(path: Path, env: MarlEnv, options: Options, compiled: Sweep | None) -> Run:
    config, info = load_setup(path)
    if info["status"] in ("finished", "converted"):
        raise ConfigError(f"run '{path}' has finished; allowed: one that was interrupted")
    started = time.perf_counter()
    try:
        sweep = compiled or _compile(config, env, len(info["lanes"]["seed"]), options)
        start = load_checkpoint(path, sweep.state_shapes, sweep.num_lanes, _say(options))
        if start:
            _say(options)(f"going on after {start.num_chunks} evaluations")
        info |= start.info if start else _NO_COUNTS
        info |= {"status": "running", "command": sys.argv, **describe_machine()}
        info["compile_seconds"] = round(sweep.compile_seconds, 2)
        by_writer(lambda: write_info(path, info))
        with _out_of_memory(sweep.num_lanes):
            _train(sweep, config, path, options, info, start)
        _draw([load_run(path)], path, options)
        info["status"] = "finished"
    except KeyboardInterrupt:
        info["status"] = "interrupted"
        raise InterruptedRunError(path) from None
    except BaseException:
        info["status"] = "failed"
        raise
    finally:
        info["wall_seconds"] = round(time.perf_counter() - started + info.get("wall_seconds", 0), 2)
        if is_writer():
            with suppress(OSError):  # such as a full disk: `status` stays as it was
                write_info(path, info)
    by_writer(lambda: remove_checkpoints(path))
    return load_run(path)


def _train(
    sweep: Sweep,
    config: Config,
    path: Path,
    options: Options,
    info: dict[str, Any],
    start: Checkpoint | None,
) -> None:
    """The host loop over chunks; what it counts goes into `info`."""
    lanes = lanes_from_columns(info["lanes"], config.hyperparameters)
    results = _Results(path, lanes, options, start)
    num_updates = int(start.position.metrics["num_updates"].max()) if start else 0
    checkpoints = CheckpointWriter(path, options.checkpoint, _say(options), num_updates)
    position, num_chunks = (start.position, start.num_chunks) if start else (None, 0)
    seconds_before, updates_before = info["train_seconds"], info["seed_updates"]
    started = time.perf_counter()
    chunk, stopped = None, False
    try:
        with StopRequest(_say(options)) as stop, progress_bar(options.console) as progress:
            total = config.training.total_env_steps
            label = f"{config.algorithm.upper()}, {count_of(sweep.num_lanes, 'run')}"
            task = progress.add_task(label, total=total, live="")
            for chunk in run_sweep(sweep, lane_keys(lanes.seeds), lanes.hyperparameters, position):
                num_chunks += 1
                together(partial(results.write, chunk))
                seconds = time.perf_counter() - started
                info["train_seconds"] = round(seconds_before + seconds, 2)
                info["seed_updates"] += config.training.updates_per_evaluation * int(
                    chunk.active.sum()
                )
                if _report_divergence(chunk, lanes, info, _say(options)):
                    by_writer(lambda: write_info(path, info))
                sound = chunk.metrics["env_steps"][~chunk.diverged]
                rate = (info["seed_updates"] - updates_before) / seconds
                progress.update(
                    task,
                    completed=min(int(sound.min(initial=total)), total),
                    live=live_numbers(chunk, rate),
                )
                stopped = anywhere(stop.requested)
                num_updates = int(chunk.metrics["num_updates"].max())
                if stopped or anywhere(checkpoints.is_due(num_updates)):
                    counts = {name: info[name] for name in _NO_COUNTS}
                    checkpoints.save(
                        chunk.state, chunk.metrics, num_chunks, num_updates, results.read(), counts
                    )
                else:
                    checkpoints.settle_if_written()
                if stopped:
                    break
    finally:
        results.close()
        checkpoints.close()
    if chunk is not None:
        weights = chunk.state.params, chunk.state.latent_params
        save_weights(path, *take_lanes(weights, sweep.num_lanes))
    elif position is not None:  # its last checkpoint was saved at its end
        save_weights(path, position.state.params, position.state.latent_params)
    if stopped:
        raise KeyboardInterrupt


_NO_COUNTS: dict[str, Any] = {"seed_updates": 0, "train_seconds": 0.0, "diverged": []}
"""What training counts up in `run.json`, at the start."""


class _Results:
    """What the writing process adds after every chunk; other processes write nothing."""

    def __init__(
        self, path: Path, lanes: Lanes, options: Options, start: Checkpoint | None
    ) -> None:
        self._metrics = self._events = None
        if not is_writer():
            return
        self._metrics = MetricsWriter(path, lanes.columns, start.metrics_csv if start else "")
        if options.tensorboard:
            from tensorboardX import SummaryWriter

            first = 0
            if start:
                diverged = np.asarray(start.position.state.diverged)
                first = _event_step(start.position.metrics, diverged) + 1
            folder = path / "events"
            count = len(list(folder.glob("*")))  # two starts in a second would share a file's name
            self._events = SummaryWriter(str(folder), purge_step=first, filename_suffix=f".{count}")

    def write(self, chunk: SweepChunk) -> None:
        """A row of every active lane, and what TensorBoard shows of all."""
        if self._metrics is not None:
            self._metrics.write(chunk.metrics, chunk.active)
        if self._events is not None:
            _write_events(self._events, chunk)

    def read(self) -> str:
        """All rows so far."""
        return self._metrics.read() if self._metrics is not None else ""

    def close(self) -> None:
        """Closes the files."""
        for file in (self._metrics, self._events):
            if file is not None:
                file.close()


def _compile(config: Config, env: MarlEnv, num_lanes: int, options: Options) -> Sweep:
    """The program of a sweep, once it is known that its memory is there."""
    trainer, mesh, name = make_trainer(config, env), make_mesh(num_lanes), config.algorithm.upper()
    here = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    lanes_here = -(-num_lanes // mesh.size) * len(here)
    lane = state_memory(jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters))
    copy = lane.total if here[0].platform == "cpu" else 0
    held = Memory(*(number * lanes_here for number in lane._replace(checkpoint=copy)))
    free = free_bytes(here)
    together(lambda: check_memory(held, free, num_lanes, mesh.size))
    runs = count_of(num_lanes, "run")
    with (
        options.console.status(f"{name}: compiling one program for {runs}"),
        _out_of_memory(num_lanes),
    ):
        sweep = compile_sweep(trainer, num_lanes, mesh)
    held = held._replace(scratch=sweep.scratch_bytes * len(here))
    together(lambda: check_memory(held, free, num_lanes, mesh.size))
    known = f"; {format_bytes(free)} are free" if free is not None else ""
    options.console.print(f"{name}: {runs} hold {held}{known}", highlight=False, soft_wrap=True)
    for line in options.remarks:
        _say(options)(line)
    return sweep


@contextmanager
def _out_of_memory(num_lanes: int) -> Iterator[None]:
    """Says in a line what a device says where its memory does not do."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        runs = count_of(num_lanes, "run")
        raise ConfigError(
            f"{runs} do not fit on this device together: {first_line(error)}"
        ) from None


def _draw(runs: Sequence[Run], path: Path, options: Options) -> None:
    """The figure of a folder; what has been learned does not depend on it."""
    if not is_writer():
        return
    try:
        draw_curves([runs], path / "figures" / "return.png")
    except (ConfigError, OSError) as error:
        _say(options)(f"no figure: {first_line(error)}")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keeps a second command off a run's folder until this one ends, however it ends.

    Raises:
        ConfigError: another process is training the run.
    """
    if fcntl is None or not (path / "config.yaml").is_file():
        yield
        return
    with (path / "config.yaml").open("r+") as file:
        by_writer(lambda: _take_lock(file, path))
        yield


def _take_lock(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"run '{path}' is being trained by another process") from None
    except OSError:  # a file system without locks
        pass


def _new_info(lanes: Lanes, coordinates: dict[str, Any]) -> dict[str, Any]:
    columns = {name: column.tolist() for name, column in lanes.columns.items()}
    return {"status": "waiting", "lanes": columns, "coordinates": coordinates}


def _or_nothing(path: Path, train: Callable[[], list[Run]]) -> list[Run]:
    """Trains in a new folder; one in which nothing was learned is removed again."""
    try:
        runs = train()
        if not any(run.metrics["seed"].size for run in runs):
            raise ConfigError(
                f"all {count_of(sum(run.num_lanes for run in runs), 'run')} turned non-finite at "
                "once; allowed: hyperparameters that do not diverge, such as a lower learning_rate"
            )
        return runs
    except BaseException as error:
        rows = [file.read_bytes().count(b"\n") for file in path.rglob("metrics.csv")]
        if is_writer() and max(rows, default=0) < 2:
            shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, InterruptedRunError):
            raise InterruptedRunError(path) from None
        raise


def _report_divergence(
    chunk: SweepChunk, lanes: Lanes, info: dict[str, Any], say: Callable[[str], None]
) -> bool:
    """Says and records which lanes have turned non-finite in this chunk; whether any has."""
    known = [{name: lane[name] for name in lanes.columns} for lane in info["diverged"]]
    for index in np.flatnonzero(chunk.diverged):
        lane = {name: column[index].item() for name, column in lanes.columns.items()}
        if lane in known:
            continue
        last = int(chunk.metrics["num_updates"][index])
        info["diverged"] = [*info["diverged"], lane | {"num_updates": last}]
        which = ", ".join(f"{name} {value}" for name, value in lane.items())
        say(f"{which} turned non-finite and rests as it was after {last} updates; others go on")
    return len(info["diverged"]) > len(known)


def _say(options: Options) -> Callable[[str], None]:
    def say(line: str) -> None:
        options.console.print(f"maven-jax: {line}", highlight=False, soft_wrap=True, markup=False)

    return say


def _write_events(events: Any, chunk: SweepChunk) -> None:
    """Each metric's median over the lanes that are finite, and the quartiles of the return."""
    sound = {name: values[~chunk.diverged] for name, values in chunk.metrics.items()}
    if chunk.diverged.all():
        return
    step = _event_step(chunk.metrics, chunk.diverged)
    for name, values in sound.items():
        if values.ndim == 1:
            events.add_scalar(f"median/{name}", float(np.median(values)), step)
    low, high = np.percentile(sound["return"], [25, 75])
    events.add_scalar("quartiles/return_25", float(low), step)
    events.add_scalar("quartiles/return_75", float(high), step)


def _event_step(metrics: dict[str, np.ndarray], diverged: np.ndarray) -> int:
    """Where TensorBoard shows a chunk: the median step of the lanes that are finite."""
    return 0 if diverged.all() else int(np.median(metrics["env_steps"][~diverged]))
