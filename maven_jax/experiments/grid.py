"""A sweep's grid: values of fields, crossed with each other and with the seeds.

Values of a hyperparameter are traced: one compiled program serves them all, each in lanes of its
own. Numbers of steps share a program, too, but are trained one after the other. Any other field
fixes shapes or the program, which is compiled once for each of its values.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from maven_jax.config import Config, Hyperparameters
from maven_jax.config.fields import read_field, with_field
from maven_jax.environments.registry import complete
from maven_jax.errors import ConfigError, check, unknown
from maven_jax.validation.checks import validate
from maven_jax.validation.files import parse_yaml
from maven_jax.validation.ignored_fields import ignored_fields

TRACED = "hyperparameters."
MAX_LANES = 2**16


class Lanes(NamedTuple):
    """The runs of one program, an entry of every array for each."""

    seeds: np.ndarray
    hyperparameters: Hyperparameters
    varied: tuple[str, ...] = ()
    """Names of the hyperparameters that set the lanes apart, beside the seeds."""

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What tells one lane from another: `seed`, and `hyperparameters.NAME` of each varied."""
        varied = {TRACED + name: getattr(self.hyperparameters, name) for name in self.varied}
        return {"seed": self.seeds, **varied}

    def take(self, index: slice) -> "Lanes":
        """Some of the lanes."""
        values = jax.tree.map(lambda x: x[index], self.hyperparameters)
        return Lanes(self.seeds[index], values, self.varied)


class Part(NamedTuple):
    """What one compiled program of a sweep runs."""

    name: str
    """A name for its folder."""
    config: Config
    lanes: Lanes
    coordinates: dict[str, Any]
    """The grid's static fields, by their dotted names, and this part's values."""


def make_lanes(
    hyperparameters: Hyperparameters,
    seeds: Sequence[int],
    varied: Mapping[str, Sequence[float]] | None = None,
) -> Lanes:
    """The seeds, once for each combination of the varied hyperparameters' values.

    Raises:
        ConfigError: no seed, a seed out of range, or too many lanes.
    """
    varied = varied or {}
    points = list(itertools.product(*varied.values()))
    num_lanes = len(points) * len(seeds)
    most = f"at most {MAX_LANES}"
    check(len(seeds) >= 1, "seeds", len(seeds), f"a whole number from 1 to {MAX_LANES}")
    check(num_lanes <= MAX_LANES, "seeds times values of the grid", num_lanes, most)
    for seed in (min(seeds), max(seeds)):
        check(0 <= seed < 2**31, "seed", seed, "a whole number from 0 to 2**31 - 1")
    columns = np.repeat(np.array(points, float).reshape(len(points), -1), len(seeds), axis=0).T
    by_name = {TRACED + name: column for name, column in zip(varied, columns, strict=True)}
    by_name["seed"] = np.tile(np.array(seeds), len(points))
    return lanes_from_columns(by_name, hyperparameters)


def seeds_of(first: Any, number: Any) -> range:
    """Consecutive seeds.

    Raises:
        ConfigError: too many, or out of range.
    """
    fits = is_whole(number) and 1 <= number <= MAX_LANES
    check(fits, "seeds", number, f"a whole number from 1 to {MAX_LANES}")
    fits = is_whole(first) and 0 <= first <= 2**31 - number
    check(fits, "seed", first, "a whole number from 0 to 2**31 - seeds")
    return range(first, first + number)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or of NumPy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def lanes_from_columns(
    columns: Mapping[str, Sequence[Any] | np.ndarray], hyperparameters: Hyperparameters
) -> Lanes:
    """The lanes whose `columns` these are; the other hyperparameters are as given.

    Raises:
        ConfigError: a column of something else than a seed or a hyperparameter.
    """
    varied = {name.removeprefix(TRACED): x for name, x in columns.items() if name != "seed"}
    for name in varied:
        if name not in Hyperparameters._fields:
            raise unknown("column of lanes", name, Hyperparameters._fields)
    seeds = np.array(columns["seed"])
    values: Any = {name: np.array(x, float) for name, x in varied.items()}
    values = hyperparameters._replace(**values)
    spread = jax.tree.map(lambda x: np.broadcast_to(x, seeds.shape), values)
    return Lanes(seeds, spread, tuple(varied))


def parse_grid(texts: Sequence[str], config: Config) -> dict[str, list[Any]]:
    """Dotted field names and their values, from texts such as `latent.size=8,16`.

    Whether values work together is checked by `expand`.

    Raises:
        ConfigError: not of that form, no such field, or a value of the wrong type.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        field = field.strip().removeprefix("--").replace("-", "_")
        if not (field and equals and values.strip(" ,")):
            raise ConfigError(f"grid is {text!r}; allowed: FIELD=VALUE,VALUE,...")
        if field in grid:
            raise ConfigError(f"grid names {field!r} twice; allowed: each field once")
        grid[field] = [_parse_word(field, word) for word in values.split(",")]
    return check_grid(grid, config)


def _parse_word(field: str, word: str) -> Any:
    try:
        value = parse_yaml(word)
    except ConfigError:
        value = None
    _check_plain(field, value, word)
    return value


def _check_plain(field: str, value: Any, written: Any) -> None:
    if isinstance(value, dict | list) or value is None:
        raise ConfigError(f"grid of {field} has {written!r}; allowed: numbers and words")


def check_grid(grid: Any, config: Config) -> dict[str, list[Any]]:
    """A grid from YAML, with each value as its field's type.

    Raises:
        ConfigError: no lists by field names, no such field, or a value of the wrong type or twice.
    """
    is_mapping = isinstance(grid, dict) and all(isinstance(field, str) for field in grid)
    check(is_mapping, "grid", grid, "a mapping of fields to lists of values")
    checked: dict[str, list[Any]] = {}
    for field, values in grid.items():
        check(isinstance(values, list) and bool(values), f"grid of {field}", values, "a list")
        checked[field] = []
        for value in values:
            _check_plain(field, value, value)
            coerced = read_field(with_field(config, field, value), field)
            if coerced in checked[field]:
                raise ConfigError(f"grid of {field} has {value!r} twice; allowed: each value once")
            checked[field].append(coerced)
    return checked


def configs_of(part: Part) -> list[Config]:
    """The configuration of each point of a part."""
    columns = [np.asarray(column).tolist() for column in part.lanes.hyperparameters]
    points = dict.fromkeys(zip(*columns, strict=True))
    return [
        dataclasses.replace(part.config, hyperparameters=Hyperparameters(*point))
        for point in points
    ]


def at_largest(part: Part) -> Config:
    """A part's configuration, with the largest value of each hyperparameter among its lanes.

    So a field counts as ignored only if the weight of what it belongs to is 0 in every lane.
    """
    largest = jax.tree.map(lambda x: float(np.max(x)), part.lanes.hyperparameters)
    return dataclasses.replace(part.config, hyperparameters=largest)


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """The last part of each field's name; the whole name where two would be the same."""
    last = {field: field.rpartition(".")[2] for field in fields}
    count = Counter(last.values())
    return {field: name if count[name] == 1 else field for field, name in last.items()}


def expand(
    config: Config,
    grid: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    group_size: int | None = None,
    complete: Callable[[Config], Config] = complete,
) -> list[Part]:
    """The programs of a sweep: one for each combination of static values and group of lanes.

    Every seed runs at every point of the grid, at most `group_size` lanes at once. `complete` adds
    to each configuration the options of its environment that it does not name.

    Raises:
        ConfigError: a group size below 1, an option that the environment has not, a field that
            has no effect, what `make_lanes` refuses, or a combination of values that cannot work.
    """
    check(
        group_size is None or group_size >= 1, "group_size", group_size, "a whole number from 1 on"
    )
    varied = {name.removeprefix(TRACED): v for name, v in grid.items() if name.startswith(TRACED)}
    static = {name: values for name, values in grid.items() if not name.startswith(TRACED)}
    parts: list[Part] = []
    for point in itertools.product(*static.values()):
        given = dict(zip(static, point, strict=True))
        changed = config
        for field in sorted(given, key="env.name".__ne__):  # its options are the new one's
            changed = with_field(changed, field, given[field])
        changed = complete(changed)
        coordinates = {field: read_field(changed, field) for field in static}
        name = ",".join(f"{field}={value}" for field, value in coordinates.items())
        lanes = make_lanes(changed.hyperparameters, seeds, varied)
        whole = Part(name or "all", changed, lanes, coordinates)
        for own in configs_of(whole):
            validate(own)
        size = group_size or len(lanes.seeds)
        starts = range(0, len(lanes.seeds), size)
        for group, start in enumerate(starts):
            label = f"{name},group={group}".strip(",") if len(starts) > 1 else whole.name
            parts.append(whole._replace(name=label, lanes=lanes.take(slice(start, start + size))))
    name, count = Counter(part.name for part in parts).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"grid has {name} twice; allowed: each value once")
    for field in grid:
        reasons = [ignored_fields(at_largest(part)).get(field) for part in parts]
        if None not in reasons:
            raise ConfigError(f"grid of {field} has no effect, since {reasons[0]}")
    return parts
