"""Runs killed at random moments and resumed: are they the run that was never killed, bit for bit?

    python benchmarks/kill_and_resume.py --sigkill 25 --sigterm 10 --out kill_and_resume.json

Every run is a process of `maven-jax train` that gets its signal at a random moment: one in four
evenly over the time that the undisturbed run takes, start-up and compilation included, the others
over the time between its first row of metrics and its end. Then comes `maven-jax resume`, or
`train` again where nothing had been learned. The table says what was on disk when the signal came.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import yaml
from rich.console import Console
from rich.table import Table

from maven_jax.results import describe_machine, load_setup

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
    with ocp.PyTreeCheckpointer() as checkpointer:
        weights = [checkpointer.restore((path / "weights").absolute()) for path in (one, other)]
    first, second = map(jax.tree.leaves, weights)
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def wait_for_rows(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the run in a folder has rows of metrics, or its process has ended."""
    metrics = path / "metrics.csv"
    while process.poll() is None and not (metrics.is_file() and metrics.stat().st_size):
        time.sleep(0.02)


def disturb(
    number: signal.Signals,
    after: float,
    learning: bool,
    train: list[Any],
    path: Path,
    reference: Path,
) -> dict[str, Any]:
    """One run that gets the signal so many seconds after its start, or after its first rows."""
    process = start("train", *train, "--out", path)
    if learning:
        wait_for_rows(path, process)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate()
    metrics, checkpoints = path / "metrics.csv", path / "checkpoints"
    rows = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    saved = [int(p.name) for p in checkpoints.glob("*") if p.name.isdecimal()]
    ended = path.exists() and load_setup(path)[1]["status"] == "finished"
    if not ended:
        finish(start("resume", path) if path.exists() else start("train", *train, "--out", path))
    return {
        "signal": number.name,
        "after_s": round(after, 2),
        "of": "learning" if learning else "process",
        "rows": rows,
        "checkpoint": max(saved, default=None),
        "ended_before": ended,
        "identical": are_identical(path, reference),
    }


def main(argv: list[str] | None = None, config: dict[str, Any] = CONFIG) -> None:
    """Kills, resumes, compares, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sigkill", type=int, default=25, help="runs killed with SIGKILL")
    parser.add_argument("--sigterm", type=int, default=10, help="runs stopped with SIGTERM")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.exists():
        parser.error(f"--out is '{arguments.out}', which exists; allowed: a new file")
    moments = random.Random(arguments.seed)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        train = [folder / "config.yaml", "--seeds", 3]
        started = time.perf_counter()
        process = start("train", *train, "--out", folder / "reference")
        wait_for_rows(folder / "reference", process)
        first_rows = time.perf_counter() - started
        finish(process)
        whole = time.perf_counter() - started
        signals = [signal.SIGKILL] * arguments.sigkill + [signal.SIGTERM] * arguments.sigterm
        for index, number in enumerate(signals):
            path, learning = folder / f"run-{index}", index % 4 != 0
            after = moments.uniform(0, whole - first_rows if learning else whole)
            rows.append(disturb(number, after, learning, train, path, folder / "reference"))
            print(f"{index + 1} of {len(signals)}: {rows[-1]}", file=sys.stderr, flush=True)
            shutil.rmtree(path)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    Console().print(table)
    for name in ("SIGKILL", "SIGTERM"):
        same = [row["identical"] for row in rows if row["signal"] == name]
        print(f"{name}: {sum(same)} of {len(same)} identical to the run that was never stopped")
    if arguments.out is not None:
        record = {"machine": describe_machine(), "whole_run_s": round(whole, 2), "rows": rows}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
