"""QMIX and MAVEN on a GPU or TPU, or several: many seeds at once, and Figure 3 in seconds.

    python benchmarks/accelerator.py --out accelerator.json
    python benchmarks/accelerator.py --parts smax jaxmarl --jaxmarl CHECKOUT --out accelerator.json
    python benchmarks/accelerator.py --small          # sizes cut, to try it on a CPU

It ends within `--minutes`, and lists rows that no longer fit as left out. It writes the record
after every row. Given the record of an earlier call on the same device, it measures what it lacks.

A row of `matrix` and `smax` is one compiled program for all its seeds. Times are medians of chunks
after the first; acting, the latent policy's steps and evaluation are included. `times one seed` is
updates a second in total, as a multiple of those of one seed alone.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import jax

from maven_jax.cli.devices import show_every_core

if __name__ == "__main__":
    STARTED = time.monotonic()
    show_every_core()
    if "--small" in sys.argv:  # programs that run for a second are not worth optimising
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import numpy as np
from accelerator_sizes import Sizes, full_sizes, small_sizes
from against_jaxmarl import time_rounds
from in_time import Case, Report, Row, read_rows
from jaxmarl_baseline import TASKS, Baseline, Task, read_baseline
from peaks import PEAKS, describe_device, shares
from rich.console import Console
from throughput import describe, rates, time_chunk

from maven_jax import Config, compile_sweep, make_trainer, run_sweep
from maven_jax.environments.registry import make_env
from maven_jax.experiments.memory import Memory, check_memory, free_bytes, state_memory
from maven_jax.experiments.new_folder import describe_machine
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import train_plan
from maven_jax.experiments.sweep import make_mesh, padded, seed_keys
from maven_jax.studies.study import Study

PARTS = ("matrix", "figure3", "smax", "jaxmarl")
UPDATES = 10_000
"""Of a run, for `s_per_seed`: about those of 100,000 steps of the 10-step matrix game."""
GUESS = 60.0
"""Seconds that a program is expected to take where no row tells."""
Limits = dict[str, float]


def check_fit(config: Config, num_seeds: int, scratch: int) -> None:
    """Refuses seeds that do not fit on the devices together, by what one holds.

    Args:
        config: of each seed.
        num_seeds: how many.
        scratch: bytes of one seed in addition to its state.

    Raises:
        ConfigError: they do not fit.
    """
    mesh, trainer = make_mesh(num_seeds), make_trainer(config, make_env(config))
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    lane = state_memory(state)._replace(scratch=scratch)
    held = Memory(*(padded(num_seeds, mesh) * number for number in lane))
    check_memory(held, free_bytes([*mesh.devices.flat]), num_seeds, mesh.size)


def measure(
    part: str, name: str, num_seeds: int, sizes: Sizes, limits: Limits, rows: list[Row]
) -> Row:
    """One program of so many seeds.

    Args:
        part: of `sizes.configs`.
        name: of one of its configurations.
        num_seeds: how many.
        sizes: how long it is timed.
        limits: of one device.
        rows: earlier ones.

    Raises:
        ConfigError: it does not fit.
    """
    config = sizes.configs[part][name]
    alike = [row for row in rows if (row["part"], row["name"]) == (part, name)]
    check_fit(config, num_seeds, max((row["scratch_per_seed"] for row in alike), default=0))
    sweep = compile_sweep(make_trainer(config, make_env(config)), num_seeds)
    lanes = padded(num_seeds, sweep.mesh)
    scratch = sweep.scratch_bytes * sweep.mesh.size // lanes
    check_fit(config, num_seeds, scratch)
    run = run_sweep(sweep, seed_keys(0, num_seeds), config.hyperparameters)
    chunks = [time_chunk(run) for _ in range(3)]
    while sum(seconds for seconds, _ in chunks[1:]) < sizes.timed_s:
        chunks.append(time_chunk(run))
    known = describe(config, sweep) | rates(config, num_seeds, chunks)
    chunk_s = float(np.median([seconds for seconds, _ in chunks[1:]]))
    return {
        "compile_s": known["compile_s"],
        "updates_per_s": known["updates_per_s"],
        "env_steps_per_s": known["env_steps_per_s"],
        "updates_per_s_and_seed": known["updates_per_s"] / num_seeds,
        "env_steps_per_s_and_seed": known["env_steps_per_s"] / num_seeds,
        "s_per_seed": UPDATES / known["updates_per_s"],
        "mib_per_seed": known["mib"] / lanes,
        "mflop_per_update": known["mflop_per_update"],
        **shares(limits, config, sweep, chunk_s),
        "chunk_s": chunk_s,
        "scratch_per_seed": scratch,
    }


def train_figure(study: Study) -> Row:
    """Figure 3 as the command line trains it, compilation included."""
    options, started = Options(console=Console(quiet=True)), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = train_plan(study.plan(), Path(folder) / "figure3", options)
    seconds = time.monotonic() - started
    ends = [float(np.median([values[-1] for _, values in run.curves("return")])) for run in runs]
    return {
        "seconds": seconds,
        "s_per_seed": seconds / sum(run.num_lanes for run in runs),
        "median_return": dict(zip(study.runs, ends, strict=True)),
    }


def expected_figure_s(study: Study, rows: list[Row]) -> float:
    """Seconds of Figure 3: each run takes as long as the slowest program of as many seeds."""
    total = 0.0
    for run in study.runs.values():
        alike = [r for r in rows if (r["part"], r["seeds"]) == ("matrix", len(run.seeds))]
        steps = run.config.training.total_env_steps
        each = (r["compile_s"] + steps / r["env_steps_per_s_and_seed"] for r in alike)
        total += max(each, default=GUESS)
    return total


def expected_s(part: str, name: str, seeds: int, timed_s: float, rows: list[Row]) -> float:
    """Seconds of a program: as those of its name, or else its part, with chunks by the seeds."""
    alike = [r for r in rows if r["part"] == part]
    alike = [r for r in alike if r["name"] == name] or alike
    chunks = (3 * r["chunk_s"] * max(1, seeds / r["seeds"]) for r in alike)
    each = (r["compile_s"] + timed_s + c for r, c in zip(alike, chunks, strict=True))
    return max(each, default=GUESS)


def compare(rows: list[Row]) -> None:
    """Adds to each row of a program its updates a second as a multiple of those of one seed."""
    alone = {(r["part"], r["name"]): r for r in rows if r["seeds"] == 1 and "updates_per_s" in r}
    for row in rows:
        if (one := alone.get((row["part"], row["name"]))) and "updates_per_s" in row:
            row["times_one_seed"] = row["updates_per_s"] / one["updates_per_s"]


def cases(
    parts: list[str],
    sizes: Sizes,
    limits: Limits,
    baseline: Baseline | None,
    tasks: dict[str, Task],
) -> Iterator[Case]:
    """The rows, in the order in which they are measured."""
    for part in parts:
        if part == "figure3":
            study = sizes.figure
            seeds = len(next(iter(study.runs.values())).seeds)
            expected = partial(expected_figure_s, study)
            yield Case(part, "all", seeds, lambda _, study=study: train_figure(study), expected)
        elif part == "jaxmarl":
            for name, seeds in product(tasks if baseline else (), sizes.jaxmarl_seeds):
                timed = partial(time_rounds, baseline, tasks[name], seeds, *sizes.jaxmarl_rounds)
                yield Case(part, name, seeds, lambda _, timed=timed: timed(), lambda _: 2 * GUESS)
        else:
            for seeds, name in product(sizes.seeds[part], sizes.configs[part]):
                measured = partial(measure, part, name, seeds, sizes, limits)
                expected = partial(expected_s, part, name, seeds, sizes.timed_s)
                yield Case(part, name, seeds, measured, expected)


def main(
    argv: list[str] | None = None,
    sizes: Sizes | None = None,
    tasks: dict[str, Task] = TASKS,
    peaks: dict[str, Limits] = PEAKS,
    started: float | None = None,
) -> None:
    """Measures, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="sizes cut, to try the script")
    parser.add_argument("--minutes", type=float, default=8, help="when it ends")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="in this order")
    parser.add_argument("--jaxmarl", type=Path, help="folder of a clone of JaxMARL")
    parser.add_argument("--out", type=Path, help="JSON file to write, or a record to continue")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.minutes < math.inf:
        parser.error(f"--minutes is {arguments.minutes:g}; allowed: a number above 0")
    baseline = read_baseline(parser, arguments.jaxmarl) if arguments.jaxmarl else None
    if baseline is None and arguments.parts == ["jaxmarl"]:
        parser.error("--parts jaxmarl needs --jaxmarl CHECKOUT")
    sizes = sizes or (small_sizes() if arguments.small else full_sizes())
    device = describe_device(peaks)
    setting = {"benchmark": "accelerator", "small": arguments.small, **device}
    rows = read_rows(parser, arguments.out, setting)
    report = Report(arguments.out, setting, rows, compare, hidden=("chunk_s", "scratch_per_seed"))
    print(", ".join(f"{name}: {value}" for name, value in (describe_machine() | device).items()))
    todo = cases(arguments.parts, sizes, device["limits"] or {}, baseline, tasks)
    started = time.monotonic() if started is None else started
    report.measure([*todo], started + 60 * arguments.minutes)


if __name__ == "__main__":
    main(started=STARTED)
