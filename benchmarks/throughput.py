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
from collections.abc import Callable
from functools import partial
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
from maven_jax.envs import MStepMatrixGame
from maven_jax.runs.memory import state_memory

MATMUL_SIZE = 2048
"""Of the square matrices that the machine's matmul rate is measured with, one a device."""


def matmul_operations(jaxpr: Any) -> int:
    """Floating-point operations of the matmuls that a program runs, two for each product.

    A loop that may stop early counts as one round.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive is jax.lax.dot_general_p:
            (summed, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(left[axis] for axis in summed)
        inner = sum(matmul_operations(own) for own in jaxprs_in_params(equation.params))
        total += inner * equation.params.get("length", 1)
    return total


def make_matmul() -> tuple[Callable[[], Any], int]:
    """A large matmul on each device, and its floating-point operations altogether."""
    devices = np.array(jax.devices())
    sharding = NamedSharding(Mesh(devices, ("devices",)), PartitionSpec("devices"))
    shape = devices.size, MATMUL_SIZE, MATMUL_SIZE
    x = jax.device_put(np.ones(shape, np.float32), sharding)
    multiply = jax.jit(jnp.matmul)
    return partial(multiply, x, x), 2 * devices.size * MATMUL_SIZE**3


def measure(configs: dict[str, Config], seeds: list[int], chunks: int) -> list[dict[str, Any]]:
    """One row for each algorithm and number of seeds."""
    rows, runs = [], []
    for name, config in configs.items():
        trainer = make_trainer(config, MStepMatrixGame())
        numbers = jax.tree.map(jnp.float32, config.hyperparameters)
        state = jax.eval_shape(trainer.init, jax.random.key(0), numbers)
        operations = matmul_operations(jax.make_jaxpr(trainer.chunk)(state, numbers).jaxpr)
        updates = config.training.updates_per_evaluation
        for num_seeds in seeds:
            sweep = compile_sweep(trainer, num_seeds)
            run = run_sweep(sweep, seed_keys(0, num_seeds), config.hyperparameters)
            scratch = sweep.mesh.size * sweep.scratch_bytes
            mib = (state_memory(sweep.state_shapes).total + scratch) / 2**20
            row = {"algorithm": name, "seeds": num_seeds, "compile_s": sweep.compile_seconds}
            rows.append(row | {"mib": mib, "mflop_per_update": operations / updates / 1e6})
            runs.append((run, updates, [], []))
    matmul, matmul_size = make_matmul()
    matmul_seconds = []
    for _ in range(chunks + 1):
        for run, _, seconds, steps in runs:
            started = time.perf_counter()
            chunk = next(run)
            seconds.append(time.perf_counter() - started)
            steps.append(int(chunk.metrics["env_steps"].sum()))
        started = time.perf_counter()
        jax.block_until_ready(matmul())
        matmul_seconds.append(time.perf_counter() - started)
    matmul_rate = matmul_size / np.median(matmul_seconds[1:])
    for row, (_, updates, seconds, steps) in zip(rows, runs, strict=True):
        median = float(np.median(seconds[1:]))
        all_updates = updates * row["seeds"]
        row["ms_per_update_and_seed"] = 1e3 * median / all_updates
        row["updates_per_s"] = all_updates / median
        row["env_steps_per_s"] = (steps[-1] - steps[0]) / (median * chunks)
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
