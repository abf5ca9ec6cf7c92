"""The configurations that a benchmark is of: packaged ones, files, or those of a study's runs."""

import argparse

from maven_jax import Config, load_config
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError
from maven_jax.studies.study import load_study


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
