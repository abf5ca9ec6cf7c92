"""Each benchmark runs, tiny, and writes what it printed."""

import importlib.util
import json
from pathlib import Path

import pytest

from maven_jax.config import from_dict

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_throughput(tmp_path, capsys):
    config = from_dict(
        {
            "algorithm": "qmix",
            "network": {"hidden_size": 4, "mixer_embed_size": 4},
            "training": {"batch_size": 2, "updates_per_evaluation": 2},
            "evaluation": {"episodes": 2},
        }
    )
    out = tmp_path / "record.json"
    arguments = ["--seeds", "2", "--chunks", "1", "--out", str(out)]
    throughput = load("throughput")
    throughput.main(arguments, {"tiny": config})
    assert "tiny" in capsys.readouterr().out
    (row,) = json.loads(out.read_text())["rows"]
    assert row["seeds"] == 2
    assert min(row["updates_per_s"], row["compile_s"]) > 0
    with pytest.raises(SystemExit, match="2"):
        throughput.main(arguments, {"tiny": config})
