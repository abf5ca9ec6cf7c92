"""What the benchmarks share: the file that is written of what was measured, and on what machine."""

import argparse
import json
from pathlib import Path
from typing import Any

from maven_jax.experiments.files import replace_text
from maven_jax.experiments.new_folder import describe_machine


def add_out(parser: argparse.ArgumentParser) -> None:
    """Gives a script the option `--out`, refused where there is something already."""
    parser.add_argument("--out", type=_new_file, help="JSON file to write")


def write_record(out: Path | None, **measured: Any) -> None:
    """Writes what was measured, if a file was asked for: whole, or what was there stays."""
    if out is not None:
        record = {"machine": describe_machine(), **measured}
        replace_text(out, json.dumps(record, indent=2) + "\n")


def _new_file(text: str) -> Path:
    if Path(text).exists():
        raise argparse.ArgumentTypeError(f"'{text}' exists; allowed: a new file")
    return Path(text)
