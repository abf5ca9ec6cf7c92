"""What the benchmarks share: what is measured, by its name, and the file that is written of it."""

import argparse
import json
from pathlib import Path
from typing import Any

from maven_jax import Config, load_config
from maven_jax.environments import make_env
from maven_jax.errors import ConfigError
from maven_jax.runs.new_folder import describe_machine
from maven_jax.studies.study import load_study


def add_out(parser: argparse.ArgumentParser) -> None:
    """Gives a script the option `--out`, refused where there is something already."""
    parser.add_argument("--out", type=_new_file, help="JSON file to write")


def add_configs(parser: argparse.ArgumentParser) -> None:
    """Gives a script the option `--configs`, which `read_configs` reads."""
    parser.add_argument("--configs", nargs="+", default=["qmix", "maven"], help="names or files")


def read_configs(
    parser: argparse.ArgumentParser, names: list[str], study: str | None = None
) -> dict[str, Config]:
    """Configurations by their names, or those of a study's runs.

    One that cannot be read, or whose environment cannot be made, ends the script in a line.
    """
    try:
        if study is not None:
            configs = {name: run.config for name, run in load_study(study).runs.items()}
        else:
            configs = {name: load_config(name) for name in names}
        for config in configs.values():
            make_env(config)
    except ConfigError as error:
        parser.error(str(error))
    return configs


def write_record(out: Path | None, **measured: Any) -> None:
    """Writes what was measured, if a file was asked for."""
    if out is not None:
        record = {"machine": describe_machine(), **measured}
        out.write_text(json.dumps(record, indent=2) + "\n")


def _new_file(text: str) -> Path:
    if Path(text).exists():
        raise argparse.ArgumentTypeError(f"'{text}' exists; allowed: a new file")
    return Path(text)
