"""Entry point of `maven-jax`: what comes before JAX is imported, then the command line.

Devices are fixed when JAX starts, and importing jumanji starts it. So this module imports neither;
`maven-jax --version` and `--help` need neither.
"""

import contextlib
import gc
import io
import os
import sys

from maven_jax.experiments.interruption import INTERRUPTED, exit_on_signals


def collect_rarely() -> None:
    """Lets Python search for unreachable objects less often, and not among those that exist.

    Modules and traces are millions of objects that live as long as the process.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    gc.enable()


def start(arguments: list[str]) -> int:
    """Starts JAX, then runs one command; returns the exit code."""
    import jax

    from maven_jax.cli.devices import show_every_core, start_devices

    show_every_core()
    if not {"-h", "--help", "--ray"}.isdisjoint(word.partition("=")[0] for word in arguments):
        jax.config.update("jax_platforms", "cpu")  # neither help nor what waits for Ray needs more
    if not start_devices():
        return 2
    from maven_jax.cli.program_cache import cache_programs

    cache_programs()
    from maven_jax.cli.main import run

    collect_rarely()
    return run(arguments)


def main() -> None:
    """Runs the command line and exits with its code."""
    exit_on_signals()
    gc.disable()  # until everything that a command needs is imported
    from maven_jax.cli.commands import information, prints_results
    from maven_jax.experiments.streams import discard_unwritten, guard_standard_streams

    guard_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot encode is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] or ["--help"]
    text, code = information(arguments[0]), 0
    try:
        if text is None:
            code = start(arguments)
        else:
            print(text)
        discard_unwritten()
    except OSError as error:  # a reader such as `head` has ended, or a disk is full
        with contextlib.suppress(OSError):
            discard_unwritten()
        if not isinstance(error, BrokenPipeError) and prints_results(arguments[0]):
            print(f"maven-jax: error: {error}", file=sys.stderr)
            code = 2
    if code == INTERRUPTED:  # compiling threads may still run: neither wait nor free their memory
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
