"""Locks that keep a second command off a folder."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from maven_jax.errors import StorageError
from maven_jax.runs.files import locked
from maven_jax.runs.processes import anywhere, is_writer


@contextmanager
def lock(path: Path, what: str, file: str) -> Iterator[None]:
    """Keeps a second command off a folder until this one ends, however it ends.

    Raises:
        StorageError: another process is training what is in it.
    """
    held = locked(path / file) if is_writer() else nullcontext(True)
    with held as taken:
        if anywhere(not taken):
            raise StorageError(f"{what} '{path}' is being trained by another process")
        yield
