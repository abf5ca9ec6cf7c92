"""Plans: what is trained, in one folder, from wherever the folder stands to its end.

`train`, `sweep`, `study` and `figure3` each make a plan. A plan of one part without a report is
that part's folder; any other is a folder of its parts' folders. Each part has its own lock, so any
number of processes share out the parts of one plan.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from maven_jax.acting.shaping import check_shaping
from maven_jax.config import Config
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError, StorageError, unknown
from maven_jax.experiments.console import log_to
from maven_jax.experiments.folder import ENDED, is_study, load_setup, parts_of
from maven_jax.experiments.grid import Part
from maven_jax.experiments.identity import Setup, holds
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.lock import lock, try_lock
from maven_jax.experiments.new_folder import create_run_folder, create_sweep_folder
from maven_jax.experiments.options import InterruptedRunError, Options, Origin
from maven_jax.experiments.programs import check_run, compile_run
from maven_jax.experiments.provenance import check_env_of_run, check_settings, env_of_run
from maven_jax.experiments.run import Run, load_run
from maven_jax.experiments.runner import (
    UNFIT_START,
    already_finished,
    continue_run,
    draw_runs,
    load_unfinished,
    new_info,
    remove_if_untrained,
)
from maven_jax.experiments.sweep import Sweep
from maven_jax.experiments.text import pluralize
from maven_jax.experiments.weights import fit_lanes, refuse_normalized
from maven_jax.training.train import make_trainer, static_part
from maven_jax.types import MarlEnv
from maven_jax.validation.files import AnyPath

MakeEnv = Callable[[Config], MarlEnv]
"""Builds the environment of a configuration."""


class Plan(NamedTuple):
    """What is trained, and what is made of it."""

    parts: tuple[Part, ...]
    """Each is one compiled program in one folder; programs are shared where they are equal."""
    report: str | None = None
    """A name in `maven_jax.studies.report.REPORTS`; None for the curves alone."""
    origin: Origin | None = None
    """Weights that the only part starts from, in place of fresh ones."""

    @property
    def is_single(self) -> bool:
        """Whether the plan's folder is that of its only part."""
        return len(self.parts) == 1 and self.report is None


def train_plan(
    plan: Plan,
    path: AnyPath,
    options: Options | None = None,
    make_env: MakeEnv = make_env,
    only: Collection[str] = (),
) -> list[Run]:
    """Trains a plan in a folder, which is made, or resumed where it holds the same plan.

    Args:
        plan: what to train.
        path: folder to make, or of the same plan.
        options: console, TensorBoard, checkpoints, figures.
        make_env: builds the environment of a configuration.
        only: names of the parts to train now; by default all.

    Returns:
        Those of these parts that have finished, now or before; other processes may be training the
        rest.

    Raises:
        ConfigError: a value that cannot work, lanes or weights that do not fit, or no such part.
        StorageError: the folder holds something else, is damaged, or cannot be made.
        InterruptedRunError: after a signal to stop.
    """
    path, options = Path(path), options or Options()
    if open_plan(plan, path, options, make_env, only):
        return remove_if_untrained(path, lambda: _train(path, options, make_env, only))
    return _train(path, options, make_env, only)


def resume_plan(
    path: AnyPath,
    options: Options | None = None,
    make_env: MakeEnv = make_env,
    only: Collection[str] = (),
) -> list[Run]:
    """Trains what a plan's folder lacks; of a study that has ended, the report is written anew.

    Arguments, result and errors are those of `train_plan`.

    Raises:
        StorageError: also where all parts of a sweep have finished.
    """
    path = Path(path)
    folders = parts_of(path)
    _check_names(only, [folder.name for folder in folders])
    if folders == [path]:
        load_unfinished(path)
    elif not is_study(path) and not unfinished(folders):
        raise StorageError(already_finished("sweep", path))
    finished_runs(folders)  # what is damaged is refused before others are trained
    for folder in unfinished(chosen_parts(path, only)):
        check_settings(folder, load_setup(folder)[1])
    return _train(path, options or Options(), make_env, only)


def open_plan(
    plan: Plan,
    path: Path,
    options: Options,
    make_env: MakeEnv = make_env,
    only: Collection[str] = (),
    *,
    trained_here: bool = True,
) -> bool:
    """Makes the folder of a plan, or finds the same plan in it; nothing is trained yet.

    Returns whether the folder was made. Arguments and errors are those of `train_plan`; with
    `trained_here` the parts must fit into this machine's memory.
    """
    _check_names(only, [part.name for part in plan.parts])
    if _create(plan, path, options, make_env, trained_here):
        return True
    finished_runs(parts_of(path))  # what is damaged is refused before all else
    folders = chosen_parts(path, only)
    to_train = unfinished(folders)
    for folder in to_train:
        load_unfinished(folder)
    if plan.is_single:
        config, info = load_setup(path)
        check_env_of_run(path, info, make_env(config))
        if to_train:
            with lock(path):  # refused if another process trains it
                pass
    found = "exists; it is resumed" if to_train else "has finished; there is nothing to train"
    log_to(options.console)(f"'{path}' {found}")
    return False


def _create(
    plan: Plan, path: Path, options: Options, make_env: MakeEnv, trained_here: bool
) -> bool:
    """Whether the folder was made; the same plan may be there already."""
    options.checkpoint.validate()
    setups = {"" if plan.is_single else part.name: _setup(part, plan.origin) for part in plan.parts}
    if holds(path, setups, plan.report):
        return False
    programs = set()
    for part, (name, (config, info, weights)) in zip(plan.parts, setups.items(), strict=True):
        program = _program(config, info)
        with _naming(name):
            env = make_env(config)
            trainer = make_trainer(config, env)
            if trained_here and program not in programs:
                check_run(config, env, program[1])
            check_shaping(env, part.lanes.hyperparameters)
            if weights is not None:
                refuse_normalized(config)
                fit_lanes(weights, trainer, config, program[1], UNFIT_START)
        programs.add(program)
    try:
        if plan.is_single:
            create_run_folder(path, *setups[""])
        else:
            runs = {name: (setup.config, setup.info) for name, setup in setups.items()}
            create_sweep_folder(path, runs, plan.report)
    except StorageError:  # another process may have been faster
        if holds(path, setups, plan.report):
            return False
        raise
    if not plan.is_single:
        num_runs = sum(len(part.lanes.seeds) for part in plan.parts)
        log_to(options.console)(
            f"{num_runs} runs in {pluralize(len(plan.parts), 'part')}; "
            f"{pluralize(len(programs), 'program')} to compile"
        )
    return True


def finished_runs(folders: Sequence[Path]) -> list[Run]:
    """Those of a plan's parts that have finished.

    Raises:
        StorageError: one of these is damaged.
    """
    return [load_run(folder) for folder in folders if load_setup(folder)[1]["status"] in ENDED]


def _setup(part: Part, origin: Origin | None) -> Setup:
    info = new_info(part.lanes, part.coordinates)
    if origin is None:
        return Setup(part.config, info)
    return Setup(part.config, info | {"init_from": origin.record}, origin.arrays)


def chosen_parts(path: Path, only: Collection[str]) -> list[Path]:
    """The folders of the named parts of a plan; by default of all."""
    return [part for part in parts_of(path) if not only or part == path or part.name in only]


def unfinished(folders: Sequence[Path]) -> list[Path]:
    """Those of a plan's parts that have not finished."""
    return [folder for folder in folders if load_setup(folder)[1]["status"] not in ENDED]


def _check_names(only: Collection[str], names: Sequence[str]) -> None:
    for name in only:
        if name not in names:
            raise unknown("part", name, names)


def _train(path: Path, options: Options, make_env: MakeEnv, only: Collection[str]) -> list[Run]:
    """`continue_run` of each part that has not finished and that no other process trains."""
    parts, folders, has_report = parts_of(path), chosen_parts(path, only), is_study(path)
    to_train = unfinished(folders)

    def write_report() -> None:
        if has_report and options.report is not None:
            options.report(path)

    try:
        if parts != [path]:
            _train_parts(to_train, options, make_env, write_report)
        elif to_train:
            with lock(path):
                continue_run(path, env_of_run(path, *load_setup(path), make_env), options)
    except (InterruptedRunError, KeyboardInterrupt):
        raise InterruptedRunError(path) from None
    finally:
        write_report()
    if to_train and not has_report and parts != [path]:
        draw_runs(finished_runs(parts), path, options)
    return finished_runs(folders)


def _train_parts(
    folders: Sequence[Path],
    options: Options,
    make_env: MakeEnv,
    after_each: Callable[[], None],
) -> None:
    say = log_to(options.console)
    stop = StopRequest(say)
    compiled: dict[Any, Sweep] = {}
    last_use = {_program(*load_setup(folder)): folder for folder in folders}
    for folder in folders:
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
        if last_use[program] == folder:
            del compiled[program]
        after_each()


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What is refused of a part is said with its name, if it has one."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"run '{name}': {error}" if name else str(error)) from None


def _program(config: Config, info: Mapping[str, Any]) -> tuple[Config, int]:
    """What a part's program is compiled for: parts of which it is equal share the program."""
    return static_part(config), len(info["lanes"]["seed"])
