"""More environment steps for a run or sweep that has some."""

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maven_jax.config import Config
from maven_jax.errors import StorageError, check
from maven_jax.experiments.folder import ENDED, load_setup, parts_of
from maven_jax.experiments.lock import lock
from maven_jax.experiments.metrics import refuse_changed_metrics
from maven_jax.experiments.new_folder import checksum_of, write_config, write_info
from maven_jax.experiments.provenance import check_settings
from maven_jax.experiments.restoring import can_resume
from maven_jax.validation.checks import validate
from maven_jax.validation.files import AnyPath


def extend(path: AnyPath, total_env_steps: int) -> None:
    """Gives a run, or all runs of a sweep, more environment steps: `continue_run` then takes them.

    A run that has finished must have kept a checkpoint; one that has not may be extended anyway.
    One that a callback stopped early may keep its number of steps: it then takes the rest of them.

    Args:
        path: folder of a run or of a sweep.
        total_env_steps: of each seed; more than there are in the configuration.

    Raises:
        ConfigError: there are no more steps than there were.
        StorageError: a folder is damaged or is being trained, a run has finished and kept no
            checkpoint, or there is one that does not fit the folder. Nothing is changed then.
    """
    folders = parts_of(path)
    for folder in folders:
        load_setup(folder)  # what is no run's folder is refused before anything is locked
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(lock(folder))
        changed = {folder: _extended(folder, total_env_steps) for folder in folders}
        for folder, (config, info) in changed.items():
            # A kill after this leaves a run that ends as it did.
            write_info(folder, info)
            write_config(folder, config)


def _extended(path: Path, total_env_steps: int) -> tuple[Config, dict[str, Any]]:
    """The configuration and `run.json` of a run with more steps."""
    config, info = load_setup(path)
    check_settings(path, info)
    before, name = config.training.total_env_steps, "training.total_env_steps"
    if "stopped_early" in info:
        works, allowed = total_env_steps >= before, f"{before}, where run '{path}' ends, or more"
    else:
        works, allowed = total_env_steps > before, f"a whole number above {before}, which run "
        allowed += f"'{path}' has already"
    check(works, name, total_env_steps, allowed)
    if not can_resume(path, info["lanes"]) and info["status"] in ENDED:
        kept = "--checkpoint.keep-final keeps one; " if info["status"] == "finished" else ""
        raise StorageError(
            f"run '{path}' has ended without a checkpoint, so it cannot be extended; {kept}"
            f"to start from its weights use maven-jax train CONFIG --init-from '{path}'"
        )
    refuse_changed_metrics(path, info)
    training = dataclasses.replace(config.training, total_env_steps=total_env_steps)
    config = dataclasses.replace(config, training=training)
    validate(config)
    if info["status"] in ENDED:
        info["status"] = "interrupted"
    if "config_yaml" in info:
        info["config_yaml"] = [*info["config_yaml"], checksum_of(config)]
    return config, info
