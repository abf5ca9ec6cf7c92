"""The devices and processes that JAX uses, which are fixed when it starts.

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


def show_every_core() -> None:
    """Makes every CPU core a device, unless their number is chosen in the environment."""
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform" in os.getenv("XLA_FLAGS", ""):
        return
    jax.config.update("jax_num_cpu_devices", count_cores())


def join_processes() -> bool:
    """Joins this process with those that were started with it, as JAX finds them.

    Set `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`; on a cluster that JAX
    knows (Slurm, Open MPI, Kubernetes, a TPU pod) nothing need be set.
    """
    try:
        jax.distributed.initialize(
            os.environ.get("JAX_COORDINATOR_ADDRESS"),
            _whole_number("JAX_NUM_PROCESSES"),
            _whole_number("JAX_PROCESS_ID"),
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        print(f"maven-jax: error: --distributed: {reason}", file=sys.stderr)
        return False
    return True


def _whole_number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise ValueError(f"{variable} is {text!r}; allowed: a whole number")
    return None if text is None else int(text)


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
