"""Files that outlive a kill, a full disk and a power cut.

What is written is first written whole under another name, and synchronised with the disk (`fsync`)
before it takes the place of what was there.
"""

import errno
import itertools
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

DRAFT = ".draft-"
"""How the name of a file begins that is not whole yet."""
_NO_SYNC = (errno.EINVAL, errno.EACCES, errno.EBADF, errno.ENOTSUP)


def replace_text(path: Path, text: str) -> None:
    """`replace_file` with text.

    Raises:
        OSError: it cannot be written; the old text is still there.
    """
    replace_file(path, lambda file: file.write(text.encode()))


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that whoever reads it, at any moment, finds the old one or the new.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    draft = draft_of(path)
    try:
        with draft.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)  # a full disk needs its room
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    sync(path.parent)


def draft_of(path: Path) -> Path:
    """A name beside `path` that nobody else uses; short, since `path` may be as long as may be."""
    return path.with_name(f"{DRAFT}{secrets.token_hex(4)}")


def free_name(path: Path, name: str) -> Path:
    """`path` with another name, which is numbered from 2 on where it is taken."""
    file = path.with_name(name)
    numbered = (file.with_stem(f"{file.stem}-{number}") for number in itertools.count(2))
    return next(new for new in itertools.chain([file], numbered) if not new.exists())


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where that can be had."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # as some systems answer for a folder
            raise
