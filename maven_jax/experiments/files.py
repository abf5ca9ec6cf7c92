"""Files that outlive a kill, a full disk and a power cut.

What is written is first written whole under another name, and synchronised with the disk (`fsync`)
before it takes the place of what was there. Checksums tell what is as it was written.
"""

import errno
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CHECKSUMS = "checksums.json"
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

    Args:
        path: the file.
        write: writes its content.

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


def sync_tree(folder: Path) -> None:
    """`sync` of all that is in a folder, itself, and its name in its own folder."""
    for path in [*folder.rglob("*"), folder, folder.parent]:
        sync(path)


def remove_folder(path: Path) -> None:
    """Removes a folder; a kill leaves all of it, or nothing under its name."""
    removed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(removed, ignore_errors=True)
    if path.exists():
        path.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def write_checksums(folder: Path) -> None:
    """Writes CRC-32s of all files of a folder into it, once they are on the disk."""
    sync_tree(folder)
    replace_text(folder / CHECKSUMS, json.dumps(_checksums(folder)))


def find_damage(folder: Path) -> str | None:
    """How a folder's files differ from its checksums; None where they do not.

    Raises:
        FileNotFoundError: it has no checksums.
    """
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())
        items = list(wanted.items())
    except (ValueError, AttributeError, RecursionError) as error:
        return f"{CHECKSUMS}: {error}"
    found = _checksums(folder)
    for name, checksum in items:
        if name not in found:
            return f"{name} is missing"
        if found[name] != checksum:
            return f"{name} is not as it was written"
    return None


def _checksums(folder: Path) -> dict[str, int]:
    """CRC-32 of every file under a folder, by its path there."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.match(f"*{CHECKSUMS}"))
    return {str(file.relative_to(folder)): _checksum(file) for file in files}


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum
