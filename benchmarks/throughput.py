"""Updates a second of QMIX and MAVEN at the paper's sizes, and seconds to compile.

    python benchmarks/throughput.py --seeds 1 4 20 --out throughput.json

One update is one episode, one gradient step on 32 episodes and, for MAVEN, the latent policy's
steps; an evaluation after every 100 is included. Chunks of all variants and a large matmul take
turns, so that a noisy machine is noisy for all; medians are reported. `matmul_share` is the rate of
the floating-point operations of a variant's own matmuls as a share of that large one's.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product
from typing import Any

import jax

from maven_jax.cli.devices import show_every_core

if __name__ == "__main__":
    show_every_core()

import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import Config, compile_sweep, load_config, make_trainer, run_sweep, seed_keys
from maven_jax.environments.registry import make_env
from maven_jax.experiments.memory import state_memory
from maven_jax.experiments.sweep import Sweep, SweepChunk
from maven_jax.training.budget import updates_per_chunk

MATMUL_SIZE = 2048
"""Of the square matrices that the machine's matmul rate is measured with, one a device."""


def matmul_operations(jaxpr: Any, loops_once: bool = False) -> int:
    """Floating-point operations of the matmuls that a program runs, two for each product.

    A loop that may stop early counts as one round, of several branches the largest counts.

    Args:
        jaxpr: the program.
        loops_once: count each loop's body once, as often as it is unrolled: so does XLA's own
            analysis of what it compiles.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive is jax.lax.dot_general_p:
            (summed, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(left[axis] for axis in summed)
        params = equation.params
        inner = [matmul_operations(own, loops_once) for own in jaxprs_in_params(params)]
        one_of_them = equation.primitive is jax.lax.cond_p
        rounds = params.get("unroll" if loops_once else "length", 1)
        total += (max if one_of_them else sum)(inner or [0]) * rounds
    return total


def make_matmul() -> tuple[Callable[[], Any], int]:
    """A large matmul on each device, and its floating-point operations altogether."""
    devices = np.array(jax.devices())
    sharding = NamedSharding(Mesh(devices, ("devices",)), PartitionSpec("devices"))
    shape = devices.size, MATMUL_SIZE, MATMUL_SIZE
    x = jax.device_put(np.ones(shape, np.float32), sharding)
    multiply = jax.jit(jnp.matmul)
    return partial(multiply, x, x), 2 * devices.size * MATMUL_SIZE**3


@cache
def chunk_operations(config: Config) -> tuple[int, int]:
    """`matmul_operations` of one seed's chunk, and with each loop's body counted once."""
    trainer = make_trainer(config, make_env(config))
    numbers = jax.tree.map(jnp.float32, config.hyperparameters)
    state = jax.eval_shape(trainer.init, jax.random.key(0), numbers)
    jaxpr = jax.make_jaxpr(trainer.chunk)(state, numbers).jaxpr
    return matmul_operations(jaxpr), matmul_operations(jaxpr, loops_once=True)


def describe(config: Config, sweep: Sweep) -> dict[str, float]:
    """What is known of a compiled sweep before it runs."""
    scratch = sweep.mesh.size * sweep.scratch_bytes
    updates = updates_per_chunk(config.training)
    return {
        "compile_s": sweep.compile_seconds,
        "mib": (state_memory(sweep.state_shapes).total + scratch) / 2**20,
        "mflop_per_update": chunk_operations(config)[0] / updates / 1e6,
    }


def time_chunk(run: Iterator[SweepChunk]) -> tuple[float, int]:
    """Seconds of a sweep's next chunk, and the environment steps of all seeds until its end."""
    started = time.perf_counter()
    chunk = next(run)
    return time.perf_counter() - started, int(chunk.metrics["env_steps"].sum())


def rates(config: Config, num_seeds: int, chunks: list[tuple[float, int]]) -> dict[str, float]:
    """Updates and environment steps a second of all seeds, by the median chunk.

    Args:
        config: of the sweep.
        num_seeds: of the sweep.
        chunks: `time_chunk` of successive ones, the first of which is not timed.
    """
    seconds, steps = zip(*chunks, strict=True)
    median = float(np.median(seconds[1:]))
    updates = updates_per_chunk(config.training) * num_seeds
    return {
        "ms_per_update_and_seed": 1e3 * median / updates,
        "updates_per_s": updates / median,
        "env_steps_per_s": (steps[-1] - steps[0]) / (median * (len(chunks) - 1)),
    }


def measure(configs: dict[str, Config], seeds: list[int], chunks: int) -> list[dict[str, Any]]:
    """One row for each algorithm and number of seeds."""
    rows: list[dict[str, Any]] = []
    runs: list[tuple[Config, Iterator[SweepChunk], list[tuple[float, int]]]] = []
    for (name, config), num_seeds in product(configs.items(), seeds):
        sweep = compile_sweep(make_trainer(config, make_env(config)), num_seeds)
        rows.append({"algorithm": name, "seeds": num_seeds} | describe(config, sweep))
        run = run_sweep(sweep, seed_keys(0, num_seeds), config.hyperparameters)
        runs.append((config, run, []))
    matmul, matmul_size = make_matmul()
    matmul_seconds = []
    for _ in range(chunks + 1):
        for _, run, timed in runs:
            timed.append(time_chunk(run))
        started = time.perf_counter()
        jax.block_until_ready(matmul())
        matmul_seconds.append(time.perf_counter() - started)
    matmul_rate = matmul_size / np.median(matmul_seconds[1:])
    for row, (config, _, timed) in zip(rows, runs, strict=True):
        row |= rates(config, row["seeds"], timed)
        rate = row["mflop_per_update"] * 1e6 * row["updates_per_s"]
        row["matmul_share"] = float(rate / matmul_rate)
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as a user reads them."""
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        numbers = (f"{v:.4g}" for name, v in row.items() if name != "algorithm")
        table.add_row(row["algorithm"], *numbers)
    Console().print(table)


def main(argv: list[str] | None = None, configs: dict[str, Config] | None = None) -> None:
    """Measures, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 20])
    parser.add_argument("--chunks", type=int, default=5, help="timed chunks of each variant")
    add_out(parser)
    arguments = parser.parse_args(argv)
    if min(*arguments.seeds, arguments.chunks) < 1:
        parser.error("--seeds and --chunks; allowed: whole numbers of at least 1")
    if configs is None:
        configs = {name: load_config(name) for name in ("qmix", "maven")}
    rows = measure(configs, arguments.seeds, arguments.chunks)
    print_table(rows)
    write_record(arguments.out, rows=rows)


if __name__ == "__main__":
    main()
