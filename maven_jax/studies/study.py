"""A study as data: named runs and a report; read from YAML, its own or the package's."""

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from maven_jax.config import Config, override
from maven_jax.config.checks import validate
from maven_jax.config.files import load_config, parse_yaml
from maven_jax.environments import complete
from maven_jax.errors import ConfigError, check, unknown
from maven_jax.runs.grid import seeds_of, with_field
from maven_jax.studies.report import REPORTS


class StudyRun(NamedTuple):
    """One experiment of a study."""

    config: Config
    seeds: range


class Study(NamedTuple):
    """Named runs, and what is made of them."""

    report: str
    """A name in `maven_jax.studies.report.REPORTS`."""
    runs: dict[str, StudyRun]
    """By the names of their folders."""

    def with_seeds(self, first: int, number: int | None) -> "Study":
        """The study with seeds counted up from `first`, as many as before or `number`.

        Raises:
            ConfigError: a seed out of range, or none.
        """

        def seeds(run: StudyRun) -> range:
            return seeds_of(first, len(run.seeds) if number is None else number)

        return self._replace(runs={n: r._replace(seeds=seeds(r)) for n, r in self.runs.items()})

    def with_configs(self, change: Callable[[Config], Config]) -> "Study":
        """The study with every run's configuration changed.

        Raises:
            ConfigError: a value that cannot work.
        """
        runs = {
            name: run._replace(config=_checked(change(run.config)))
            for name, run in self.runs.items()
        }
        return self._replace(runs=runs)

    def with_steps(self, steps: int) -> "Study":
        """The study with so many environment steps of each seed.

        Raises:
            ConfigError: as many as cannot be.
        """
        return self.with_configs(
            lambda config: with_field(config, "training.total_env_steps", steps)
        )


FIELDS = ("report", "seeds", "steps", "runs")
RUN_FIELDS = ("config", "seeds", "changes")
SUFFIXES = (".csv", ".json", ".png", ".txt")


def packaged_studies() -> dict[str, Any]:
    """Name to file of the studies that come with the package."""
    folder = importlib.resources.files("maven_jax.configs") / "studies"
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file for file in files}


def load_study(source: str | Path) -> Study:
    """Reads a study's YAML file, or one of the packaged studies by its name.

    The file names its `report`, the number of `seeds` (8 by default), if wanted the environment
    `steps` of every run, and the `runs`: a mapping of names to `config` (a packaged configuration,
    or a YAML file, whose path is read from the study's folder), `changes` of it, and `seeds` of its
    own.

    Raises:
        ConfigError: no such file or name, or something in it that cannot work.
    """
    path = Path(source)
    if path.is_file():
        file: Any = path
    elif path.suffix or len(path.parts) > 1:
        raise ConfigError(f"study {str(source)!r} is not a file")
    elif str(source) in packaged_studies():
        file = packaged_studies()[str(source)]
    else:
        raise unknown("study", str(source), packaged_studies())
    try:
        return parse_study(parse_yaml(file.read_bytes()), path.parent if path.is_file() else None)
    except OSError as error:
        raise ConfigError(f"study {str(source)!r} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"study {str(source)!r}: {error}") from None


def parse_study(plain: Any, folder: Path | None = None) -> Study:
    """A study from plain values.

    Args:
        plain: as `load_study` describes them.
        folder: from which paths of configurations are read.

    Raises:
        ConfigError: something in it that cannot work.
    """
    check(isinstance(plain, dict), "the study", plain, f"a mapping of {', '.join(FIELDS)}")
    for key in plain:
        if key not in FIELDS:
            raise unknown("key", key, FIELDS)
    report, seeds, steps = plain.get("report", "curves"), plain.get("seeds", 8), plain.get("steps")
    if not isinstance(report, str) or report not in REPORTS:
        raise unknown("report", report, REPORTS)
    check(steps is None or type(steps) is int, "steps", steps, "a whole number")
    runs = plain.get("runs")
    check(isinstance(runs, dict) and bool(runs), "runs", runs, "a mapping of names to runs")
    study = Study(report, {n: _parse_run(n, run, seeds, folder) for n, run in runs.items()})
    for name, run in study.runs.items():
        env = run.config.env.name
        allowed = "m_step_matrix, which the report figure3 is of"
        check(report != "figure3" or env == "m_step_matrix", f"runs.{name}: env.name", env, allowed)
    return study if steps is None else study.with_steps(steps)


def _parse_run(name: Any, plain: Any, seeds: Any, folder: Path | None) -> StudyRun:
    plain_name = isinstance(name, str) and name == Path(name).name and not name.startswith(".")
    check(plain_name, "the name of a run", name, "one that a folder can have")
    taken = ", ".join(SUFFIXES)  # of the files beside the runs' folders
    check(Path(name).suffix not in SUFFIXES, "the name of a run", name, f"one without {taken}")
    what = f"runs.{name}"
    check(isinstance(plain, dict), what, plain, f"a mapping of {', '.join(RUN_FIELDS)}")
    for key in plain:
        if key not in RUN_FIELDS:
            raise unknown("key", f"{what}.{key}", [f"{what}.{field}" for field in RUN_FIELDS])
    source, number = plain.get("config", "maven"), plain.get("seeds", seeds)
    check(isinstance(source, str), f"{what}.config", source, "a packaged name or a YAML file")
    check(type(number) is int, f"{what}.seeds", number, "a whole number")
    try:
        beside = folder / source if folder is not None else None
        config = load_config(beside if beside is not None and beside.is_file() else source)
        config = _checked(override(complete(config), plain.get("changes", {})))
        return StudyRun(config, seeds_of(0, number))
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None


def _checked(config: Config) -> Config:
    config = complete(config)
    validate(config)
    return config
