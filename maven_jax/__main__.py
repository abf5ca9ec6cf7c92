"""Entry point of `maven-jax`: shows every CPU core to JAX as a device, then runs the command line.

Devices are fixed when JAX starts, and importing jumanji starts it: hence a module of its own.
"""

import os
import signal
import sys

import jax


def count_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main() -> None:
    """Runs the command line and exits with its code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end like Ctrl-C, results kept
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform" in os.getenv("XLA_FLAGS", "")
    if not chosen:
        jax.config.update("jax_num_cpu_devices", count_cores())
    from maven_jax.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
