"""`log.jsonl` has what `metrics.csv` has, once, also after a run has resumed."""

import json

import numpy as np
import pytest
from rich.console import Console

from maven_jax.experiments.callbacks import Callback, JsonLines
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.options import Options
from maven_jax.experiments.run import load_run

pytestmark = pytest.mark.slow


class RaiseAtFourth(Callback):
    """Ends a run after its fourth evaluation."""

    def on_chunk(self, chunk):
        if chunk.num_evaluations == 4:
            raise RuntimeError


def options_with(*callbacks) -> Options:
    return Options(callbacks, Checkpointing(updates=10), Console(quiet=True))


def test_a_line_for_each_row_once(program, tmp_path):
    log = JsonLines()  # one for both runs
    program.train(tmp_path / "whole", options_with(log))
    text = (tmp_path / "whole" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    rows = load_run(tmp_path / "whole").metrics
    assert {name for line in lines for name in line} == {*rows, "num_evaluations"}
    for name, column in rows.items():
        np.testing.assert_allclose([line[name] for line in lines], column, rtol=1e-6)
    with pytest.raises(RuntimeError):
        program.train(tmp_path / "broken", options_with(log, RaiseAtFourth()))
    with (tmp_path / "broken" / "log.jsonl").open("a") as file:
        file.write('{"seed": 0, "num_eval')
    program.train(tmp_path / "broken", options_with(log))
    whole, broken = (tmp_path / name / "log.jsonl" for name in ("whole", "broken"))
    assert broken.read_bytes() == whole.read_bytes()
