"""A study as data: named runs and a report; read from YAML, its own or the package's."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from maven_jax.config import Config, override
from maven_jax.config.fields import flatten, with_field
from maven_jax.config.overrides import coerce
from maven_jax.configs import packaged_studies
from maven_jax.environments.registry import complete
from maven_jax.errors import ConfigError, check, unknown
from maven_jax.experiments.folder import is_part_name
from maven_jax.experiments.grid import Part, check_grid, configs_of, expand, seeds_of
from maven_jax.experiments.plan import Plan
from maven_jax.studies.report import REPORTS
from maven_jax.validation.checks import validate
from maven_jax.validation.files import AnyPath, find_yaml, load_config, parse_yaml
from maven_jax.validation.ignored_fields import ignored_fields

FIELDS = ("report", "seeds", "steps", "runs")
RUN_FIELDS = ("config", "seeds", "changes", "grid")
SUFFIXES = (".csv", ".json", ".png", ".txt")
"""Endings of the files beside the runs' folders."""
STEPS = "training.total_env_steps"


class StudyRun(NamedTuple):
    """One experiment of a study."""

    config: Config
    seeds: range
    grid: Mapping[str, Sequence[Any]] = MappingProxyType({})
    """Values of fields by their dotted names, crossed with each other and with the seeds."""


class Study(NamedTuple):
    """Named runs, and what is made of them.

    The methods raise `ConfigError` for values that cannot work.
    """

    report: str
    """A name in `maven_jax.studies.report.REPORTS`."""
    runs: dict[str, StudyRun]
    """By the names of their folders."""

    def with_seeds(self, first: int, number: int | None) -> "Study":
        """The study with seeds counted up from `first`, as many as before or `number`."""

        def seeds(run: StudyRun) -> range:
            return seeds_of(first, len(run.seeds) if number is None else number)

        return self._replace(runs={n: r._replace(seeds=seeds(r)) for n, r in self.runs.items()})

    def with_configs(self, change: Callable[[Config], Config]) -> "Study":
        """The study with every run's configuration changed."""
        runs = {n: r._replace(config=_checked(change(r.config))) for n, r in self.runs.items()}
        return self._replace(runs=runs)

    def with_steps(self, steps: int) -> "Study":
        """The study with so many environment steps of each seed."""
        for name, run in self.runs.items():
            if STEPS in run.grid:
                raise ConfigError(
                    f"steps is {steps}; allowed: none, since runs.{name} has a grid of {STEPS}"
                )
        return self.with_configs(lambda config: with_field(config, STEPS, steps))

    def plan(self) -> Plan:
        """What `train_plan` trains: a part for each run, or several for one with a grid."""
        return Plan(tuple(part for name in self.runs for part in self.parts(name)), self.report)

    def parts(self, name: str) -> list[Part]:
        """The parts of one run."""
        if name not in self.runs:
            raise unknown("run of the study", name, self.runs)
        run = self.runs[name]
        try:
            parts = expand(run.config, run.grid, run.seeds)
        except ConfigError as error:
            raise ConfigError(f"runs.{name}: {error}") from None
        return [
            part._replace(name=f"{name},{part.name}" if part.coordinates else name)
            for part in parts
        ]


def load_study(source: AnyPath) -> Study:
    """Reads a study's YAML file, or one of the packaged studies by its name.

    The file names its `report`, the number of `seeds` (8 by default), if wanted the environment
    `steps` of the runs that do not change them, and the `runs`: a mapping of names to `config` (a
    packaged configuration, or a YAML file, whose path is read from the study's folder), `changes`
    of it, `seeds` of its own, and a `grid`: lists of values by dotted names of fields.

    Raises:
        ConfigError: no such file or name, or something in it that cannot work.
    """
    file = find_yaml("study", source, packaged_studies)
    folder = Path(source).parent if Path(source).is_file() else None
    try:
        return parse_study(parse_yaml(file.read_bytes()), folder)
    except OSError as error:
        raise ConfigError(f"study {str(source)!r} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"study {str(source)!r}: {error}") from None


def parse_study(plain: Any, folder: Path | None = None) -> Study:
    """A study from plain values, as `load_study` describes them.

    `folder` is where paths of configurations start.

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
    steps = None if steps is None else coerce(steps, int, "steps")
    runs = plain.get("runs")
    check(isinstance(runs, dict) and bool(runs), "runs", runs, "a mapping of names to runs")
    study = Study(report, {n: _parse_run(n, run, seeds, steps, folder) for n, run in runs.items()})
    _check_parts(study)
    return study


def _check_parts(study: Study) -> None:
    """No two parts have the same name or configuration; figure3 reports on one m-step game."""
    names: dict[str, str] = {}
    configs: dict[Config, str] = {}
    game = next(iter(study.runs.values())).config.env
    for name in study.runs:
        for part in study.parts(name):
            env = part.config.env
            if names.setdefault(part.name, name) != name:
                first = names[part.name]
                raise ConfigError(
                    f"runs.{first} and runs.{name} both train a part {part.name!r}; rename one"
                )
            for config in configs_of(part):
                first = configs.setdefault(config, name)
                if first != name:
                    raise ConfigError(
                        f"runs.{name} is the same as runs.{first}; allowed: each once"
                    )
            if study.report == "figure3":
                allowed = "m_step_matrix, which the report figure3 is of"
                check(env.name == "m_step_matrix", f"runs.{name}: env.name", env.name, allowed)
                allowed = f"those of all runs of the report figure3, {dict(game.options)}"
                same = env.options == game.options
                check(same, f"runs.{name}: env.options", dict(env.options), allowed)


def _parse_run(
    name: Any, plain: Any, seeds: Any, steps: int | None, folder: Path | None
) -> StudyRun:
    check(is_part_name(name), "the name of a run", name, "one that a folder can have")
    allowed = f"one without {', '.join(SUFFIXES)}"
    check(Path(name).suffix not in SUFFIXES, "the name of a run", name, allowed)
    what = f"runs.{name}"
    check(isinstance(plain, dict), what, plain, f"a mapping of {', '.join(RUN_FIELDS)}")
    for key in plain:
        if key not in RUN_FIELDS:
            raise unknown("key", f"{what}.{key}", [f"{what}.{field}" for field in RUN_FIELDS])
    source = plain.get("config", "maven")
    number = coerce(plain.get("seeds", seeds), int, f"{what}.seeds")
    check(isinstance(source, str), f"{what}.config", source, "a packaged name or a YAML file")
    if folder is not None and (folder / source).is_file():
        source = folder / source
    try:
        config = load_config(source)
        if steps is not None:  # `changes` may name others
            config = with_field(config, STEPS, steps)
        config = _changed(config, plain.get("changes") or {})
        return StudyRun(config, seeds_of(0, number), check_grid(plain.get("grid") or {}, config))
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None


def _changed(config: Config, changes: Any) -> Config:
    """A configuration with changes, each of which must be read by something."""
    changed = override(config, changes)
    if changed.env.name == config.env.name:  # other options of the environment stay
        options = {**config.env.options, **changed.env.options}
        env = dataclasses.replace(changed.env, options=options)
        changed = dataclasses.replace(changed, env=env)
    changed = _checked(changed)
    for field, reason in ignored_fields(changed).items():
        if field in flatten(changes):
            raise ConfigError(f"{field} has no effect, since {reason}")
    return changed


def _checked(config: Config) -> Config:
    config = complete(config)
    validate(config)
    return config
