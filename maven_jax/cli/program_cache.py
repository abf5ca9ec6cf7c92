"""Compiled programs, kept on disk: a second start of the same program does not compile it again.

It is JAX's persistent compilation cache, in a folder of the machine's kind of processor: what was
compiled for one may use instructions that another lacks, and homes are shared among machines.
"""

import os
import platform
import zlib
from pathlib import Path

import jax

LARGEST = 2 * 2**30
"""Bytes that the folder may hold when a command starts; what was used longest ago goes first."""
TELLS_PROCESSORS_APART = ("model name", "flags", "Features", "CPU part")
"""How lines of /proc/cpuinfo begin that do."""


def keep_programs() -> None:
    """Gives JAX a folder for compiled programs, unless it has one, shall have none, or cannot.

    `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=0` keeps none.
    """
    # JAX adds its settings to `jax.config` as it starts: their types are not declared
    if folder_in_use() or not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return
    try:
        folder = default_folder()
        folder.mkdir(parents=True, exist_ok=True)
        make_room(folder, LARGEST)
    except (OSError, RuntimeError):  # no home, or none that can be written to
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))


def folder_in_use() -> str | None:
    """Where JAX keeps compiled programs; None where it does not."""
    # not declared either, see `keep_programs`
    return jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]


def default_folder() -> Path:
    """Where compiled programs are kept by default: in `$XDG_CACHE_HOME`, or `~/.cache`.

    Raises:
        RuntimeError: there is no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "maven-jax" / _processor()


def make_room(folder: Path, largest: int) -> None:
    """Deletes what was used longest ago until a folder's files hold at most `largest` bytes."""
    files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    files.sort(key=lambda file: max(file[1].st_atime, file[1].st_mtime), reverse=True)
    held = 0
    for path, stat in files:
        held += stat.st_size
        if held > largest:
            path.unlink(missing_ok=True)


def _processor() -> str:
    """The kind of this machine's processor, as a short name."""
    known = platform.machine(), platform.processor()
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    kind = {line for line in lines if line.startswith(TELLS_PROCESSORS_APART)}
    return f"{known[0]}-{zlib.crc32(repr((known, sorted(kind))).encode()):08x}"
