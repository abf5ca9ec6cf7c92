"""JAX's persistent compilation cache, in a folder that only its user can write to.

XLA runs the machine code that it reads there. JAX's key of an entry covers the traced program, the
versions of jaxlib and of the platform, XLA's flags, the devices and the features of the processor:
machines can share a home.
"""

import os
import sys
from pathlib import Path

import jax

LARGEST = 2 * 2**30
"""Bytes that the folder may hold; JAX removes the least recently used entries first."""


def cache_programs() -> None:
    """Gives JAX the default folder for compiled programs.

    `JAX_COMPILATION_CACHE_DIR` names another folder, which is not checked, or, empty, none;
    `JAX_ENABLE_COMPILATION_CACHE=0` disables the cache. A folder that cannot be made or written to
    is not used, nor one that others can write to, which is reported.
    """
    enabled = jax.config.values["jax_enable_compilation_cache"]
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or folder_in_use() or not enabled:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maven-jax"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        status = folder.stat()
    except (OSError, RuntimeError):  # no home, or not a folder
        return
    if status.st_mode & 0o022 or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        reason = f"'{folder}' belongs to another user, or others can write to it"
        print(f"maven-jax: compiled programs are not cached: {reason}", file=sys.stderr)
    elif os.access(folder, os.W_OK):
        for entry in folder.glob("*-cache"):  # JAX evicts none without its stamp
            if not entry.with_name(f"{entry.name.removesuffix('-cache')}-atime").exists():
                entry.unlink(missing_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if jax.config.values["jax_compilation_cache_max_size"] == -1:  # unlimited
            jax.config.update("jax_compilation_cache_max_size", LARGEST)


def folder_in_use() -> str | None:
    """Where JAX caches compiled programs; None where it does not."""
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    return jax.config.values["jax_compilation_cache_dir"] or None
