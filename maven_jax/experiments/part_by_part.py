"""A sweep of several programs, or a study: runs in one folder, one after the other.

Each run has its own lock, so any number of processes share out the runs of one folder.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maven_jax.acting.shaping import check_shaping
from maven_jax.config import Config
from maven_jax.errors import ConfigError, StorageError
from maven_jax.experiments.console import log_to
from maven_jax.experiments.folder import ENDED, load_setup, sweep_parts
from maven_jax.experiments.grid import Part
from maven_jax.experiments.identity import Setup, create_once
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.lock import try_lock
from maven_jax.experiments.new_folder import create_sweep_folder
from maven_jax.experiments.options import InterruptedRunError, Options
from maven_jax.experiments.programs import check_run, compile_run
from maven_jax.experiments.provenance import check_settings, env_of_run
from maven_jax.experiments.run import Run, load_run
from maven_jax.experiments.runner import (
    already_finished,
    continue_run,
    draw_runs,
    new_info,
    remove_if_untrained,
    report_existing,
)
from maven_jax.experiments.sweep import Sweep
from maven_jax.experiments.text import pluralize
from maven_jax.training.train import make_trainer, static_part
from maven_jax.types import MarlEnv
from maven_jax.validation.files import AnyPath


def train_sweep(
    parts: Sequence[Part],
    make_env: Callable[[Config], MarlEnv],
    path: AnyPath,
    options: Options | None = None,
) -> list[Run]:
    """Trains a sweep of several programs, part by part, in a folder of runs' folders.

    A folder that holds the same sweep is resumed. Several processes share out its parts.

    Args:
        parts: from `expand`.
        make_env: builds the environment of a configuration.
        path: folder to make, or of the same sweep.
        options: what the runs leave and say beside.

    Returns:
        The runs that have finished.

    Raises:
        ConfigError: a value that cannot work, or lanes that do not fit.
        StorageError: the folder holds something else, or cannot be made.
        InterruptedRunError: after a signal to stop.
    """
    path = Path(path)
    options = options or Options()
    if create_sweep(parts, make_env, path, options):
        return remove_if_untrained(path, lambda: continue_sweep(path, make_env, options))
    folders = sweep_parts(path)
    finished = finished_runs(folders)  # what is damaged is refused before all else
    if report_existing(path, folders, options):
        return finished
    return continue_sweep(path, make_env, options)


def create_sweep(
    parts: Sequence[Part],
    make_env: Callable[[Config], MarlEnv],
    path: Path,
    options: Options,
    report: str | None = None,
) -> bool:
    """Makes the folder of a sweep, or of a study where a report is named, that has not begun.

    Returns:
        Whether it was made; the same sweep or study may be there already.

    Raises:
        ConfigError: a value that cannot work, or lanes that do not fit.
        StorageError: the folder holds something else, or cannot be made.
    """
    options.checkpoint.validate()
    setups = {p.name: Setup(p.config, new_info(p.lanes, p.coordinates)) for p in parts}
    lanes = {part.name: part.lanes for part in parts}
    programs = {_program(setup.config, setup.info) for setup in setups.values()}

    def check_parts() -> None:
        checked = set()
        for name, setup in setups.items():
            program = _program(setup.config, setup.info)
            with _naming(name):
                env = make_env(setup.config)
                if program in checked:
                    make_trainer(setup.config, env)  # refuses a number of steps that cannot work
                else:
                    check_run(setup.config, env, program[1])
                check_shaping(env, lanes[name].hyperparameters)
            checked.add(program)

    def create() -> None:
        runs = {name: (setup.config, setup.info) for name, setup in setups.items()}
        create_sweep_folder(path, runs, report)

    if not create_once(path, setups, create, report, check_parts):
        return False
    num_runs = sum(len(part.lanes.seeds) for part in parts)
    log_to(options.console)(
        f"{num_runs} runs in {len(parts)} parts, {pluralize(len(programs), 'program')} in all"
    )
    return True


def continue_sweep(
    path: AnyPath, make_env: Callable[[Config], MarlEnv], options: Options | None = None
) -> list[Run]:
    """Resumes a sweep of several programs: `continue_run` of each part that has not finished.

    Returns:
        The runs that have finished; other processes may be training the rest.

    Raises:
        StorageError: a folder is missing or damaged, or all have finished.
        InterruptedRunError: after a signal to stop.
    """
    path = Path(path)
    options = options or Options()
    folders = sweep_parts(path)
    if all(load_setup(folder)[1]["status"] in ENDED for folder in folders):
        raise StorageError(already_finished("sweep", path))
    continue_parts(path, folders, make_env, options)
    runs = finished_runs(folders)
    if runs:
        draw_runs(runs, path, options)
    return runs


def finished_runs(folders: Sequence[Path]) -> list[Run]:
    """Those of a sweep's runs that have finished."""
    return [load_run(folder) for folder in folders if load_setup(folder)[1]["status"] in ENDED]


def continue_parts(
    path: Path,
    folders: Sequence[Path],
    make_env: Callable[[Config], MarlEnv],
    options: Options,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """`continue_run` of each of a sweep's folders that has not finished; a program is shared.

    A part that another process trains is skipped.

    Args:
        path: the sweep's folder.
        folders: which of its parts.
        make_env: builds the environment of a configuration.
        options: what the runs leave and say beside.
        after_each: called whenever a run has finished.

    Raises:
        StorageError: a folder is missing or damaged.
        ConfigError: the lanes do not fit.
        InterruptedRunError: after a signal to stop.
    """
    say = log_to(options.console)
    finished_runs(folders)  # what is damaged is refused before others are trained
    for folder in folders:
        info = load_setup(folder)[1]
        if info["status"] not in ENDED:
            check_settings(folder, info)
    compiled: dict[Any, Sweep] = {}
    stop = StopRequest(say)
    try:
        for index, folder in enumerate(folders):
            if load_setup(folder)[1]["status"] in ENDED:
                continue
            if stop.requested:
                raise KeyboardInterrupt
            with try_lock(folder) as taken:  # before compiling, so that no other process does
                if not taken:
                    say(f"'{folder.name}' is skipped: another process trains it")
                    continue
                config, info = load_setup(folder)
                if info["status"] in ENDED:  # meanwhile
                    continue
                program = _program(config, info)
                named = dataclasses.replace(options, name=folder.name)
                env = env_of_run(folder, config, info, make_env)
                with _naming(folder.name):
                    if program not in compiled:
                        compiled[program] = compile_run(config, env, program[1], named)
                    continue_run(folder, env, named, compiled[program], stop)
            to_come = [_program(*load_setup(other)) for other in folders[index + 1 :]]
            compiled = {p: sweep for p, sweep in compiled.items() if p in to_come}
            after_each()
    except (InterruptedRunError, KeyboardInterrupt):
        raise InterruptedRunError(path) from None


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What is refused of a run is said with its name."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"run '{name}': {error}") from None


def _program(config: Config, info: Mapping[str, Any]) -> tuple[Config, int]:
    """What a run's program is compiled for: runs of which it is equal share the program."""
    return static_part(config), len(info["lanes"]["seed"])
