"""Early stopping of curves that are given, without training."""

from contextlib import closing

import numpy as np
import pytest

from maven_jax.config import Config
from maven_jax.errors import ConfigError
from maven_jax.experiments.callbacks import ChunkEnd, EarlyStopping, RunStart
from maven_jax.experiments.metrics import MetricsWriter

LANES = {"seed": np.array([0, 1, 2])}
BOTH = np.zeros(3, bool)


def start_at(path, number, diverged=BOTH) -> RunStart:
    return RunStart(path, Config(), LANES, np.full(3, number), diverged, number, print)


def chunk_of(path, number, returns, active, diverged) -> ChunkEnd:
    metrics = {
        "return": np.array(returns, np.float32),
        "return_z": np.stack([returns, returns], axis=1).astype(np.float32),
        "env_steps": np.full(3, number, np.int32),
        "num_updates": np.full(3, number, np.int32),
    }
    return ChunkEnd(path, Config(), LANES, metrics, active, diverged, number, dict)


def stops_at(stopping, path, curves, resumed_at=0, diverges_at=None) -> int | None:
    """After which evaluation it stops; the curves `[evaluations, 3]` are those of a run.

    Lane 2 diverges at an evaluation. From `resumed_at` on another process trains.
    """
    with closing(MetricsWriter(path, LANES)) as writer:
        return _stops_at(writer, stopping, path, curves, resumed_at, diverges_at)


def _stops_at(writer, stopping, path, curves, resumed_at, diverges_at):
    lanes = np.arange(3)
    for number, returns in enumerate(curves, 1):
        gone = (lanes == 2) & (diverges_at is not None and number >= diverges_at)
        if number == resumed_at + 1:
            before = (lanes == 2) & (diverges_at is not None and number > diverges_at)
            stopping.on_start(start_at(path, resumed_at, before))
        chunk = chunk_of(path, number, returns, ~gone, gone)
        writer.write(chunk.metrics, chunk.active)
        if number > resumed_at and stopping.on_chunk(chunk):
            return number
    return None


RISING = [[0, 1, 5], [1.1, 2, 5], [2, 3.3, 5], [3, 4, 5], [4, 5, 5]]
FLAT = [[1, 0, 0], [2, 2.1, 0], [2, 2, 0], [2, 2.1, 0], [3, 2, 0], [9, 9, 0]]


@pytest.mark.parametrize(
    ("conditions", "curves", "expected", "reason"),
    [
        ({"at_least": 3.3}, RISING, 3, "median return is 3.3, at least 3.3"),
        ({"at_most": 1.0}, RISING, 1, "median return is 1, at most 1"),
        ({"at_least": 6.0}, RISING, None, ""),
        ({"patience": 1}, FLAT, 3, "median return is 2, and the largest is 1 evaluations old"),
        ({"patience": 3}, FLAT, 5, "median return is 2, and the largest is 3 evaluations old"),
        ({"patience": 4}, FLAT, None, ""),
        (
            {"metric": "return_z_1", "at_least": 2.0},
            RISING,
            2,
            "median return_z_1 is 2, at least 2",
        ),
    ],
)
def test_the_median_decides(tmp_path, conditions, curves, expected, reason):
    stopping = EarlyStopping(**conditions)
    for _ in range(2):  # the second run of a sweep begins anew
        assert stops_at(stopping, tmp_path, curves) == expected
        assert stopping.reason == reason


def test_lanes_that_have_diverged_do_not_count(tmp_path):
    assert stops_at(EarlyStopping(at_least=2.5), tmp_path, RISING) == 3
    assert stops_at(EarlyStopping(at_least=2.5), tmp_path, RISING, diverges_at=3) == 3
    assert stops_at(EarlyStopping(at_least=3.0), tmp_path, RISING, diverges_at=1) == 4
    gone = chunk_of(tmp_path, 1, [9, 9, 9], BOTH, ~BOTH)
    assert not EarlyStopping(at_least=0.0).on_chunk(gone)


STALE = [[1, 0, 2], [2, 2.1, 2], [2, 2, 2], [2, 2.1, 2], [2, 2, 2], [9, 9, 9]]


@pytest.mark.parametrize("resumed_at", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("diverges_at", "expected"), [(None, 5), (2, 5), (3, None)])
def test_a_resumed_run_stops_where_it_would_have(tmp_path, resumed_at, diverges_at, expected):
    """With lane 2 the median of the second evaluation is 2, without it 2.05, as of the fourth."""
    found = stops_at(EarlyStopping(patience=3), tmp_path, STALE, resumed_at, diverges_at)
    assert found == expected


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match=r"conditions of EarlyStopping is .*at_least, at_most or"):
        EarlyStopping("return")
    with pytest.raises(ConfigError, match="patience is 0; allowed: a whole number from 1 on"):
        EarlyStopping(patience=0)
    with pytest.raises(ConfigError, match="unknown metric of EarlyStopping 'retrun'; did you mean"):
        stops_at(EarlyStopping("retrun", at_least=1.0), tmp_path, RISING)
