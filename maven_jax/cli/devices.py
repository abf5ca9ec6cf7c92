"""The devices that JAX uses, which are fixed when it starts.

Importing jumanji starts it, so this module imports nothing else of the package.
"""

import os
import sys

import jax


def show_every_core(cores: int | None = None) -> None:
    """Makes each CPU core that this process may use, or as many as given, a device of JAX.

    A number of devices that the environment chooses is not changed.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform" in os.getenv("XLA_FLAGS", ""):
        return
    if cores is None:
        can_ask = hasattr(os, "sched_getaffinity")  # not on macOS
        cores = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)


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
