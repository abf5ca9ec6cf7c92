"""Runs killed at random moments and resumed: are they the run that was never killed, bit for bit?

    python benchmarks/kill_and_resume.py --sigkill 25 --saved 12 --out kill_and_resume.json

Every run is a process of `maven-jax train` that gets a signal at a random moment: one in four
evenly over the time that the undisturbed run takes, start-up and compilation included, the others
within a fraction of a second of a random row of metrics. A run that had ended by then does not
count, and another takes its place. Then comes `maven-jax resume`, or `train` again where nothing
had been learned. The table says what was on disk when the signal came.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax.experiments.folder import load_setup
from maven_jax.experiments.weights import read_weights

CONFIG = {
    "algorithm": "maven",
    "env": {"options": {"m": 4}},
    "network": {"hidden_size": 16, "mixer_embed_size": 8},
    "latent": {"size": 4, "hidden_size": 16, "updates": 2, "batch_size": 8},
    "discriminator": {"hidden_size": 8, "hidden_layers": 1, "recurrent_size": 8},
    "training": {
        "total_env_steps": 3000,
        "batch_size": 8,
        "replay_size": 64,
        "updates_per_evaluation": 10,
    },
    "evaluation": {"episodes": 8, "episodes_per_latent": 1},
}

SAVED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Signals after which a run saves itself."""


def start(command: str, *arguments: Any) -> subprocess.Popen[bytes]:
    """A process of the command line; its checkpoints are many, so that many are cut short."""
    options = ["--no-tensorboard", "--checkpoint.updates", "40"]
    return subprocess.Popen(
        [sys.executable, "-m", "maven_jax", command, *map(str, arguments), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process that must succeed."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(errors.decode()[-2000:])


def are_identical(one: Path, other: Path) -> bool:
    """Whether two runs have the same bytes of metrics and the same bits of weights."""
    if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        return False
    first, second = (read_weights(path).arrays for path in (one, other))
    return first.keys() == second.keys() and all(
        np.array_equal(array, second[name]) for name, array in first.items()
    )


def count_rows(path: Path) -> int:
    """Lines of a run's metrics so far, the header's included."""
    metrics = path / "metrics.csv"
    return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0


def wait_for_rows(path: Path, process: subprocess.Popen[bytes], rows: int) -> None:
    """Until the run in a folder has so many rows of metrics, or its process has ended."""
    while process.poll() is None and count_rows(path) < rows:
        time.sleep(0.01)


def disturb(
    number: signal.Signals,
    at_rows: int,
    after: float,
    train: list[Any],
    path: Path,
    reference: Path,
) -> dict[str, Any] | None:
    """One run that gets the signal so many seconds after it has some rows; 0 is its start.

    Returns:
        A row of the table; None where the run had ended before its signal.
    """
    process = start("train", *train, "--out", path)
    wait_for_rows(path, process, at_rows)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate()
    rows = count_rows(path)
    saved = [int(p.stem) for p in (path / "checkpoints").glob("*") if p.stem.isdecimal()]
    if path.exists() and load_setup(path)[1]["status"] == "finished":
        return None
    finish(start("resume", path) if path.exists() else start("train", *train, "--out", path))
    return {
        "signal": number.name,
        "at_rows": at_rows,
        "after_s": round(after, 2),
        "rows": rows,
        "checkpoint": max(saved, default=None),
        "identical": are_identical(path, reference),
    }


def main(argv: list[str] | None = None, config: dict[str, Any] = CONFIG) -> None:
    """Kills, resumes, compares, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sigkill", type=int, default=25, help="runs killed with SIGKILL")
    parser.add_argument(
        "--saved", type=int, default=12, help="runs stopped with INT, TERM, HUP and USR1 in turn"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    add_out(parser)
    arguments = parser.parse_args(argv)
    moments = random.Random(arguments.seed)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        train = [folder / "config.yaml", "--seeds", 3]
        started = time.perf_counter()
        finish(start("train", *train, "--out", folder / "reference"))
        whole = time.perf_counter() - started
        all_rows = count_rows(folder / "reference")
        signals = [signal.SIGKILL] * arguments.sigkill
        signals += islice(cycle(SAVED), arguments.saved)
        for index, number in enumerate(signals):
            path, row = folder / f"run-{index}", None
            while row is None:
                shutil.rmtree(path, ignore_errors=True)
                at_rows = 0 if index % 4 == 0 else moments.randrange(1, all_rows)
                after = moments.uniform(0, 0.3 if at_rows else whole)
                row = disturb(number, at_rows, after, train, path, folder / "reference")
            rows.append(row)
            print(f"{index + 1} of {len(signals)}: {row}", file=sys.stderr, flush=True)
            shutil.rmtree(path)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    Console().print(table)
    for name in dict.fromkeys(row["signal"] for row in rows):
        same = [row["identical"] for row in rows if row["signal"] == name]
        print(f"{name}: {sum(same)} of {len(same)} identical to the run that was never stopped")
    write_record(arguments.out, whole_run_s=round(whole, 2), rows=rows)


if __name__ == "__main__":
    main()
