"""What a run holds in memory, and what its checkpoints cost.

    python benchmarks/checkpoints.py --seeds 20 --out checkpoints.json

Chunks with a checkpoint saved before them take turns with chunks without. What a checkpoint costs
is the time of the call that copies the state and starts writing, and what the chunk beside which it
is written takes longer; medians are reported, and the share of training at the default interval.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from maven_jax.cli.devices import show_every_core

if __name__ == "__main__":
    show_every_core()

import numpy as np
from record import add_out, write_record

from maven_jax import Config, compile_sweep, load_config, make_trainer, run_sweep, seed_keys
from maven_jax.envs import MStepMatrixGame
from maven_jax.experiments.checkpoint import Checkpointing, CheckpointWriter
from maven_jax.experiments.memory import state_memory
from maven_jax.experiments.metrics import Rows


def measure(config: Config, num_seeds: int, pairs: int) -> dict[str, Any]:
    """Megabytes a seed, and seconds of chunks with a checkpoint and without."""
    sweep = compile_sweep(make_trainer(config, MStepMatrixGame()), num_seeds)
    lanes = sweep.state_shapes.num_updates.shape[0]
    memory = state_memory(sweep.state_shapes)
    run = run_sweep(sweep, seed_keys(0, num_seeds), config.hyperparameters)
    chunk = next(run)
    settings = Checkpointing()
    calls, chunks = [], {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        writer = CheckpointWriter(Path(folder), settings, _fail)
        for index in range(2 * pairs):
            save = index % 2 == 0
            started = time.perf_counter()
            if save:
                writer.save(chunk.state, chunk.metrics, index, index, Rows(0, 0), {})
                calls.append(time.perf_counter() - started)
                started = time.perf_counter()
            chunk = next(run)
            writer.settle()  # its checksums are written between two chunks
            chunks[save].append(time.perf_counter() - started)
        files = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        kept = len(list((Path(folder) / "checkpoints").glob("[0-9]*")))
        writer.close()
    beside, alone = (float(np.median(chunks[save])) for save in (True, False))
    call = float(np.median(calls))
    return {
        "seeds": num_seeds,
        "replay_mb_per_seed": memory.replay / lanes / 1e6,
        "weights_mb_per_seed": memory.weights / lanes / 1e6,
        "state_mb_per_seed": memory.total / lanes / 1e6,
        "mb_on_disk": files / kept / 1e6,
        "save_call_s": call,
        "chunk_beside_s": beside,
        "chunk_alone_s": alone,
        "percent_of_training": 100 * (call + max(beside - alone, 0.0)) / (60 * settings.minutes),
    }


def _fail(line: str) -> None:
    raise RuntimeError(line)


def main(argv: list[str] | None = None, config: Config | None = None) -> None:
    """Measures, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5, help="chunks with and without, each")
    add_out(parser)
    arguments = parser.parse_args(argv)
    if min(arguments.seeds, arguments.pairs) < 1:
        parser.error("--seeds and --pairs; allowed: whole numbers of at least 1")
    row = measure(config or load_config("maven"), arguments.seeds, arguments.pairs)
    for name, value in row.items():
        print(f"{name:20} {value:.4g}")
    write_record(arguments.out, **row)


if __name__ == "__main__":
    main()
