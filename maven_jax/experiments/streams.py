"""Standard output and error that never end a command."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

_UNUSABLE = (OSError, ValueError, AttributeError)
"""What a stream raises that cannot be written, that is closed, or that is None."""


class UnfailingStream(io.TextIOBase):
    """A text stream whose writes never raise: text that cannot be written is discarded.

    A reader such as `head` may have ended, a terminal may be closed, the disk of a log file may be
    full. Each write is tried anew.
    """

    def __init__(self, find: Callable[[], Any]) -> None:
        """Writes to what `find` returns at each use, such as `sys.stderr`, or None."""
        self._find = find

    @property
    def stream(self) -> Any:
        """What is written to; not rich's substitute for it, which would write here."""
        stream = self._find()
        return getattr(stream, "rich_proxied_file", stream)

    def write(self, text: str) -> int:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            return self.write(text.encode("ascii", "backslashreplace").decode())
        except _UNUSABLE:
            pass
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(*_UNUSABLE):
            self.stream.flush()

    def isatty(self) -> bool:
        try:
            return bool(self.stream.isatty())
        except _UNUSABLE:
            return False

    def fileno(self) -> int:
        try:
            return self.stream.fileno()
        except _UNUSABLE:
            raise io.UnsupportedOperation("fileno") from None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self.stream, "encoding", None) or "utf-8"


def guard_standard_streams() -> None:
    """Lets no failure of standard error end this process.

    Descriptors 0 to 2 that are closed are opened on the null device: otherwise the next file that
    is opened gets the number, and libraries write their messages into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
    stream = sys.stderr
    sys.stderr = UnfailingStream(lambda: stream)


def discard_unwritten() -> None:
    """Drops what standard output and error hold and cannot write: Python would fail at exit.

    Raises:
        OSError: standard output could not be written whole.
    """
    failure: OSError | None = None
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        try:
            if not stream.closed:
                stream.flush()
        except OSError as error:
            failure = error if stream is sys.__stdout__ else failure
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    if failure is not None:
        raise failure
