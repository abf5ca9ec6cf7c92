"""Several processes that drive one sweep (`jax.distributed`): who writes, what all agree on."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from maven_jax.errors import MavenJaxError


def is_primary_process() -> bool:
    """Whether this process writes results; checkpoints are written by all, each its lanes."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether any process says so; all must ask, and all get the same answer."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def all_or_none(act: Callable[[], None]) -> None:
    """Runs it in this process as all others run theirs; where one fails, all do.

    Raises:
        Exception: what this process met.
        MavenJaxError: another process failed.
    """
    failure: Exception | None = None
    try:
        act()
    except Exception as error:
        failure = error
    if any_process(failure is not None):
        raise failure or MavenJaxError("another process failed; see its output")


def on_primary_process(act: Callable[[], None]) -> None:
    """Runs it in the writing process alone; where it fails there, all processes do."""
    all_or_none(act if is_primary_process() else lambda: None)
