"""Compiled programs, kept on disk: a second start of the same program does not compile it again.

They are JAX's persistent compilation cache and, in a subfolder, whole sweeps. The folder is of the
machine's kind of processor: what was compiled for one may use instructions that another lacks, and
homes are shared among machines.
"""

import contextlib
import importlib
import os
import platform
import zlib
from pathlib import Path
from typing import Any

import jax

LARGEST = 2 * 2**30
"""Bytes that the folders may hold when a command starts; what was used longest ago goes first."""
CHECKED = "checked"
"""File that is as old as the last look for damaged programs."""
TELLS_PROCESSORS_APART = ("model name", "flags", "Features", "CPU part")
"""How lines of /proc/cpuinfo begin that do."""


def keep_programs() -> None:
    """Gives JAX a folder for compiled programs, unless it has one, shall have none, or cannot.

    `JAX_COMPILATION_CACHE_DIR` names another folder or, empty, none;
    `JAX_ENABLE_COMPILATION_CACHE=0` keeps none. Of several processes the first tidies.
    """
    enabled = _setting("jax_enable_compilation_cache")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or folder_in_use() or not enabled:
        return
    try:
        folder = default_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            drop_damaged(folder)
            make_room(folder.parent, LARGEST)
    except (OSError, RuntimeError):  # no home, or none that can be written to
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))


def folder_in_use() -> str | None:
    """Where JAX keeps compiled programs; None where it does not."""
    enabled = _setting("jax_enable_compilation_cache")
    return (_setting("jax_compilation_cache_dir") or None) if enabled else None


def sweeps_folder() -> Path | None:
    """Where whole sweeps are kept, beside what JAX keeps; None where it keeps nothing."""
    folder = folder_in_use()
    if not folder or "://" in folder:  # JAX's may be in a cloud
        return None
    return Path(folder) / f"sweeps-{processor()}"


def default_folder() -> Path:
    """Where compiled programs are kept by default: in `$XDG_CACHE_HOME`, or `~/.cache`.

    Raises:
        RuntimeError: there is no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "maven-jax" / processor()


def processor() -> str:
    """The kind of this machine's processor, as a short name."""
    known = platform.machine(), platform.processor()
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    kind = {line for line in lines if line.startswith(TELLS_PROCESSORS_APART)}
    return f"{known[0]}-{zlib.crc32(repr((known, sorted(kind))).encode()):08x}"


def make_room(folder: Path, largest: int) -> None:
    """Deletes what was used longest ago until a folder holds at most `largest` bytes."""
    files = sorted(_files(folder), key=lambda file: _last_used(file[1]), reverse=True)
    held = 0
    for path, stat in files:
        held += stat.st_size
        if held > largest:
            path.unlink(missing_ok=True)


def drop_damaged(folder: Path) -> None:
    """Deletes the programs of which only a part was written, as by a process that was killed.

    JAX does not write them in one piece, nor replace what it cannot read. Only what was written
    since the last call is read, so that a full folder costs no time.
    """
    stamp = folder / CHECKED
    since = stamp.stat().st_mtime_ns if stamp.exists() else 0
    stamp.touch()
    for path, stat in _files(folder):
        new = path.name.endswith("-cache") and stat.st_mtime_ns >= since
        if new and not _is_readable(path):
            path.unlink(missing_ok=True)


def _is_readable(path: Path) -> bool:
    """Whether JAX could unpack what a file holds."""
    try:
        unpack = importlib.import_module("zstandard").decompress  # what JAX packs with, if it can
    except ImportError:
        unpack = zlib.decompress
    try:
        unpack(path.read_bytes())
    except Exception:  # each library has an error of its own
        return False
    return True


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files in a folder and beneath; other processes may delete some meanwhile."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if not path.is_dir():
                found.append((path, path.stat()))
    return found


def _last_used(stat: os.stat_result) -> float:
    return max(stat.st_atime, stat.st_mtime)


def _setting(name: str) -> Any:
    """One of JAX's, which it adds to `jax.config` as it starts: their types are not declared."""
    return getattr(jax.config, name)
