"""Signals that ask a command to stop.

Ctrl-C and SIGTERM; SIGHUP, which a terminal sends when it closes; and SIGUSR1, SIGUSR2 and SIGXCPU,
which schedulers send before a job's time is over. This module imports nothing but the standard
library, so that signals are handled before JAX is imported.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

INTERRUPTED = 130
"""The exit code of a command that a signal has stopped."""
STOPPING = (
    "stopping after the current evaluation, then saving a checkpoint; press Ctrl-C again to stop "
    "now, and resume from the last checkpoint"
)
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Those that the system has."""


def exit_on_signals() -> None:
    """From here on a signal ends the process at once with a line: nothing on disk is lost."""
    _install(_exit)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Makes every signal raise `KeyboardInterrupt`, as Python does for Ctrl-C."""
    replaced = _install(_interrupt)
    try:
        yield
    finally:
        _restore(replaced)


def _exit(number: int, frame: Any) -> None:
    with suppress(OSError):
        os.write(2, b"maven-jax: interrupted\n")
    os._exit(INTERRUPTED)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _install(handler: Callable[[int, Any], None]) -> dict[signal.Signals, Any]:
    """Sets a handler for the signals; returns those that it replaces.

    A signal that is ignored, as SIGHUP is under `nohup`, stays ignored, and so does a handler that
    the caller's program has set. Only a program's main thread can set any.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    replaced = {number: old for number, old in found.items() if _is_replaceable(old)}
    for number in replaced:
        signal.signal(number, handler)
    return replaced


def _restore(replaced: dict[signal.Signals, Any]) -> None:
    for number, handler in replaced.items():
        signal.signal(number, handler)


def _is_replaceable(handler: Any) -> bool:
    is_default = handler in (signal.SIG_DFL, signal.default_int_handler)
    return is_default or getattr(handler, "__module__", None) == __name__


class StopRequest(AbstractContextManager["StopRequest"]):
    """Turns signals into a request to stop; after one, Ctrl-C interrupts at once.

    Other signals may come several times, a closed terminal's from the shell and from the kernel.

    Attributes:
        requested: whether there has been one.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.requested = False
        self._say = say
        self._replaced: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._replaced = _install(self._request)
        return self

    def __exit__(self, *_: object) -> None:
        _restore(self._replaced)

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        with suppress(Exception, SystemExit):  # whatever became of the terminal
            self._say(STOPPING)
