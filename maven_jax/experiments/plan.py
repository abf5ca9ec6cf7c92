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
from maven_jax.errors import ConfigError, StorageError, check, unknown
from maven_jax.experiments.console import log_to
from maven_jax.experiments.folder import ENDED, is_study, load_setup, parts_of
from maven_jax.experiments.grid import Part
from maven_jax.experiments.identity import holds
from maven_jax.experiments.interruption import StopRequest
from maven_jax.experiments.lock import lock, try_lock
from maven_jax.experiments.new_folder import Setup, create_folder
from maven_jax.experiments.options import InterruptedRunError, Options, Origin
from maven_jax.experiments.programs import check_run, compile_run
from maven_jax.experiments.provenance import check_env_of_run, check_settings, env_of_run
from maven_jax.experiments.run import Run, load_run
from maven_jax.experiments.runner import (
    UNFIT_START,
    continue_run,
    draw_runs,
    new_info,
    refuse_ended,
    remove_if_untrained,
)
from maven_jax.experiments.sweep import Sweep
from maven_jax.experiments.text import pluralize
from maven_jax.experiments.weights import fit_lanes, refuse_normalized
from maven_jax.training.train import make_trainer, static_part
from maven_jax.types import MarlEnv
from maven_jax.validation.files import AnyPath
from maven_jax.validation.names import modules_of

MakeEnv = Callable[[Config], MarlEnv]
"""Builds the environment of a configuration."""
TrainParts = Callable[[Path, Sequence[Path], Options, MakeEnv, Callable[[], None]], None]
"""Trains parts: from the plan's folder, theirs, and a function to call after each."""


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


def train_here(
    path: Path,
    folders: Sequence[Path],
    options: Options,
    make_env: MakeEnv,
    after_each: Callable[[], None],
) -> None:
    """Trains parts one after the other, but for those that another process trains."""
    say = log_to(options.console)
    stop = StopRequest(say)
    compiled: dict[Any, Sweep] = {}
    last_use = {_program(*load_setup(folder)): folder for folder in folders}
    for folder in folders:
        if stop.requested:
            raise KeyboardInterrupt
        is_single = folder == path
        take = lock if is_single else try_lock
        with take(folder) as taken:  # before compiling
            if not taken:
                say(f"'{folder.name}' is skipped: another process trains it")
                continue
            config, info = load_setup(folder)
            if info["status"] in ENDED:  # meanwhile
                continue
            program, env = _program(config, info), env_of_run(folder, config, info, make_env)
            named = options if is_single else dataclasses.replace(options, name=folder.name)
            with _naming(named.name):
                # A single part, which may start from weights, is compiled in `continue_run`.
                if program not in compiled and not is_single:
                    compiled[program] = compile_run(config, env, program[1], named)
                continue_run(folder, env, named, compiled.get(program), stop)
        if last_use[program] == folder:
            compiled.pop(program, None)
        after_each()


def train_plan(
    plan: Plan,
    path: AnyPath,
    options: Options | None = None,
    make_env: MakeEnv = make_env,
    only: Collection[str] = (),
    train_parts: TrainParts = train_here,
) -> list[Run]:
    """Trains a plan in a folder, which is made, or resumed where it holds the same plan.

    Args:
        plan: what to train.
        path: folder to make, or of the same plan.
        options: console, callbacks, checkpoints, figures.
        make_env: builds the environment of a configuration.
        only: names of the parts to train now; by default all.
        train_parts: trains them in their folders; by default here.

    Returns:
        Those of these parts that have finished, now or before; other processes may be training the
        rest.

    Raises:
        ConfigError: a value that cannot work, lanes or weights that do not fit, or no such part.
        StorageError: the folder holds something else, is damaged, or cannot be made.
        InterruptedRunError: after a signal to stop.
    """
    path, options = Path(path), options or Options()
    is_new = open_plan(plan, path, options, make_env, only, trained_here=train_parts is train_here)

    def train() -> list[Run]:
        return _train(path, options, make_env, only, train_parts)

    return remove_if_untrained(path, train) if is_new else train()


def resume_plan(
    path: AnyPath,
    options: Options | None = None,
    make_env: MakeEnv = make_env,
    only: Collection[str] = (),
) -> list[Run]:
    """Trains what a plan's folder lacks; of a study that has ended, the report is written anew.

    Arguments, result and errors are those of `train_plan`; a run or sweep that has finished is
    refused too.
    """
    path = Path(path)
    folders = parts_of(path)
    _check_names(only, [folder.name for folder in folders])
    if not is_study(path) and not unfinished(folders):
        refuse_ended(path, "finished" if folders != [path] else load_setup(path)[1]["status"])
    _check_parts(path, only)
    return _train(path, options or Options(), make_env, only, train_here)


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
    options.checkpoint.validate()
    setups = {"" if plan.is_single else part.name: _setup(part, plan.origin) for part in plan.parts}
    names = [part.name for part in plan.parts]
    check(len(setups) == len(names), "the names of the parts", names, "each once")
    if not holds(path, setups, plan.report):
        num_programs = _check_setups(plan, setups, make_env, trained_here)
        try:
            create_folder(path, setups, plan.report)
        except StorageError:  # another process may have been faster
            if not holds(path, setups, plan.report):
                raise
        else:
            if not plan.is_single:
                num_runs = sum(len(part.lanes.seeds) for part in plan.parts)
                log_to(options.console)(
                    f"{num_runs} runs in {pluralize(len(plan.parts), 'part')}; "
                    f"{pluralize(num_programs, 'program')} to compile"
                )
            return True
    to_train = _check_parts(path, only)
    if plan.is_single:
        config, info = load_setup(path)
        check_env_of_run(path, info, make_env(config))
        if to_train:
            with lock(path):  # refused if another process trains it
                pass
    found = "exists; it is resumed" if to_train else "has finished; there is nothing to train"
    log_to(options.console)(f"'{path}' {found}")
    return False


def _setup(part: Part, origin: Origin | None) -> Setup:
    modules = modules_of(part.config)
    info = new_info(part.lanes, part.coordinates) | ({"imports": modules} if modules else {})
    if origin is None:
        return Setup(part.config, info)
    return Setup(part.config, info | {"init_from": origin.record}, origin.arrays)


def _check_setups(
    plan: Plan, setups: Mapping[str, Setup], make_env: MakeEnv, trained_here: bool
) -> int:
    """Refuses what cannot be trained; the number of programs to compile."""
    programs = set()
    for part, (name, (config, info, weights)) in zip(plan.parts, setups.items(), strict=True):
        program = _program(config, info)
        with _naming(name):
            env = make_env(config)
            trainer = make_trainer(config, env)
            if trained_here and program not in programs:
                check_run(trainer, program[1])
            check_shaping(env, part.lanes.hyperparameters)
            if weights is not None:
                refuse_normalized(config)
                fit_lanes(weights, trainer, config, program[1], UNFIT_START)
        programs.add(program)
    return len(programs)


def _check_parts(path: Path, only: Collection[str]) -> list[Path]:
    """The parts to train; what is damaged is refused before anything is trained."""
    finished_runs(parts_of(path))
    to_train = unfinished(chosen_parts(path, only))
    for folder in to_train:
        check_settings(folder, load_setup(folder)[1])
    return to_train


def finished_runs(folders: Sequence[Path]) -> list[Run]:
    """Those of a plan's parts that have finished; `StorageError` if one of these is damaged."""
    return [load_run(folder) for folder in folders if load_setup(folder)[1]["status"] in ENDED]


def unfinished(folders: Sequence[Path]) -> list[Path]:
    """Those of a plan's parts that have not finished."""
    return [folder for folder in folders if load_setup(folder)[1]["status"] not in ENDED]


def chosen_parts(path: Path, only: Collection[str]) -> list[Path]:
    """The folders of the named parts of a plan; by default of all."""
    return [part for part in parts_of(path) if not only or part == path or part.name in only]


def _check_names(only: Collection[str], names: Sequence[str]) -> None:
    for name in only:
        if name not in names:
            raise unknown("part", name, names)


def _train(
    path: Path,
    options: Options,
    make_env: MakeEnv,
    only: Collection[str],
    train_parts: TrainParts,
) -> list[Run]:
    """Trains the chosen parts that have not finished; writes the report or draws the curves."""
    folders, report = chosen_parts(path, only), options.report if is_study(path) else None
    to_train = unfinished(folders)

    def write_report() -> None:
        if report is not None:
            report(path)

    try:
        train_parts(path, to_train, options, make_env, write_report)
    except (InterruptedRunError, KeyboardInterrupt):
        raise InterruptedRunError(path) from None
    finally:
        write_report()
    if to_train and parts_of(path) != [path] and not is_study(path):
        draw_runs(finished_runs(parts_of(path)), path, options)
    return finished_runs(folders)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Names the part, if it has a name, in what is refused of it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"run '{name}': {error}" if name else str(error)) from None


def _program(config: Config, info: Mapping[str, Any]) -> tuple[Config, int]:
    """The key of a part's compiled program: parts with equal keys share it."""
    return static_part(config), len(info["lanes"]["seed"])
