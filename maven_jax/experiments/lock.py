"""Locks: at most one process trains a run. A lock ends with its process, however that ends."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from maven_jax.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""An empty file of a run's folder, which is locked while the run is trained. It holds no data, so
that replacing any other file, as editors do, leaves the lock in place."""
WAIT = 0.5
"""Seconds to try for a lock: `is_locked` holds it for a moment."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Keeps other processes from training what is in a folder.

    Raises:
        StorageError: another process is training it, or the lock cannot be written.
    """
    with try_lock(folder) as taken:
        if not taken:
            raise StorageError(f"run '{folder}' is being trained by another process")
        yield taken


@contextmanager
def try_lock(folder: Path, wait: float = WAIT) -> Iterator[bool]:
    """Locks a folder if no other process has; yields whether it has.

    It tries for `wait` seconds; negative: for as long as it takes. A thread may take a lock that it
    holds again. On a file system without locks every lock is free.

    Raises:
        StorageError: there is no such folder, or the lock cannot be written.
    """
    if not folder.is_dir():  # the library would make it
        raise StorageError(f"'{folder}' is not a folder")
    held = FileLock(folder / LOCK, is_singleton=True)
    taken = _acquire(held, folder, wait)
    try:
        yield taken
    finally:
        held.release()


def _acquire(held: BaseFileLock, folder: Path, wait: float) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            held.acquire(timeout=wait)
    except Timeout:
        if fcntl is None or is_locked(folder):
            return False
        try:  # it was free a moment ago
            held.acquire(timeout=0)
        except Timeout:  # or a copy of a lock file, on a file system without locks
            return not is_locked(folder)
    except NotImplementedError:
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True
        raise StorageError(f"'{folder}' cannot be locked: {error.strerror}") from None
    if isinstance(held, SoftFileLock):  # in place of missing locks; it would outlive a kill
        held.release()
    return True


def is_locked(folder: Path) -> bool:
    """Whether a process trains the run in a folder. Writes nothing: the folder may be read-only."""
    if fcntl is None:
        return False
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock yet, or a file system without locks
        pass
    return False
