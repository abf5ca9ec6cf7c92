"""Each benchmark runs, tiny, and writes what it printed."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from maven_jax.config import from_dict

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TINY = from_dict(
    {
        "algorithm": "qmix",
        "network": {"hidden_size": 4, "mixer_embed_size": 4},
        "training": {"batch_size": 2, "updates_per_evaluation": 2},
        "evaluation": {"episodes": 2},
    }
)


def test_throughput(tmp_path, capsys):
    out = tmp_path / "record.json"
    arguments = ["--seeds", "2", "--chunks", "1", "--out", str(out)]
    throughput = load("throughput")
    throughput.main(arguments, {"tiny": TINY})
    assert "tiny" in capsys.readouterr().out
    (row,) = json.loads(out.read_text())["rows"]
    assert row["seeds"] == 2
    assert min(row["updates_per_s"], row["compile_s"]) > 0
    with pytest.raises(SystemExit, match="2"):
        throughput.main(arguments, {"tiny": TINY})


def test_environments(tmp_path, capsys):
    small = {
        "algorithm": "vdn",
        "network": {"hidden_size": 4},
        "training": {"total_env_steps": 10**6, "batch_size": 2, "updates_per_evaluation": 1},
        "evaluation": {"episodes": 1},
    }
    options = {"cleaner": {"size": 3, "num_agents": 2, "time_limit": 5}}
    environments, out = load("environments"), tmp_path / "record.json"
    arguments = ["--parallel", "1", "3", "--repeats", "1", "--out", str(out)]
    arguments += ["--row-slots", "0", "13"]
    environments.main(arguments, small, options)
    assert "row slots" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert [row["parallel"] for row in rows] == [1, 1, 3, 3]
    assert [row["row_slots"] for row in rows] == [0, 13, 0, 13]
    for alone, in_rows in zip(rows[::2], rows[1::2], strict=True):
        length = alone["random_length"]
        assert alone["real_in_acting"] <= 1
        assert in_rows["real_in_acting"] >= 1 - 1 / length
        assert in_rows["updates_per_step"] > 0
    assert all(min(row["random_steps_per_s"], row["learning_steps_per_s"]) > 0 for row in rows)
    with pytest.raises(SystemExit, match="2"):
        environments.main(arguments, small, options)


def test_kill_and_resume(tmp_path, capsys):
    """The short form of it: one run killed, one stopped, both then the run that never was."""
    kill_and_resume = load("kill_and_resume")
    out = tmp_path / "record.json"
    config = kill_and_resume.CONFIG | {"network": {"hidden_size": 4, "mixer_embed_size": 4}}
    config["training"] = config["training"] | {"total_env_steps": 1000}
    kill_and_resume.main(["--sigkill", "1", "--sigterm", "1", "--out", str(out)], config)
    printed = capsys.readouterr().out
    assert "SIGKILL: 1 of 1 identical" in printed
    assert "SIGTERM: 1 of 1 identical" in printed
    assert len(json.loads(out.read_text())["rows"]) == 2


def test_checkpoints(tmp_path, capsys):
    out = tmp_path / "record.json"
    checkpoints = load("checkpoints")
    checkpoints.main(["--seeds", "3", "--pairs", "1", "--out", str(out)], TINY)
    assert "percent_of_training" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert 0 < record["weights_mb_per_seed"] < record["state_mb_per_seed"] < 4
    assert record["mb_on_disk"] > 0


def test_fuzz(capsys):
    """The short form of it: none fails, and both ends are met."""
    fuzz = load("fuzz")
    assert fuzz.main(["--configurations", "40", "--command-lines", "60"]) == 0
    printed = capsys.readouterr().out
    found = re.findall(r"(\d+) works, (\d+) refused, 0 FAILED", printed)
    assert [int(works) + int(refused) for works, refused in found] == [40, 60]
    assert all(min(int(works), int(refused)) > 0 for works, refused in found)


def test_fuzz_folders(capsys):
    """The short form of it: of each kind of folder two or three, damaged."""
    assert load("fuzz_folders").main(["--number", "12"]) == 0
    printed = capsys.readouterr().out
    found = re.findall(r"(\w+): (\d+) works, (\d+) refused, (\d+) other, 0 FAILED", printed)
    numbers = {command: sum(map(int, counts)) for command, *counts in found}
    assert numbers == {"table": 12, "plot": 12, "export": 12, "evaluate": 4, "resume": 12}
    assert all(int(works) > 0 for _, works, *_ in found)


def test_fuzz_folders_tells_harm_from_damage(tmp_path, monkeypatch):
    """A command that writes into what it reads, one that says nothing, and one that raises."""
    fuzz_folders = load("fuzz_folders")
    example = fuzz_folders.Example(tmp_path / "run", tmp_path / "run")
    example.path.mkdir()

    def outcome(run):
        monkeypatch.setattr(fuzz_folders, "run", run)
        words = ["table", example.path]
        return fuzz_folders.try_command(words, example, example.path, None)[0]

    assert outcome(lambda words: 0) == "works"
    assert outcome(lambda words: 2) == "FAILED"
    assert outcome(lambda words: print("maven-jax: error: no", file=sys.stderr) or 2) == "refused"
    assert outcome(lambda words: 1 / 0) == "FAILED"
    assert outcome(lambda words: (example.path / "new").touch() or 0) == "FAILED"


def test_fuzz_counts_what_fails(capsys):
    fuzz = load("fuzz")
    outcomes = iter(["works", "FAILED", "refused"])
    assert (
        fuzz.fuzz("things", 3, 0, lambda *_: ("[shown]", fuzz.Outcome(next(outcomes), "why"))) == 1
    )
    printed = capsys.readouterr().out
    assert "things 1: [shown]\n    why" in printed
    assert "3 things, seed 0: 1 works, 1 refused, 1 FAILED" in printed
