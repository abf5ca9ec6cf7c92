"""Entry point of `maven-jax`: shows every CPU core to JAX as a device, then runs the command line.

Devices are fixed when JAX starts, and importing jumanji starts it: hence a module of its own.
"""

import os
import sys

import jax


def main() -> None:
    """Runs the command line and exits with its code."""
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform" in os.getenv("XLA_FLAGS", "")
    if not chosen:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    from maven_jax.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
