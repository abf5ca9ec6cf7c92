"""A sweep of several programs, or a study: one run after the other, in one folder."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maven_jax.config import Config
from maven_jax.config.files import AnyPath
from maven_jax.errors import ConfigError, StorageError
from maven_jax.runs.console import say_on
from maven_jax.runs.files import is_locked
from maven_jax.runs.folder import ENDED, load_setup, sweep_parts
from maven_jax.runs.grid import Part
from maven_jax.runs.lock import lock
from maven_jax.runs.new_folder import create_sweep_folder
from maven_jax.runs.options import InterruptedRunError, Options
from maven_jax.runs.processes import anywhere, by_writer
from maven_jax.runs.programs import check_run, compile_run
from maven_jax.runs.run import Run, load_run
from maven_jax.runs.runner import continue_run, draw_runs, new_info, nothing_left, or_nothing
from maven_jax.runs.sweep import Sweep
from maven_jax.runs.text import count_of
from maven_jax.train import make_trainer, static_part
from maven_jax.types import MarlEnv


def train_sweep(
    parts: Sequence[Part],
    make_env: Callable[[Config], MarlEnv],
    path: AnyPath,
    options: Options | None = None,
) -> list[Run]:
    """Trains a sweep of several programs, one after the other, in a folder of runs' folders.

    Args:
        parts: from `expand`.
        make_env: builds the environment of a configuration.
        path: folder to make.
        options: what the runs leave and say beside.

    Raises:
        ConfigError: a value that cannot work, or lanes that do not fit.
        StorageError: the folder exists, or cannot be made.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    path = Path(path)
    options = options or Options()
    create_sweep(parts, make_env, path, options)
    return or_nothing(path, lambda: continue_sweep(path, make_env, options))


def create_sweep(
    parts: Sequence[Part],
    make_env: Callable[[Config], MarlEnv],
    path: Path,
    options: Options,
    report: str | None = None,
) -> None:
    """Makes the folder of a sweep, or of a study where a report is named, that has not begun.

    Raises:
        ConfigError: a value that cannot work, or lanes that do not fit.
        StorageError: the folder exists, or cannot be made.
    """
    options.checkpoint.validate()
    infos = {part.name: (part.config, new_info(part.lanes, part.coordinates)) for part in parts}
    programs = set()
    for name, (config, info) in infos.items():
        program = _program(config, info)
        with _naming(name):
            env = make_env(config)
            if program in programs:
                make_trainer(config, env)  # refuses a number of steps that cannot work
            else:
                check_run(config, env, program[1])
        programs.add(program)
    by_writer(lambda: create_sweep_folder(path, infos, report))
    num_runs = sum(len(part.lanes.seeds) for part in parts)
    say_on(options.console)(
        f"{num_runs} runs in {len(parts)} parts, {count_of(len(programs), 'program')} in all"
    )


def continue_sweep(
    path: AnyPath, make_env: Callable[[Config], MarlEnv], options: Options | None = None
) -> list[Run]:
    """Goes on with a sweep of several programs: `continue_run` of each that has not finished.

    Raises:
        StorageError: a folder is missing or damaged, or all have finished.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    path = Path(path)
    options = options or Options()
    with lock(path, "sweep", "sweep.json"):
        folders = sweep_parts(path)
        if all(load_setup(folder)[1]["status"] in ENDED for folder in folders):
            raise StorageError(nothing_left("sweep", path))
        continue_parts(path, folders, make_env, options)
        runs = [load_run(folder) for folder in folders]
        draw_runs(runs, path, options)
        return runs


def continue_parts(
    path: Path,
    folders: Sequence[Path],
    make_env: Callable[[Config], MarlEnv],
    options: Options,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """`continue_run` of each of a sweep's folders that has not finished; a program is shared.

    Args:
        path: the sweep's folder, whose lock is held.
        folders: which of its parts.
        make_env: builds the environment of a configuration.
        options: what the runs leave and say beside.
        after_each: called by the writing process whenever a run has finished.

    Raises:
        StorageError: a folder is missing or damaged, or is being trained.
        ConfigError: the lanes do not fit.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    infos = {folder: load_setup(folder)[1] for folder in folders}
    for folder, info in infos.items():
        if info["status"] in ENDED:
            load_run(folder)  # what is damaged is refused before others are trained
        elif anywhere(is_locked(folder / "config.yaml")):
            raise StorageError(f"run '{folder}' is being trained by another process")
    compiled: dict[Any, Sweep] = {}
    try:
        for index, folder in enumerate(folders):
            config, info = load_setup(folder)
            if info["status"] in ENDED:  # before, or by another process meanwhile
                continue
            program = _program(config, info)
            named = dataclasses.replace(options, name=folder.name)
            with _naming(folder.name):
                env = make_env(config)
                if program not in compiled:
                    compiled[program] = compile_run(config, env, program[1], named)
                continue_run(folder, env, named, compiled[program])
            to_come = [_program(*load_setup(other)) for other in folders[index + 1 :]]
            compiled = {p: sweep for p, sweep in compiled.items() if p in to_come}
            by_writer(after_each)
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
