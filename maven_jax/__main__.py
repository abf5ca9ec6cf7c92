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
    from maven_jax.cli import INTERRUPTED, run

    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == INTERRUPTED:
        os._exit(
            code
        )  # compiling threads may still run: do not wait for them, nor free their memory
    sys.exit(code)


if __name__ == "__main__":
    main()
