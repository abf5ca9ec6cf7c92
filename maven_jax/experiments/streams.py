"""Standard output and error that never end a command."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any


class UnfailingStream(io.TextIOBase):
    """A text stream whose writes never raise: text that cannot be written is discarded.

    A reader such as `head` may have ended, a terminal may be closed, the disk of a log file may be
    full. Each write is tried anew.
    """

    def __init__(self, find: Callable[[], Any]) -> None:
        """Of the stream that `find` returns at each use, such as `sys.stderr`; None for none."""
        self._find = find

    @property
    def stream(self) -> Any:
        """The stream that is written to; not rich's substitute for it, which would write here."""
        stream = self._find()
        return getattr(stream, "rich_proxied_file", stream)

    def write(self, text: str) -> int:
        """Writes the text, or discards it."""
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            return self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: None
            pass
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if it can."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return bool(self.stream.isatty())
        except (OSError, ValueError, AttributeError):
            return False

    def fileno(self) -> int:
        """The stream's file descriptor.

        Raises:
            OSError: it has none.
        """
        try:
            return self.stream.fileno()
        except (ValueError, AttributeError):
            raise io.UnsupportedOperation("fileno") from None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self.stream, "encoding", None) or "utf-8"


def guard_standard_streams() -> None:
    """Lets nothing that happens to standard error end this process.

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
    """Drops what standard output and error still hold and cannot write: Python would fail at exit.

    Raises:
        OSError: standard output could not be written whole.
    """
    failure: OSError | None = None
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except ValueError:  # closed
            continue
        except OSError as error:
            failure = error if stream is sys.__stdout__ else failure
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    if failure is not None:
        raise failure
