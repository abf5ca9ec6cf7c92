"""Updates a second of QMIX and MAVEN at the paper's sizes, and seconds to compile.

    python benchmarks/throughput.py --seeds 1 4 20 --out throughput.json

One update is one episode, one gradient step on 32 episodes and, for MAVEN, the latent policy's
steps; an evaluation after every 100 is included. Chunks of all variants take turns, so that a noisy
machine is noisy for all; the median is reported.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import jax

from maven_jax.__main__ import count_cores

if __name__ == "__main__" and "JAX_NUM_CPU_DEVICES" not in os.environ:
    jax.config.update("jax_num_cpu_devices", count_cores())

import numpy as np
from rich.console import Console
from rich.table import Table

from maven_jax import Config, compile_sweep, load_config, make_trainer, run_sweep, seed_keys
from maven_jax.envs import MStepMatrixGame
from maven_jax.runs.new_folder import describe_machine


def measure(configs: dict[str, Config], seeds: list[int], chunks: int) -> list[dict[str, Any]]:
    """One row for each algorithm and number of seeds."""
    rows, runs = [], []
    for name, config in configs.items():
        trainer = make_trainer(config, MStepMatrixGame())
        for num_seeds in seeds:
            sweep = compile_sweep(trainer, num_seeds)
            run = run_sweep(sweep, seed_keys(0, num_seeds), config.hyperparameters)
            rows.append({"algorithm": name, "seeds": num_seeds, "compile_s": sweep.compile_seconds})
            runs.append((run, config.training.updates_per_evaluation * num_seeds, []))
    for _ in range(chunks + 1):
        for run, _, seconds in runs:
            started = time.perf_counter()
            next(run)
            seconds.append(time.perf_counter() - started)
    for row, (_, updates, seconds) in zip(rows, runs, strict=True):
        median = float(np.median(seconds[1:]))
        row["ms_per_update_and_seed"] = 1e3 * median / updates
        row["updates_per_s"] = updates / median
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as a user reads them."""
    table = Table("algorithm", *(name for name in rows[0] if name != "algorithm"))
    for row in rows:
        numbers = (f"{v:.4g}" for name, v in row.items() if name != "algorithm")
        table.add_row(row["algorithm"], *numbers)
    Console().print(table)


def main(argv: list[str] | None = None, configs: dict[str, Config] | None = None) -> None:
    """Measures, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 20])
    parser.add_argument("--chunks", type=int, default=5, help="timed chunks of each variant")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.exists():
        parser.error(f"--out is '{arguments.out}', which exists; allowed: a new file")
    if min(*arguments.seeds, arguments.chunks) < 1:
        parser.error("--seeds and --chunks; allowed: whole numbers of at least 1")
    if configs is None:
        configs = {name: load_config(name) for name in ("qmix", "maven")}
    rows = measure(configs, arguments.seeds, arguments.chunks)
    print_table(rows)
    if arguments.out is not None:
        record = {"machine": describe_machine(), "rows": rows}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
