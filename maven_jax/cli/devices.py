"""The devices that JAX uses, which are fixed when it starts.

Importing jumanji starts it, so this module imports nothing else of the package.
"""

import os
import sys

import jax


def count_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def show_every_core(cores: int | None = None) -> None:
    """Makes every CPU core a device, unless their number is chosen in the environment.

    Args:
        cores: how many; by default those that this process may use.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform" in os.getenv("XLA_FLAGS", ""):
        return
    jax.config.update("jax_num_cpu_devices", cores or count_cores())


def start_devices() -> bool:
    """Starts JAX on the devices that its settings name; where it cannot, one line gives why."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter has no message
        reason = next(iter(str(error).strip().splitlines()), "JAX finds no such device")
        asked = os.environ.get("JAX_PLATFORMS")
        where = f"JAX_PLATFORMS is {asked!r}" if asked else "no device starts"
        print(f"maven-jax: error: {where}: {reason}", file=sys.stderr)
        return False
    return True
