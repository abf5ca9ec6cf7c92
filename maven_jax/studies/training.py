"""Training a study: what is missing is trained, what has finished is left, the report is drawn."""

from collections.abc import Callable, Collection
from pathlib import Path

from maven_jax.config import Config
from maven_jax.errors import unknown
from maven_jax.experiments.console import log_to
from maven_jax.experiments.folder import sweep_parts
from maven_jax.experiments.grid import Part, make_lanes
from maven_jax.experiments.options import Options
from maven_jax.experiments.part_by_part import continue_parts, create_sweep, finished_runs
from maven_jax.experiments.run import Run
from maven_jax.experiments.runner import remove_if_untrained, report_existing
from maven_jax.studies.report import kind_of, report_or_say
from maven_jax.studies.study import Study
from maven_jax.types import MarlEnv
from maven_jax.validation.files import AnyPath

MakeEnv = Callable[[Config], MarlEnv]


def train_study(
    study: Study,
    make_env: MakeEnv,
    path: AnyPath,
    options: Options | None = None,
    only: Collection[str] = (),
) -> list[Run]:
    """Trains a study's runs, one after the other, in a folder of runs' folders.

    A folder that holds the very same study is resumed. Several processes share out its runs.

    Args:
        study: what to train.
        make_env: builds the environment of a configuration.
        path: folder to make, or of the same study.
        options: what the runs leave and say beside.
        only: names of the runs to train now; by default all.

    Returns:
        Those of these runs that have finished, now or before.

    Raises:
        ConfigError: a value that cannot work, lanes that do not fit, or no such run.
        StorageError: the folder holds something else, is damaged, or cannot be made.
        InterruptedRunError: after a signal to stop.
    """
    path = Path(path)
    options = options or Options()
    for name in only:
        if name not in study.runs:
            raise unknown("run of the study", name, study.runs)
    parts = [
        Part(name, run.config, make_lanes(run.config.hyperparameters, run.seeds), {})
        for name, run in study.runs.items()
    ]
    if create_sweep(parts, make_env, path, options, study.report):
        return remove_if_untrained(path, lambda: continue_study(path, make_env, options, only))
    finished_runs(sweep_parts(path))  # what is damaged is refused before all else
    report_existing(path, [path / name for name in only or study.runs], options)
    return continue_study(path, make_env, options, only)


def continue_study(
    path: AnyPath, make_env: MakeEnv, options: Options | None = None, only: Collection[str] = ()
) -> list[Run]:
    """Goes on with a study wherever it stands, and writes its report after every finished run.

    Args:
        path: the study's folder.
        make_env: builds the environment of a configuration.
        options: what the runs leave and say beside.
        only: names of the runs to train now; by default all.

    Returns:
        Those of the runs to train that have finished, now or before; other processes may be
        training the rest.

    Raises:
        StorageError: a folder is missing or damaged.
        ConfigError: no such run, or lanes that do not fit.
        InterruptedRunError: after a signal to stop.
    """
    path = Path(path)
    options = options or Options()
    say = log_to(options.console)
    kind_of(path)  # a damaged one is refused before anything trains
    parts = sweep_parts(path)
    for name in only:
        if name not in [part.name for part in parts]:
            raise unknown("run of the study", name, [part.name for part in parts])
    folders = [part for part in parts if not only or part.name in only]
    finished_runs(parts)  # what is damaged is refused before others are trained
    try:
        continue_parts(path, folders, make_env, options, lambda: report_or_say(path, say))
    finally:
        report_or_say(path, say)
    return finished_runs(folders)
