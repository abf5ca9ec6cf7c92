"""`log.jsonl` in a run's folder, which any language reads while the run trains."""

import json
import math
from pathlib import Path
from typing import IO

from maven_jax.experiments.callbacks.callback import Callback, ChunkEnd, RunStart, lane_values
from maven_jax.experiments.files import replace_text

FILE = "log.jsonl"


class JsonLines(Callback):
    """Writes a line of JSON for each evaluation of each lane: what `metrics.csv` has in a row.

    `num_evaluations` is among the values; a value that is not finite is null.
    """

    _file: IO[str] | None = None

    def on_start(self, start: RunStart) -> None:
        file = start.path / FILE
        replace_text(file, _kept(file, start.num_evaluations))
        self._file = file.open("a", encoding="utf-8")

    def on_chunk(self, chunk: ChunkEnd) -> None:
        assert self._file is not None
        for lane, row in chunk.rows():
            values = lane_values(chunk.lanes, lane) | {"num_evaluations": chunk.num_evaluations}
            finite = {name: x if math.isfinite(x) else None for name, x in row.items()}
            self._file.write(json.dumps(values | finite) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _kept(file: Path, num_evaluations: int) -> str:
    """The lines of the first evaluations; later ones are written anew, perhaps half a line."""
    kept: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []:
        if not line.endswith("\n") or json.loads(line)["num_evaluations"] > num_evaluations:
            break
        kept.append(line)
    return "".join(kept)
