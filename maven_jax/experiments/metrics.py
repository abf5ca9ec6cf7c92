"""`metrics.csv`: written chunk by chunk, read as columns."""

import csv
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maven_jax.errors import StorageError
from maven_jax.experiments.files import sync
from maven_jax.experiments.folder import has_rows

COUNTERS = ("env_steps", "num_updates")


class MetricsPrefix(NamedTuple):
    """Size and checksum of `metrics.csv` when a checkpoint was saved, compared on resume."""

    length: int
    """Bytes."""
    checksum: int
    """CRC-32 of these bytes."""


class MetricsWriter:
    """Appends evaluations to `metrics.csv`, in the file after every chunk.

    Attributes:
        rows: how much there is in it.
    """

    def __init__(self, path: Path, lanes: Mapping[str, np.ndarray], length: int = 0) -> None:
        """Opens the file to append; what comes after its first `length` bytes is dropped."""
        self._path = path / "metrics.csv"
        self._path.touch()
        sync(path)
        self._file = self._path.open("r+b")
        kept = self._file.read(length)
        self.rows = MetricsPrefix(len(kept), zlib.crc32(kept))
        self._file.truncate(len(kept))
        self._lanes = lanes

    def write(self, metrics: dict[str, np.ndarray], active: np.ndarray) -> None:
        """One row for each active lane.

        Raises:
            OSError: they cannot be written.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        columns = {**self._lanes, **scalar_columns(metrics)}
        if not self.rows.length:
            writer.writerow(columns)
        for lane in np.flatnonzero(active):
            writer.writerow([column[lane] for column in columns.values()])
        added = text.getvalue().encode()
        try:
            self._file.write(added)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self.rows = MetricsPrefix(
            self.rows.length + len(added), zlib.crc32(added, self.rows.checksum)
        )

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        sync(self._path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def describe_mismatch(path: Path, rows: MetricsPrefix) -> str | None:
    """Why `metrics.csv` does not begin with recorded rows; None if it does."""
    try:
        with (path / "metrics.csv").open("rb") as file:
            kept = file.read(rows.length)
    except OSError as error:
        return f"metrics.csv cannot be read: {error.strerror}"
    if len(kept) < rows.length:
        return f"metrics.csv was cut to {len(kept)} of {rows.length} bytes"
    if zlib.crc32(kept) != rows.checksum:
        return f"metrics.csv was changed in its first {rows.length} bytes"
    return None


def describe_rows(path: Path, rows: MetricsPrefix) -> dict[str, int]:
    """`metrics.csv` as training wrote it, for `run.json` once a run has ended."""
    text = (path / "metrics.csv").read_bytes()
    return {"rows": text.count(b"\n") - 1, **rows._asdict()}


def refuse_changed_metrics(path: Path, info: Mapping[str, Any]) -> None:
    """Refuses a `metrics.csv` that is not as it was when its run ended.

    Raises:
        StorageError: the file was cut, changed or added to.
    """
    if "metrics_csv" not in info:
        return
    written = MetricsPrefix(info["metrics_csv"]["length"], info["metrics_csv"]["checksum"])
    change = describe_mismatch(path, written)
    if change is None and (size := (path / "metrics.csv").stat().st_size) > written.length:
        change = f"metrics.csv has {size} bytes, of which training wrote {written.length}"
    if change is not None:
        raise StorageError(f"run '{path}' is damaged: {change}; allowed: the file as it was")


def set_metrics_aside(path: Path) -> Path | None:
    """Renames a `metrics.csv` that has rows, for a run that begins again; its new name."""
    file = path / "metrics.csv"
    if not has_rows(path):
        return None
    numbers = (path / f"metrics-{number}.csv" for number in range(1, 10**6))
    aside = next(name for name in numbers if not name.exists())
    file.rename(aside)
    sync(path)
    return aside


def scalar_columns(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Counters first, then the other metrics by name."""
    names = [*COUNTERS, *sorted(set(metrics) - set(COUNTERS))]
    return as_columns({name: metrics[name] for name in names})


def as_columns(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of lanes as columns: one for each z of a vector, `name_0`, `name_1`, ..."""
    columns = {}
    for name, value in metrics.items():
        if value.ndim == 1:
            columns[name] = value
        else:
            columns |= {f"{name}_{i}": value[:, i] for i in range(value.shape[1])}
    return columns


def parse_whole_rows(text: str) -> dict[str, np.ndarray]:
    """Metrics but for a last row that is still being written, or was when its process ended."""
    return parse_metrics(text[: text.rfind("\n") + 1])


def parse_metrics(text: str) -> dict[str, np.ndarray]:
    """The columns of a `metrics.csv`.

    Raises:
        ValueError: it is damaged.
    """
    header, *rows = csv.reader(text.splitlines()) if text else [[]]
    if not header:
        raise ValueError("there is no evaluation in it")
    if not text.endswith("\n"):
        raise ValueError("it ends within a row: the rest was cut off")
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"column {name} stands {header.count(name)} times")
    if any(len(row) != len(header) for row in rows):
        raise ValueError("its rows are of different lengths")
    columns = np.array(rows, float).reshape(len(rows), len(header)).T
    metrics = dict(zip(header, columns, strict=True))
    for name in ("seed", *COUNTERS):
        if name not in metrics:
            raise ValueError(f"column {name} is missing")
        if not (np.isfinite(metrics[name]) & (metrics[name] >= 0)).all():
            raise ValueError(f"column {name} holds something else than whole numbers")
    return metrics
