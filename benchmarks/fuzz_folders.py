"""Damaged folders: every command that reads one must work, or refuse in one line, and lose nothing.

    python benchmarks/fuzz_folders.py                           # 500 folders, about twenty minutes
    python benchmarks/fuzz_folders.py --number 50 --from 450 --seed 3

A few tiny runs and a sweep are trained once. Each case is a copy of one of them with a file or a
checkpoint cut, emptied, deleted, with bits flipped, filled at random, or swapped for another's. No
command may say anything but its results or one line of error, or change what it only reads; what
`resume` finishes must be the run that was never damaged, byte for byte (the rows of one trained on
to more steps may stand in another order), and where it refuses, the folder stays as it was.
`table` and `evaluate` must print what they print of the sound folder, unless they say what they do
instead.

`other` counts what nothing can tell: configuration, `run.json` and, while a run trains,
`metrics.csv` are text without checksums, so that a digit flipped there may be another valid one. (A
checkpoint has the checksum of its rows, and `run.json` that of a run that has ended.) Only for
these files may a command end well and differ.
"""

import argparse
import contextlib
import io
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from folder_damage import TEXTS, Example, damage

from maven_jax.cli.main import run
from maven_jax.experiments import part_by_part, runner
from maven_jax.experiments.folder import ENDED
from maven_jax.experiments.metrics import MetricsWriter
from maven_jax.experiments.run import load_run
from maven_jax.experiments.sweep import Sweep
from maven_jax.experiments.weights import read_weights

TINY = """
algorithm: vdn
env: {options: {m: 3}}
network: {hidden_size: 4}
training: {total_env_steps: 50, batch_size: 2, replay_size: 8, updates_per_evaluation: 4}
evaluation: {episodes: 2}
"""
QUIETLY = ("--no-tensorboard", "--checkpoint.updates", "1")
EVALUATED = 3
"""`evaluate`, which compiles anew each time, reads one folder in so many."""
COMMANDS = ("table", "plot", "export", "evaluate", "resume")


class Said(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


def call(*words: Any) -> Said:
    """A command, in this process.

    Raises:
        RuntimeError: it ended in a way that no command may, which the message tells.
    """
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(word) for word in words])
    except Exception:
        raise RuntimeError(traceback.format_exc()) from None
    lines = err.getvalue().splitlines()
    errors = [line for line in lines if line.startswith("maven-jax: error: ")]
    fits = not errors if code in (0, 130) else code == 2 and lines[-1:] == errors != []
    if not fits or "Traceback" in err.getvalue():
        raise RuntimeError(f"{code}: {err.getvalue()}")
    return Said(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Each configuration's program is compiled once in this process, and not for each folder."""
    programs: dict[Any, Sweep] = {}
    compile_new = runner.compile_run

    def compiled(config: Any, env: Any, num_lanes: int, *rest: Any) -> Sweep:
        key = repr(config), num_lanes
        if key not in programs:
            programs[key] = compile_new(config, env, num_lanes, *rest)
        return programs[key]

    with (
        mock.patch.object(runner, "compile_run", compiled),
        mock.patch.object(part_by_part, "compile_run", compiled),
    ):
        yield


def train_examples(folder: Path) -> list[Example]:
    """Interrupted, finished and kept runs, and a sweep that was interrupted in its last part."""
    config = folder / "tiny.yaml"
    config.write_text(TINY)

    def train(name: str, *options: Any, command: str = "train", stop_after: int = 0) -> Path:
        write, written = MetricsWriter.write, []

        def write_then_stop(self: MetricsWriter, *arguments: Any) -> None:
            write(self, *arguments)
            written.append(self)
            if len(written) == stop_after:
                signal.raise_signal(signal.SIGTERM)

        with mock.patch.object(MetricsWriter, "write", write_then_stop):
            said = call(command, config, "--out", folder / name, *QUIETLY, "--seeds", 2, *options)
        if said.code != (130 if stop_after else 0):
            raise RuntimeError(said.err)
        return folder / name

    finished, others = train("finished"), train("others", "--seed", 2)
    grid = ["--grid", "hyperparameters.learning_rate=5e-4,1e-3", "--group-size", 2]
    sweep = train("sweep", *grid, command="sweep")
    in_last = load_run(min(sweep.rglob("metrics.csv")).parent).num_evaluations + 3
    kept = ["--checkpoint.keep-final", "--training.total-env-steps", 30]
    return [
        Example(train("stopped", stop_after=4), finished),
        Example(train("others-stopped", "--seed", 2, stop_after=3), others),
        Example(finished, finished),
        Example(train("kept", *kept), finished, ("--training.total-env-steps", "50")),
        Example(train("sweep-stopped", *grid, command="sweep", stop_after=in_last), sweep),
    ]


def contents(path: Path) -> dict[str, bytes]:
    """All files under a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def words_of(command: str, copy: Path, example: Example, index: int) -> list[Any]:
    """A command line that reads the copy of an example."""
    if command == "evaluate":
        runs = example.runs()
        run_folder = runs[index % len(runs)].relative_to(example.path)
        return [command, copy / run_folder, "--episodes", 2]
    if command == "resume":
        return [command, copy, "--no-tensorboard", *example.longer]
    out = {"plot": ["--out", copy.parent / "picture.png"], "export": ["--out", copy.parent / "out"]}
    return [command, copy, *out.get(command, [])]


def call_once(words: list[Any]) -> Said:
    """`call`, after which what it has written beside the folder is gone."""
    try:
        return call(*words)
    finally:
        for name in ("picture.png", "out"):
            (words[1].parent / name).unlink(missing_ok=True)


def difference(example: Example, copy: Path, before: dict[str, bytes]) -> str:
    """How what `resume` has finished differs from what was never damaged; "" if it does not."""
    for path in example.runs():
        part = path.relative_to(example.path)
        mine, whole = copy / part, example.whole / part
        status = json.loads((path / "run.json").read_text())["status"]
        if status in ENDED and not example.longer:
            now = contents(mine)
            if any(before.get(str(part / name)) != data for name, data in now.items()):
                return f"{mine} was changed"
            continue
        rows, expected_rows = (
            (folder / "metrics.csv").read_bytes().splitlines(keepends=True)
            for folder in (mine, whole)
        )
        if example.longer:  # lanes that ended rested for a chunk: only the order may differ
            rows, expected_rows = sorted(rows), sorted(expected_rows)
        if rows != expected_rows:
            return f"metrics.csv of {mine} is another"
        arrays, expected = read_weights(mine).arrays, read_weights(whole).arrays
        if not all(np.array_equal(arrays[name], x) for name, x in expected.items()):
            return f"weights of {mine} are others"
    return ""


def try_command(
    words: list[Any], example: Example, copy: Path, sound: Said | None
) -> tuple[str, str]:
    """How a command takes a damaged folder: `works`, `refused`, `differs` or `FAILED`, and why."""
    command = words[0]
    before = contents(copy)
    try:
        said = call_once(words)
    except RuntimeError as error:
        return "FAILED", str(error)
    if (command != "resume" or said.code != 0) and (now := contents(copy)) != before:
        changed = [x for x in {**before, **now} if before.get(x) != now.get(x)]
        return "FAILED", f"{said.code}: {said.err}    changed: {', '.join(changed)}"
    if said.code != 0:
        return "refused", said.err
    if command == "resume":
        why = difference(example, copy, before)
        return ("differs", f"{said.err}    {why}") if why else ("works", "")
    if sound is not None and said.err == sound.err and said.out != sound.out:
        return "differs", said.out
    return "works", ""


def try_folder(
    draw: random.Random, index: int, examples: list[Example], sound: dict[Any, Said]
) -> Iterator[tuple[str, str, str]]:
    """One damaged folder: for each command what it is, how it ended, and why.

    Args:
        draw: what is damaged, and how.
        index: of the case, which picks the example.
        examples: from `train_examples`.
        sound: what commands say of sound folders, as far as that is known; added to.
    """
    example = examples[index % len(examples)]
    copy = example.path.parent / "copies" / "copy"
    commands = [name for name in COMMANDS if name != "evaluate" or index % EVALUATED == 0]
    words = {name: words_of(name, copy, example, index) for name in commands}
    for name in ("table", "evaluate"):
        if name in words and (key := (example.path, *words[name])) not in sound:
            copy_anew(example.path, copy)
            sound[key] = call_once(words[name])
    copy_anew(example.path, copy)
    what = damage(draw, example, copy, examples)
    for name in commands:
        kind, why = try_command(words[name], example, copy, sound.get((example.path, *words[name])))
        if kind == "differs":
            kind = "other" if re.search(f"({'|'.join(TEXTS)}) ", what) else "FAILED"
        yield name, kind, f"{example.path.name}: {what}: {name}\n    {why.strip()}"


def copy_anew(path: Path, copy: Path) -> None:
    """Copies a folder to the place of another."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)


def main(arguments: list[str]) -> int:
    """Returns how many commands failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--show", nargs="*", default=["FAILED"], help="kinds to print whole")
    options = parser.parse_args(arguments)
    started, counts = time.perf_counter(), {command: Counter[str]() for command in COMMANDS}
    sound: dict[Any, Said] = {}
    with tempfile.TemporaryDirectory() as name, compiled_once():
        examples = train_examples(Path(name))
        for index in range(options.first, options.first + options.number):
            draw = random.Random(f"{options.seed} {index}")
            for command, kind, shown in try_folder(draw, index, examples, sound):
                counts[command][kind] += 1
                if kind in options.show:
                    print(f"{kind} {index}: {shown}", flush=True)
    seconds = time.perf_counter() - started
    print(
        f"{options.number} folders from {options.first}, seed {options.seed} ({seconds:.0f} s); "
        f"one in {EVALUATED} evaluated"
    )
    for command, found in counts.items():
        kinds = ("works", "refused", "other", "FAILED")
        print(f"{command}: " + ", ".join(f"{found[kind]} {kind}" for kind in kinds), flush=True)
    return sum(found["FAILED"] for found in counts.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
