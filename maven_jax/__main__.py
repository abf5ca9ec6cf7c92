"""Entry point of `maven-jax`: shows every CPU core to JAX as a device, then runs the command line.

Devices are fixed when JAX starts, and importing jumanji starts it: hence a module of its own.
"""

import gc
import io
import os
import signal
import sys

import jax

from maven_jax.cli.program_cache import cache_programs


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
    """Starts JAX on the devices that its settings name; says in a line why it cannot."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter says nothing
        reason = next(iter(str(error).strip().splitlines()), "JAX finds no such device")
        asked = os.environ.get("JAX_PLATFORMS")
        where = f"JAX_PLATFORMS is {asked!r}" if asked else "no device starts"
        print(f"maven-jax: error: {where}: {reason}", file=sys.stderr)
        return False
    return True


def collect_rarely() -> None:
    """Lets Python look for unreachable objects less often, and not among those that are there.

    Modules and traces are objects by the million that live as long as the process: looking through
    them again and again is a good part of the time to start and to trace.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def main() -> None:
    """Runs the command line and exits with its code."""
    gc.disable()  # while all that a command needs is loaded
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end like Ctrl-C, results kept
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot encode is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    show_every_core()
    arguments = sys.argv[1:]
    if not arguments or not {"-h", "--help", "--version"}.isdisjoint(arguments):
        jax.config.update("jax_platforms", "cpu")  # whatever the machine has, help is printed
    if "--distributed" in arguments:
        arguments.remove("--distributed")
        if not join_processes():
            sys.exit(2)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # joining puts its own there
    if not start_devices():
        sys.exit(2)
    cache_programs()
    from maven_jax.cli.main import INTERRUPTED, run

    collect_rarely()
    gc.enable()
    try:
        code = run(arguments)
        print(end="", flush=True)
    except OSError as error:  # a reader such as `head` has seen enough, or a disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
        if not isinstance(error, BrokenPipeError):
            print(f"maven-jax: error: {error}", file=sys.stderr)
            code = 2
    if code == INTERRUPTED:  # compiling threads may still run: neither wait nor free their memory
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
