"""Random configurations and command lines: each must work, or be refused in one line.

    python benchmarks/fuzz.py                                       # 5,000 and 2,000, minutes
    python benchmarks/fuzz.py --configurations 100 --command-lines 50 --seed 3

Nothing is trained: a configuration goes as far as a trainer, a command line as far as an output
folder that exists.
"""

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import yaml

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.cli.commands import COMMANDS
from maven_jax.cli.main import run
from maven_jax.config import Config, from_dict, to_dict
from maven_jax.configs import packaged_configs
from maven_jax.environments.registry import ENVIRONMENTS, complete, default_options, make_env
from maven_jax.errors import MavenJaxError
from maven_jax.training.train import make_trainer
from maven_jax.validation.files import load_config

ODD_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    64,
    -1,
    1000,
    10**6,
    2**31 - 1,
    2**31,
    2**63,
    -(2**63),
    10**30,
    10**400,
)
ODD_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS,
    *(0.0, 0.5, -0.5, 1.0, 1e-60, 1e39, 1e308, float("inf"), float("-inf"), float("nan")),
    *(None, True, False, "", "x", "5e-4", "1e999", "nan", "true", "[x]", "\u5b9e\u9a8c", "\ud800"),
    *([], [1, 2], [[1, 0], [0, 2]], [[1], [2, 3]], {}, {"a": 1}, (1, 2), {1, 2}, b"x", object),
)
SECTIONS = {name: x for name, x in to_dict(Config()).items() if isinstance(x, dict)}
SECTIONS.pop("env")
CHOICES = {
    f"{section}.{field}": get_args(kind)
    for section in SECTIONS
    for field, kind in get_type_hints(type(getattr(Config(), section))).items()
    if get_origin(kind) is Literal
}


class Outcome(NamedTuple):
    """How one random input ended."""

    kind: str
    """`works`, `refused`, or `FAILED`."""
    said: str


def value_near(draw: random.Random, name: str, default: Any) -> Any:
    """A value for a field: most often one that may work, else an odd one of any type."""
    if draw.random() < 0.12:
        return draw.choice(ODD_VALUES)
    if name in CHOICES:
        return draw.choice(CHOICES[name])
    if isinstance(default, bool):
        return draw.random() < 0.5
    if isinstance(default, int):
        return draw.choice((max(1, default // 2), default, 2 * default, draw.randint(1, 40)))
    if isinstance(default, float):
        return draw.choice((default, default / 3, draw.random(), 10 ** draw.uniform(-8, 4)))
    return default


def random_options(draw: random.Random, name: str) -> Any:
    """Options for an environment, or what is none."""
    if draw.random() < 0.04:
        return draw.choice(ODD_VALUES)
    known = default_options(name) or {"m": 10}
    chosen = draw.sample(sorted(known), draw.randint(0, min(4, len(known))))
    options = {option: value_near(draw, option, known[option]) for option in chosen}
    if draw.random() < 0.2 and options:
        options[draw.choice(list(options))] = draw.choice(ODD_NUMBERS)
    if draw.random() < 0.04:
        options[draw.choice(("", "viewer", "mm", "payoff"))] = draw.choice(ODD_VALUES)
    return options


def random_configuration(draw: random.Random) -> Any:
    """Nested overrides of the defaults, some of them of the wrong kind."""
    if draw.random() < 0.01:
        return draw.choice(ODD_VALUES)
    overrides: dict[Any, Any] = {}
    if draw.random() < 0.9:
        overrides["algorithm"] = value_near(draw, "algorithm", draw.choice(list(ALGORITHMS)))
    if draw.random() < 0.3:
        overrides["fidelity"] = value_near(draw, "fidelity", draw.choice(("paper", "reference")))
    if draw.random() < 0.8:
        name = draw.choice(list(ENVIRONMENTS))
        overrides["env"] = {"name": name, "options": random_options(draw, name)}
        if draw.random() < 0.05:
            overrides["env"]["name"] = draw.choice(ODD_VALUES)
    for section, fields in SECTIONS.items():
        if draw.random() < 0.25:
            chosen = draw.sample(sorted(fields), draw.randint(0, min(3, len(fields))))
            overrides[section] = {
                name: value_near(draw, f"{section}.{name}", fields[name]) for name in chosen
            }
        elif draw.random() < 0.01:
            overrides[section] = draw.choice(ODD_VALUES)
    if draw.random() < 0.03:
        overrides[draw.choice(("", "x", 3, None, "traning"))] = draw.choice(ODD_VALUES)
    return overrides


def try_configuration(draw: random.Random, folder: Path) -> tuple[str, Outcome]:
    """A random configuration, from Python or from a file, to a trainer."""
    overrides = random_configuration(draw)
    shown = repr(overrides)
    try:
        if draw.random() < 0.3:
            path = folder / "random.yaml"
            with contextlib.suppress(yaml.YAMLError):  # not all that is odd can be written
                path.write_text(yaml.safe_dump(overrides))
                overrides = path
        config = load_config(path) if isinstance(overrides, Path) else from_dict(overrides)
        config = complete(config) if draw.random() < 0.5 else config
        make_trainer(config, make_env(config))
        again = from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config), sort_keys=False)))
        if repr(again) != repr(config):  # a NaN that nothing reads equals no other
            return shown, Outcome("FAILED", "it does not come back from YAML")
        hash(config)
    except MavenJaxError as error:
        kind = "refused" if str(error) and "\n" not in str(error) else "FAILED"
        return shown, Outcome(kind, str(error))
    except Exception:
        return shown, Outcome("FAILED", traceback.format_exc())
    return shown, Outcome("works", "")


def as_argument(draw: random.Random, value: Any) -> str:
    """A value as it is typed; one that no shell could pass on becomes an empty word."""
    text = str(value)
    return "" if "\0" in text or "\ud800" in text else text


def random_command_line(draw: random.Random, exists: Path) -> list[str]:
    """Words of which none can train: what trains is told to write where something is."""
    name = draw.choice([*COMMANDS, "", "trian", "--help", "--version", "-x"])
    words = [name]
    if name in ("train", "sweep") and draw.random() < 0.95:
        words.append(draw.choice([*packaged_configs(), "mavn", "no.yaml", "", "/", str(exists)]))
    elif name in ("resume", "evaluate", "plot", "table", "export", "convert"):
        words += draw.choices((".", "/", "", "nowhere", str(exists), "[x]"), k=draw.randint(0, 2))
    env = draw.choice(list(ENVIRONMENTS)) if draw.random() < 0.5 else "m_step_matrix"
    if env != "m_step_matrix" and name in ("train", "sweep"):
        words += ["--env.name", env]
    for _ in range(draw.randint(0, 4)):
        words += random_option(draw, name, env)
    if draw.random() < 0.05:
        words += [
            draw.choice(("--", "-", "--help", "-h", "--version", "--out", "=", "--=", "[/x]"))
        ]
    if name in ("train", "sweep", "figure3", "convert", "plot", "export"):
        odd = (str(exists), ".", "/", "", f"{exists}/below/a/file", "..")
        words += ["--out", draw.choice(odd) if draw.random() < 0.3 else str(exists)]
    if name == "matrix-games":  # it writes nothing: a number that no game takes stops it
        words += ["--steps", "0"]
    return words


def random_option(draw: random.Random, command: str, env: str) -> list[str]:
    """An option of a configuration, of a command, or of none."""
    section = draw.choice([*SECTIONS, "env.options", "command", "grid"])
    if section == "command":
        options = ("seed", "seeds", "group-size", "checkpoint.keep", "episodes", "lane", "metric")
        options += (
            "m",
            "steps",
            "games",
            "config",
            "render",
            "behaviour",
            "evaluations",
            "nothing",
        )
        return [f"--{draw.choice(options)}", as_argument(draw, draw.choice(ODD_VALUES))]
    fields = default_options(env) if section == "env.options" else SECTIONS.get(section)
    if fields is None:
        field = draw.choice(("latent.size", "hyperparameters.gamma", "env.name", "env.options.m"))
        values = [as_argument(draw, draw.choice(ODD_VALUES)) for _ in range(draw.randint(0, 3))]
        return ["--grid", f"{field}={','.join(values)}"]
    field = draw.choice(sorted(fields))
    value = as_argument(draw, value_near(draw, f"{section}.{field}", fields[field]))
    return [f"--{section}.{field}".replace("_", draw.choice("_-")), value]


def try_command_line(draw: random.Random, folder: Path) -> tuple[str, Outcome]:
    """A random command line, in this process."""
    exists = folder / "exists"
    exists.touch()
    words = random_command_line(draw, exists)
    shown, out, err = repr(words), io.StringIO(), io.StringIO()
    here = os.getcwd()
    try:
        os.chdir(folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return shown, Outcome("FAILED", traceback.format_exc())
    finally:
        os.chdir(here)
    said = err.getvalue()
    if code == 0:
        return shown, Outcome("works", "")
    one_line = said.startswith("maven-jax: error: ") and said.count("\n") == 1 and said[18:].strip()
    return shown, Outcome("refused" if code == 2 and one_line else "FAILED", f"{code}: {said}")


def fuzz(
    name: str, number: int, seed: int, attempt: Callable[[random.Random, Path], tuple[str, Outcome]]
) -> int:
    """Makes so many attempts, each of a seed of its own; prints counts and every failure.

    Returns:
        How many failed.
    """
    started, counts = time.perf_counter(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(number):
            shown, outcome = attempt(random.Random(f"{name} {seed} {index}"), Path(folder))
            counts[outcome.kind] += 1
            if outcome.kind == "FAILED":
                print(f"{name} {index}: {shown}\n    {outcome.said.strip()}", flush=True)
    seconds = time.perf_counter() - started
    told = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("works", "refused", "FAILED"))
    print(f"{number:,} {name}, seed {seed}: {told} ({seconds:.0f} s)", flush=True)
    return counts["FAILED"]


def main(arguments: list[str]) -> int:
    """Returns how many attempts failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=5000)
    parser.add_argument("--command-lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    failed = fuzz("configurations", options.configurations, options.seed, try_configuration)
    return failed + fuzz("command lines", options.command_lines, options.seed, try_command_line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
