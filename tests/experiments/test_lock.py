"""Locks of runs: who holds one, and file systems that have none."""

import errno
import fcntl
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock, Timeout

from maven_jax.errors import StorageError
from maven_jax.experiments.lock import LOCK, _acquire, is_locked, lock, try_lock


def test_a_lock_keeps_others_out_and_is_taken_again_by_its_holder(tmp_path):
    with lock(tmp_path), lock(tmp_path):
        assert is_locked(tmp_path)
        with ThreadPoolExecutor(1) as threads:  # as for another process
            error = threads.submit(lambda: lock(tmp_path).__enter__()).exception()
        assert isinstance(error, StorageError)
        assert str(error) == f"run '{tmp_path}' is being trained by another process"
    assert not is_locked(tmp_path)
    with (tmp_path / LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with try_lock(tmp_path) as taken:
            assert not taken


def test_a_lock_that_is_let_go_in_the_last_moment_is_taken(tmp_path):
    class Late(FileLock):
        waits = 0

        def acquire(self, *arguments, **options):
            self.waits += 1
            if self.waits == 1:
                raise Timeout(self.lock_file)  # and its holder ends before anybody asks
            return super().acquire(*arguments, **options)

    held = Late(tmp_path / LOCK)
    assert _acquire(held, tmp_path, 0.0)
    assert is_locked(tmp_path)
    held.release()


def test_asking_writes_nothing(tmp_path):
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_locked_is_refused(tmp_path):
    with pytest.raises(StorageError, match="nowhere' is not a folder"):
        lock(tmp_path / "nowhere").__enter__()
    assert not list(tmp_path.iterdir())
    (tmp_path / LOCK).mkdir()
    with pytest.raises(StorageError, match="cannot be locked: Is a directory"):
        lock(tmp_path).__enter__()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("copied", [False, True])
def test_on_a_file_system_without_locks_all_are_free(number, copied, tmp_path, monkeypatch):
    """Also with a copied lock file; no file stands for a lock, since it would outlive a kill."""

    def flock(*_):
        raise OSError(number, "not here")

    monkeypatch.setattr(fcntl, "flock", flock)
    if copied:
        (tmp_path / LOCK).touch()
    for _ in range(2):
        with try_lock(tmp_path) as taken, try_lock(tmp_path) as again:
            assert taken
            assert again
            assert not is_locked(tmp_path)
