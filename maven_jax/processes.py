"""Several processes that drive one sweep (`jax.distributed`): who writes, what all agree on."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_writer() -> bool:
    """Whether this process writes results; checkpoints are written by all, each its lanes."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether any process says so; all must ask, and all get the same answer."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())
