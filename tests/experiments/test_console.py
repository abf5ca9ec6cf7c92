"""What is printed where: live displays in terminals, plain lines elsewhere, nothing that raises."""

import contextlib
import io
import os
import pty
import sys

import pytest
from rich.table import Table

from maven_jax.experiments.console import log_to, plain_console, show_status
from maven_jax.experiments.progress import show_progress
from maven_jax.experiments.streams import UnfailingStream


class FailingStream(io.StringIO):
    """A stream that takes so many writes, then raises."""

    def __init__(self, writes, error):
        super().__init__()
        self.left, self.error = writes, error

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)

    def flush(self):
        if self.left < 0:
            raise self.error


ERRORS = [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left"), ValueError("closed")]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("writes", [0, 1])
def test_nothing_that_is_printed_beside_the_results_raises(monkeypatch, error, writes):
    broken = FailingStream(writes, error)
    monkeypatch.setattr(sys, "stderr", broken)
    console = plain_console(stderr=True)
    with show_status(console, "compiling"), show_progress(console, "run", 10) as show:
        show(1, "return 1")
        log_to(console)("a remark")
        console.print(Table(title="a table"))
        show(10, "return 2")
    assert broken.getvalue() == ("compiling\n" if writes else "")


def test_a_stream_may_work_again_or_not_be_there():
    broken = FailingStream(0, ERRORS[1])
    stream = UnfailingStream(lambda: broken)
    assert stream.write("lost") == 4
    broken.left = 1
    stream.write("kept")
    assert broken.getvalue() == "kept"
    nowhere = UnfailingStream(lambda: None)
    assert nowhere.write("lost") == 4
    nowhere.flush()
    assert not nowhere.isatty()
    with pytest.raises(OSError, match="fileno"):
        nowhere.fileno()


def test_letters_without_an_encoding_are_escaped(monkeypatch):
    ascii_stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stderr", UnfailingStream(lambda: ascii_stream))
    print("caf\u00e9", file=sys.stderr)
    sys.stderr.flush()
    assert "caf\\xe9" in ascii_stream.buffer.getvalue().decode("ascii")


@pytest.mark.parametrize("error", ERRORS[:2])
def test_results_that_cannot_be_printed_are_an_error(monkeypatch, error):
    monkeypatch.setattr(sys, "stdout", FailingStream(0, error))
    with pytest.raises(type(error)):
        plain_console().print("a result")
    plain_console(unfailing=True).print("a sentence about what is on disk")


def test_without_a_terminal_a_line_a_minute_is_printed(capsys, monkeypatch):
    """Seconds of the updates, and whether each prints: the first, one a minute, the last."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as some CI systems have it: a file stays plain
    console, now = plain_console(stderr=True), 0.0
    updates = [(2, True), (30, False), (61.9, False), (62, True), (121, False), (200, True)]
    updates += [(201, False), (202, True)]
    expected = []
    with show_progress(console, "MAVEN, 8 runs", 8_000, clock=lambda: now) as show:
        for number, (seconds, printed) in enumerate(updates, start=1):
            now = seconds
            show(1_000 * number, f"return {number}.00")
            left = int(seconds * (8 - number) / number)
            expected += [
                f"MAVEN, 8 runs: {number},000 of 8,000 steps, return {number}.00, "
                f"{left // 60}:{left % 60:02d} left"
            ] * printed
    captured = capsys.readouterr()
    assert captured.err.splitlines() == expected
    assert "\x1b" not in captured.err
    assert "\r" not in captured.err
    assert captured.out == ""


def test_time_left_of_a_resumed_run_counts_the_steps_of_this_start(capsys):
    now = 0.0
    console = plain_console(stderr=True)
    with show_progress(console, "run", 1_000, start=900, clock=lambda: now) as show:
        now = 60.0
        show(910, "return 1")
    assert capsys.readouterr().err == "run: 910 of 1,000 steps, return 1, 9:00 left\n"


def in_terminal(monkeypatch, **environment):
    """What a console prints of a status and of progress in a terminal with these variables."""
    for name in ("JPY_PARENT_PID", "MPLBACKEND", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        console = plain_console(stderr=True)
        with show_status(console, "compiling"):
            pass
        with show_progress(console, "run", 2) as show:
            show(1, "return 1")
            show(2, "return 2")
        monkeypatch.undo()
    printed = b""
    with contextlib.suppress(OSError):  # where all has been read
        while part := os.read(reader, 4096):
            printed += part
    os.close(reader)
    return printed.decode()


def test_a_terminal_gets_a_live_bar(monkeypatch):
    assert "\x1b" in in_terminal(monkeypatch)


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": "dumb"},
        {"JPY_PARENT_PID": "1", "TERM": "xterm-color", "FORCE_COLOR": "1"},  # `!maven-jax train`
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "FORCE_COLOR": "1"},
    ],
)
def test_a_terminal_that_redraws_nothing_gets_plain_lines(monkeypatch, environment):
    lines = in_terminal(monkeypatch, **environment).replace("\r\n", "\n").splitlines()
    assert [line.partition(", return")[0] for line in lines] == [
        "compiling",
        "run: 1 of 2 steps",
        "run: 2 of 2 steps",
    ]
