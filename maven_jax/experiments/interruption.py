"""Signals that ask a command to stop.

Ctrl-C and SIGTERM; SIGHUP, which a terminal sends when it closes; and SIGUSR1, SIGUSR2 and SIGXCPU,
which schedulers send before a job's time is over. This module imports nothing but the standard
library, so that signals are handled before JAX is imported.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
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

    def stop(number: int, frame: Any) -> None:
        with suppress(OSError):
            os.write(2, b"maven-jax: interrupted\n")
        os._exit(INTERRUPTED)

    _set_handler(stop)


def interrupted_by_signals() -> AbstractContextManager[None]:
    """Makes every signal raise `KeyboardInterrupt`, as Python does for Ctrl-C."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    return _handled_by(interrupt)


class StopRequest(ExitStack):
    """While entered, the first signal requests a stop; after it, Ctrl-C interrupts at once.

    Other signals may come several times: a closed terminal's come from the shell and the kernel.

    Attributes:
        requested: whether there has been a signal.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.requested = False
        self._say = say

    def __enter__(self) -> "StopRequest":
        self.enter_context(_handled_by(self._request))
        return self

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        with suppress(Exception, SystemExit):  # the terminal may be gone
            self._say(STOPPING)


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    replaced = _set_handler(handler)
    try:
        yield
    finally:
        for number, old in replaced.items():
            signal.signal(number, old)


def _set_handler(handler: Callable[[int, Any], None]) -> dict[signal.Signals, Any]:
    """Sets the handler of all signals; returns those that it replaces.

    A signal that is ignored, as SIGHUP is under `nohup`, stays ignored, and so does a handler that
    the caller's program has set. Only a program's main thread can set any.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    replaced = {}
    for number in SIGNALS:
        old = signal.getsignal(number)
        is_default = old in (signal.SIG_DFL, signal.default_int_handler)
        if is_default or getattr(old, "__module__", None) == __name__:
            replaced[number] = signal.signal(number, handler)
    return replaced
