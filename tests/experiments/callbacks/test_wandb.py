"""Weights & Biases without network: what an offline run's files hold."""

import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from maven_jax.errors import ConfigError
from maven_jax.experiments.callbacks import Callback, WandB
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.options import Options
from maven_jax.experiments.run import load_run

BLOCK = 2**15

# An extra: the sdist and other environments may be tested without it.
needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="wandb is an extra that only `dev` installs"
)


class RaiseAtFourth(Callback):
    """Ends a run after its fourth evaluation."""

    def on_chunk(self, chunk):
        if chunk.num_evaluations == 4:
            raise RuntimeError


def records_of(file: Path) -> Iterator:
    """The records of an offline run, whose file has the form of a LevelDB log."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = file.read_bytes(), 7, []
    while position < len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        parts.append(data[position + 7 : position + 7 + size])
        position += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield wandb_internal_pb2.Record.FromString(b"".join(parts))
            parts = []


def runs_of(path: Path) -> dict[str, dict]:
    """By each id: the first record, logged rows, and the exit code of each start."""
    found: dict[str, dict] = {}
    for file in sorted(
        (path / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime
    ):
        records = list(records_of(file))
        run = next(record.run for record in records if record.HasField("run"))
        entry = found.setdefault(run.run_id, {"run": run, "rows": [], "exits": [], "axes": set()})
        for record in records:
            if record.HasField("history"):
                items = record.history.item
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                entry["rows"].append(row)
            if record.HasField("metric") and record.metric.glob_name == "*":
                entry["axes"].add(record.metric.step_metric)
            if record.HasField("exit"):
                entry["exits"].append(record.exit.exit_code)
    return found


@pytest.mark.slow
@needs_wandb
def test_a_run_there_for_each_seed_which_resumes(program, tmp_path, monkeypatch):
    """Offline: each start writes files of its own, under the same id."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    path, log = tmp_path / "mine", WandB("games", mode="offline")
    checkpoint, console = Checkpointing(updates=10), Console(quiet=True)
    with pytest.raises(RuntimeError):
        program.train(path, Options([log, RaiseAtFourth()], checkpoint, console))
    program.train(path, Options([log], checkpoint, console))
    own_id, trained = (path / "wandb_id").read_text().strip(), load_run(path)
    runs = runs_of(path)
    assert set(runs) == {f"{own_id}-0", f"{own_id}-1"}
    for seed in (0, 1):
        found = runs[f"{own_id}-{seed}"]
        run = found["run"]
        assert (run.project, run.run_group, run.display_name) == ("games", "mine", f"seed={seed}")
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["seed"] == seed
        assert config["algorithm"] == "qmix"
        assert config["network.hidden_size"] == 8
        assert config["env.options.m"] == 3
        assert found["axes"] == {"env_steps"}
        assert found["exits"] == [1, 0], "first failed, then finished"
        of_lane = trained.metrics["seed"] == seed
        steps = trained.metrics["env_steps"][of_lane].tolist()
        logged = [row["env_steps"] for row in found["rows"]]
        assert logged == steps[:4] + steps[2:], "again from the last checkpoint on"
        np.testing.assert_allclose(
            [row["return"] for row in found["rows"]][4:],
            trained.metrics["return"][of_lane][2:],
            rtol=1e-6,
        )


@needs_wandb
def test_modes_that_cannot_be():
    with pytest.raises(ConfigError, match="mode of WandB is 'of'; allowed: online, offline, dis"):
        WandB(mode="of")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is not installed; use pip install 'maven-jax\["):
        WandB()
