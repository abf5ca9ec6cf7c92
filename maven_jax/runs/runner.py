"""Runs a sweep in a folder: progress, live metrics, checkpoints, interruption, going on.

A folder is made with all that a run needs to start, and `continue_run` takes it from wherever it
stands: from the start, or from its last checkpoint.
"""

import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from maven_jax.config import Config, ConfigError, check, first_line, validate
from maven_jax.reports.plots import count_of, draw_curves
from maven_jax.runs.checkpoint import (
    Checkpoint,
    Checkpointing,
    CheckpointWriter,
    can_go_on,
    load_checkpoint,
    remove_checkpoints,
)
from maven_jax.runs.files import is_locked, locked, replace_text
from maven_jax.runs.grid import Lanes, Part, lanes_from_columns
from maven_jax.runs.memory import Memory, check_memory, format_bytes, free_bytes, state_memory
from maven_jax.runs.processes import anywhere, by_writer, is_writer, together
from maven_jax.runs.progress import StopRequest, live_numbers, plain_console, progress_bar
from maven_jax.runs.results import (
    ENDED,
    MetricsWriter,
    Rows,
    Run,
    create_run_folder,
    create_sweep_folder,
    describe_machine,
    fit_weights,
    load_run,
    load_setup,
    read_initial_weights,
    save_weights,
    set_metrics_aside,
    sweep_parts,
    write_config,
    write_info,
)
from maven_jax.runs.sweep import (
    Sweep,
    SweepChunk,
    compile_sweep,
    lane_keys,
    make_mesh,
    run_sweep,
    spread,
    take_lanes,
)
from maven_jax.train import Trainer, make_trainer
from maven_jax.types import MarlEnv, NetworkParams, Params, TrainState


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


class Origin(NamedTuple):
    """Weights that training starts from, in the place of fresh ones."""

    arrays: Mapping[str, np.ndarray]
    """By names such as `params/agent/w`, with a leading axis of this run's lanes."""
    record: dict[str, Any]
    """Where they are from, for `run.json`."""


def train_run(
    config: Config,
    env: MarlEnv,
    path: Path,
    lanes: Lanes,
    options: Options | None = None,
    origin: Origin | None = None,
) -> Run:
    """Trains all lanes in one program and leaves a run's folder (see `results`).

    Args:
        config: the experiment.
        env: its environment.
        path: folder to make.
        lanes: from `make_lanes`.
        options: what it leaves and says beside.
        origin: weights to start from; optimisers and replay are fresh all the same.

    Returns:
        The run, as it stands on disk.

    Raises:
        ConfigError: a value that cannot work, the folder exists, or the lanes or weights do not
            fit.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    options = options or Options()
    options.checkpoint.validate()
    trainer = make_trainer(config, env)  # refuses what cannot work before a folder is made
    info, arrays = _new_info(lanes, {}), None
    if origin is not None:
        arrays = origin.arrays
        _fit_lanes(arrays, trainer, config, len(lanes.seeds))
        info["init_from"] = origin.record
    by_writer(lambda: create_run_folder(path, config, info, arrays))
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
    programs = {(repr(part.config), len(part.lanes.seeds)): part.config for part in parts}
    for (_, num_lanes), config in programs.items():
        check_run(config, make_env(config), num_lanes)
    infos = {part.name: (part.config, _new_info(part.lanes, part.coordinates)) for part in parts}
    by_writer(lambda: create_sweep_folder(path, infos))
    num_runs = sum(len(part.lanes.seeds) for part in parts)
    _say(options)(
        f"{num_runs} runs in {len(parts)} parts, {count_of(len(programs), 'program')} in all"
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
    options = options or Options()
    with _lock(path, "sweep", "sweep.json"):
        return _continue_sweep(path, make_env, options)


def _continue_sweep(
    path: Path, make_env: Callable[[Config], MarlEnv], options: Options
) -> list[Run]:
    folders = sweep_parts(path)
    infos = {folder: load_setup(folder)[1] for folder in folders}
    if all(info["status"] in ENDED for info in infos.values()):
        raise ConfigError(_has_finished("sweep", path))
    for folder, info in infos.items():
        if info["status"] in ENDED:
            load_run(folder)  # what is damaged is refused before others are trained
        elif anywhere(is_locked(folder / "config.yaml")):
            raise ConfigError(f"run '{folder}' is being trained by another process")
    compiled: tuple[Any, Sweep] | None = None
    try:
        for folder in folders:
            config, info = load_setup(folder)
            if info["status"] in ENDED:
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


def _has_finished(what: str, path: Path) -> str:
    return (
        f"{what} '{path}' has finished; allowed: one that was interrupted, or more steps by "
        "--training.total-env-steps"
    )


def extend(path: Path, total_env_steps: int, make_env: Callable[[Config], MarlEnv]) -> None:
    """Gives a run, or all runs of a sweep, more environment steps: `continue_run` then takes them.

    A run that has finished must have kept a checkpoint; one that has not may be extended anyway.

    Args:
        path: folder of a run or of a sweep.
        total_env_steps: of each seed; more than there are in the configuration.
        make_env: builds the environment of a configuration.

    Raises:
        ConfigError: a folder is damaged or is being trained, there are no more steps than there
            were, a run has finished and kept no checkpoint, or there is one that does not fit the
            folder. Nothing is changed then.
    """
    is_sweep = (path / "sweep.json").is_file()
    changed = {}
    for folder in sweep_parts(path) if is_sweep else [path]:
        config, info = load_setup(folder)
        if is_locked(folder / "config.yaml"):
            raise ConfigError(f"run '{folder}' is being trained by another process")
        before, name = config.training.total_env_steps, "training.total_env_steps"
        allowed = f"a whole number above {before}, which run '{folder}' has already"
        check(total_env_steps > before, name, total_env_steps, allowed)
        shapes = _state_shapes(config, make_env(config), info)
        if not can_go_on(folder, shapes, info["lanes"]) and info["status"] in ENDED:
            kept = "--checkpoint.keep-final keeps one; " if info["status"] == "finished" else ""
            raise ConfigError(
                f"run '{folder}' has ended and no whole checkpoint was kept, which going on needs "
                f"({kept}allowed: maven-jax train CONFIG --init-from '{folder}', which starts "
                "from its weights)"
            )
        training = dataclasses.replace(config.training, total_env_steps=total_env_steps)
        config = dataclasses.replace(config, training=training)
        validate(config)
        changed[folder] = config, info
    for folder, (config, info) in changed.items():
        with _lock(folder, "run", "config.yaml"):
            if info["status"] in ENDED:  # a kill after this leaves a run that ends as it did
                by_writer(partial(write_info, folder, info | {"status": "interrupted"}))
            by_writer(partial(write_config, folder, config))


def _state_shapes(config: Config, env: MarlEnv, info: Mapping[str, Any]) -> TrainState:
    """Those of a run's state, padding not included, of one that fits."""
    lanes = lanes_from_columns(info["lanes"], config.hyperparameters)
    check_run(config, env, len(lanes.seeds))
    hyperparameters = spread(lanes.hyperparameters, len(lanes.seeds))
    init = jax.vmap(make_trainer(config, env).init)
    return jax.eval_shape(init, lane_keys(lanes.seeds), hyperparameters)


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
    with _lock(path, "run", "config.yaml"):
        try:
            return _continue_run(path, env, options, compiled)
        except KeyboardInterrupt:
            raise InterruptedRunError(path) from None


def _continue_run(path: Path, env: MarlEnv, options: Options, compiled: Sweep | None) -> Run:
    config, info = load_setup(path)
    if info["status"] == "finished":
        raise ConfigError(_has_finished("run", path))
    if info["status"] == "converted":
        raise ConfigError(
            f"run '{path}' was converted and has no state to go on from; allowed: maven-jax train "
            f"CONFIG --init-from '{path}', which starts from its weights"
        )
    started = time.perf_counter()
    from_weights = "init_from" in info
    arrays = read_initial_weights(path) if from_weights else None
    num_lanes = len(info["lanes"]["seed"])
    sweep = compiled or _compile(config, env, num_lanes, options, from_weights)
    start = load_checkpoint(path, sweep.state_shapes, num_lanes, _say(options), info["lanes"])
    weights = None
    if start:
        _say(options)(f"going on after {start.num_chunks} evaluations")
    elif arrays is not None:
        weights = _fit_lanes(arrays, make_trainer(config, env), config, num_lanes)
    info |= start.info if start else _NO_COUNTS
    info |= {"status": "running", "command": sys.argv, **describe_machine()}
    info["compile_seconds"] = round(sweep.compile_seconds, 2)
    info["keep_final"] = options.checkpoint.keep_final or info.get("keep_final", False)
    by_writer(lambda: write_info(path, info))

    def end_as(status: str) -> None:
        seconds = time.perf_counter() - started + info.get("wall_seconds", 0)
        write_info(path, info | {"status": status, "wall_seconds": round(seconds, 2)})

    try:
        with _out_of_memory(num_lanes):
            _train(sweep, config, path, options, info, start, weights)
        _draw([load_run(path)], path, options)
        by_writer(lambda: end_as("finished"))
    except BaseException as error:
        if is_writer():
            with suppress(OSError):  # such as a full disk: `status` stays as it was
                end_as("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    if not info["keep_final"]:
        by_writer(lambda: remove_checkpoints(path))
    return load_run(path)


def _fit_lanes(
    arrays: Mapping[str, np.ndarray], trainer: Trainer, config: Config, num_lanes: int
) -> tuple[Params, NetworkParams]:
    """Weights to start from as trees; the first array that does not fit is named."""
    fresh = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    params, latent_params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((num_lanes, *x.shape), x.dtype),
        (fresh.params, fresh.latent_params),
    )
    what = "weights to start from do not fit the configuration"
    return fit_weights(arrays, params, latent_params, what)


def _train(
    sweep: Sweep,
    config: Config,
    path: Path,
    options: Options,
    info: dict[str, Any],
    start: Checkpoint | None,
    weights: tuple[Params, NetworkParams] | None,
) -> None:
    """The host loop over chunks; what it counts goes into `info`."""
    lanes = lanes_from_columns(info["lanes"], config.hyperparameters)
    results = _Results(path, lanes, options, start)
    num_updates = int(start.position.metrics["num_updates"].max()) if start else 0
    checkpoints = CheckpointWriter(path, options.checkpoint, _say(options), num_updates)
    position, num_chunks = (start.position, start.num_chunks) if start else (None, 0)
    saved_chunks = num_chunks
    seconds_before, updates_before = info["train_seconds"], info["seed_updates"]
    started = time.perf_counter()
    chunk, stopped = None, False

    def save(chunk: SweepChunk) -> None:
        counts = {name: info[name] for name in _NO_COUNTS}
        together(results.sync)
        rows = results.rows
        checkpoints.save(chunk.state, chunk.metrics, num_chunks, num_updates, rows, counts)

    try:
        with StopRequest(_say(options)) as stop, progress_bar(options.console) as progress:
            total = config.training.total_env_steps
            label = f"{config.algorithm.upper()}, {count_of(sweep.num_lanes, 'run')}"
            task = progress.add_task(label, total=total, live="")
            keys, hyperparameters = lane_keys(lanes.seeds), lanes.hyperparameters
            for chunk in run_sweep(sweep, keys, hyperparameters, position, weights):
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
                    save(chunk)
                    saved_chunks = num_chunks
                else:
                    checkpoints.settle_if_written()
                if stopped:
                    break
            if chunk is not None and info["keep_final"] and saved_chunks < num_chunks:
                save(chunk)
        together(results.sync)
    finally:
        results.close()
        checkpoints.close()
    if chunk is not None:
        learned = chunk.state.params, chunk.state.latent_params
        params, latent_params = take_lanes(learned, sweep.num_lanes)
        save_weights(path, params, latent_params, num_chunks)
    elif position is not None:  # its last checkpoint was saved at its end
        save_weights(path, position.state.params, position.state.latent_params, num_chunks)
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
        if start is None and (aside := set_metrics_aside(path)):
            _say(options)(
                f"there is no checkpoint to go on from: '{path}' begins again; its rows so far are "
                f"kept as '{aside.name}'"
            )
        if start is not None and start.text is not None:
            replace_text(path / "metrics.csv", start.text)
        self._metrics = MetricsWriter(path, lanes.columns, start.rows.length if start else 0)
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

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        if self._metrics is not None:
            self._metrics.sync()

    @property
    def rows(self) -> Rows:
        """How much of `metrics.csv` there is."""
        return self._metrics.rows if self._metrics is not None else Rows(0, 0)

    def close(self) -> None:
        """Closes the files."""
        for file in (self._metrics, self._events):
            if file is not None:
                file.close()


def check_run(config: Config, env: MarlEnv, num_lanes: int) -> Memory:
    """Refuses a run that cannot be or whose state does not fit, before anything compiles.

    Returns:
        What the state holds on the devices of this process.

    Raises:
        ConfigError: a value that cannot work, or the lanes do not fit.
    """
    trainer, mesh = make_trainer(config, env), make_mesh(num_lanes)
    here = _devices_here(mesh)
    lanes_here = -(-num_lanes // mesh.size) * len(here)
    lane = state_memory(jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters))
    copy = lane.total if here[0].platform == "cpu" else 0
    held = Memory(*(number * lanes_here for number in lane._replace(checkpoint=copy)))
    together(lambda: check_memory(held, free_bytes(here), num_lanes, mesh.size))
    return held


def _devices_here(mesh: Mesh) -> list[jax.Device]:
    return [device for device in mesh.devices.flat if device.process_index == jax.process_index()]


def _compile(
    config: Config, env: MarlEnv, num_lanes: int, options: Options, from_weights: bool = False
) -> Sweep:
    """The program of a sweep, once it is known that its memory is there."""
    held = check_run(config, env, num_lanes)
    trainer, mesh, name = make_trainer(config, env), make_mesh(num_lanes), config.algorithm.upper()
    here = _devices_here(mesh)
    free = free_bytes(here)
    runs = count_of(num_lanes, "run")
    with (
        options.console.status(f"{name}: compiling one program for {runs}"),
        _out_of_memory(num_lanes),
    ):
        sweep = compile_sweep(trainer, num_lanes, mesh, from_weights=from_weights)
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
        draw_curves(runs, path / "figures" / "return.png")
    except (ConfigError, OSError) as error:
        _say(options)(f"no figure: {first_line(error)}")


@contextmanager
def _lock(path: Path, what: str, file: str) -> Iterator[None]:
    """Keeps a second command off a folder until this one ends, however it ends.

    Raises:
        ConfigError: another process is training what is in it.
    """
    held = locked(path / file) if is_writer() else nullcontext(True)
    with held as taken:
        if anywhere(not taken):
            raise ConfigError(f"{what} '{path}' is being trained by another process")
        yield


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
