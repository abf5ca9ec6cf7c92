"""Rows of a benchmark, measured one after the other until a number of minutes has passed."""

import argparse
import gc
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from record import write_record
from rich.console import Console
from rich.table import Table

from maven_jax.errors import MavenJaxError, first_line
from maven_jax.experiments.new_folder import describe_machine

Row = dict[str, Any]


class Case(NamedTuple):
    """A row to measure."""

    part: str
    """Rows of a part have the same columns."""
    name: str
    seeds: int
    measure: Callable[[list[Row]], Row]
    """From the rows so far."""
    expected_s: Callable[[list[Row]], float]
    """Seconds that it will take, as far as the rows so far tell."""

    @property
    def key(self) -> Row:
        """What tells its row from others."""
        return {"part": self.part, "name": self.name, "seeds": self.seeds}

    def is_of(self, row: Row) -> bool:
        """Whether a row is this one's."""
        return self.key.items() <= row.items()


class Report:
    """The rows so far and what is left out, on disk and printed."""

    def __init__(
        self,
        out: Path | None,
        setting: Row,
        rows: list[Row],
        compare: Callable[[list[Row]], None] = lambda rows: None,
        hidden: Collection[str] = (),
    ) -> None:
        """Begins with the rows of an earlier record.

        Args:
            out: file of the record; None for none.
            setting: what holds for all rows.
            rows: from `read_rows`.
            compare: adds to rows what depends on others.
            hidden: what is in the record, but not in the tables.
        """
        self.out, self.setting, self.rows, self.compare = out, setting, rows, compare
        self.hidden = {"part", *hidden}
        self.left_out: list[Row] = []

    def measure(self, cases: Sequence[Case], end: float) -> None:
        """Measures the cases that have no row, and leaves out those that fail or take too long.

        At `end`, of `time.monotonic`, the process ends, whatever it waits for.
        """
        pending = [case for case in cases if not any(map(case.is_of, self.rows))]

        def stop() -> None:
            known = [*self.rows, *self.left_out]  # the last case may just have ended
            late = [case for case in pending if not any(map(case.is_of, known))]
            self.left_out += [case.key | {"why": "the time is over"} for case in late]
            try:
                self.show()
            finally:
                os._exit(0)

        watch = threading.Timer(max(0.0, end - time.monotonic()), stop)
        watch.daemon = True
        watch.start()
        try:
            while pending:
                self._measure_one(pending[0], end)
                pending.pop(0)
                gc.collect()  # what it held on the device
                self.write()
        finally:
            watch.cancel()
        self.show()

    def _measure_one(self, case: Case, end: float) -> None:
        started = time.monotonic()
        expected, left = case.expected_s(self.rows), max(0.0, end - started)
        try:
            if expected > left:
                raise TimeoutError(f"it takes about {expected:.0f} s, and {left:.0f} s are left")
            row = case.key | case.measure(self.rows)
            self.rows.append(row | {"row_s": time.monotonic() - started})
        except Exception as error:  # whatever fails in one row, the others are measured
            self.left_out.append(case.key | {"why": first_line(error)})
            if not isinstance(error, TimeoutError | MavenJaxError):
                traceback.print_exc()

    def write(self) -> None:
        """Writes the record."""
        self.compare(self.rows)
        write_record(self.out, **self.setting, rows=self.rows, left_out=self.left_out)

    def show(self) -> None:
        """Writes the record, and prints a table of each part and what is left out."""
        self.write()
        console = Console(width=max(160, Console().width), highlight=False)
        for part in dict.fromkeys(row["part"] for row in self.rows):
            rows = [row for row in self.rows if row["part"] == part]
            columns = list(dict.fromkeys(name for row in rows for name in row))
            columns = [name for name in columns if name not in self.hidden]
            table = Table(*(name.replace("_", " ") for name in columns), title=part)
            for row in rows:
                table.add_row(*(_cell(row.get(name)) for name in columns))
            console.print(table)
        for row in self.left_out:
            line = "left out: {part}, {name}, {seeds} seeds: {why}".format(**row)
            console.print(line, markup=False, soft_wrap=True)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(number)}" for name, number in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)


def read_rows(parser: argparse.ArgumentParser, out: Path | None, setting: Row) -> list[Row]:
    """The rows of an earlier record of the same setting on the same machine; none of a new file.

    Anything else there ends the script in a line, and stays.
    """
    if out is None or not os.path.lexists(out):
        if out is not None and not out.absolute().parent.is_dir():
            parser.error(f"--out is '{out}', whose folder is missing; allowed: a file in a folder")
        return []
    same = json.loads(json.dumps({"machine": describe_machine()} | setting))
    try:
        record = json.loads(out.read_text())
        if {name: record[name] for name in same} == same:
            return record["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    parser.error(
        f"--out is '{out}', which is no record of this command, device and versions; "
        "allowed: such a record, or a new file"
    )
