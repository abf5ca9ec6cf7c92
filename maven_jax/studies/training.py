"""Training a study: what is missing is trained, what has finished is left, the report is drawn."""

from collections.abc import Callable, Collection
from pathlib import Path

from maven_jax.config import Config
from maven_jax.config.files import AnyPath
from maven_jax.errors import StorageError, unknown
from maven_jax.runs.console import say_on
from maven_jax.runs.folder import ENDED, is_study, load_setup, read_report, sweep_parts
from maven_jax.runs.grid import Part, make_lanes
from maven_jax.runs.lock import lock
from maven_jax.runs.options import Options
from maven_jax.runs.part_by_part import continue_parts, create_sweep
from maven_jax.runs.processes import anywhere, is_writer
from maven_jax.runs.run import Run, load_run
from maven_jax.runs.runner import or_nothing
from maven_jax.studies.report import kind_of, report_or_say
from maven_jax.studies.study import Study
from maven_jax.types import MarlEnv

MakeEnv = Callable[[Config], MarlEnv]


def train_study(
    study: Study,
    make_env: MakeEnv,
    path: AnyPath,
    options: Options | None = None,
    only: Collection[str] = (),
) -> list[Run]:
    """Trains a study's runs, one after the other, in a folder of runs' folders.

    Where the folder holds the very same study already, it goes on with that.

    Args:
        study: what to train.
        make_env: builds the environment of a configuration.
        path: folder to make, or of the same study.
        options: what the runs leave and say beside.
        only: names of the runs to train now; by default all.

    Returns:
        These runs, those that had finished before among them.

    Raises:
        ConfigError: a value that cannot work, lanes that do not fit, or no such run.
        StorageError: the folder holds something else, is damaged, or cannot be made.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    path = Path(path)
    options = options or Options()
    for name in only:
        if name not in study.runs:
            raise unknown("run of the study", name, study.runs)
    if anywhere(is_writer() and is_study(path)):  # before another process can have made it
        _refuse_another(study, path)
        return continue_study(path, make_env, options, only)
    parts = [
        Part(name, run.config, make_lanes(run.config.hyperparameters, run.seeds), {})
        for name, run in study.runs.items()
    ]
    create_sweep(parts, make_env, path, options, study.report)
    return or_nothing(path, lambda: continue_study(path, make_env, options, only))


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
        The runs that this call was to train, those that had finished before among them.

    Raises:
        StorageError: a folder is missing or damaged, or is being trained.
        ConfigError: no such run, or lanes that do not fit.
        InterruptedRunError: after Ctrl-C or SIGTERM.
    """
    path = Path(path)
    options = options or Options()
    say = say_on(options.console)
    kind_of(path)  # a damaged one is refused before anything trains
    with lock(path, "study", "sweep.json"):
        parts = sweep_parts(path)
        for name in only:
            if name not in [part.name for part in parts]:
                raise unknown("run of the study", name, [part.name for part in parts])
        folders = [part for part in parts if not only or part.name in only]
        for part in parts:  # what is damaged is refused before others are trained
            if part not in folders and load_setup(part)[1]["status"] in ENDED:
                load_run(part)
        try:
            continue_parts(path, folders, make_env, options, lambda: report_or_say(path, say))
        finally:
            if is_writer():
                report_or_say(path, say)
    return [load_run(folder) for folder in folders]


def _refuse_another(study: Study, path: Path) -> None:
    """Raises `StorageError` where a folder is of another study, and says in what."""

    def refuse(difference: str) -> None:
        raise StorageError(
            f"'{path}' holds another study: {difference}; allowed: a path where nothing is yet, or "
            "maven-jax resume to go on with what is there"
        )

    found = {part.name: load_setup(part) for part in sweep_parts(path)}
    if (report := read_report(path)) != study.report:
        refuse(f"its report is {report!r}, not {study.report!r}")
    if set(found) != set(study.runs):
        refuse(f"its runs are {', '.join(found)}")
    for name, (config, info) in found.items():
        if info["lanes"] != {"seed": list(study.runs[name].seeds)}:
            refuse(f"its run '{name}' is of other seeds")
        if config != study.runs[name].config:
            refuse(f"its run '{name}' is of another configuration")
