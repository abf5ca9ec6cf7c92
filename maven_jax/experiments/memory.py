"""How much memory a sweep will hold, and whether there is as much."""

import math
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jax
import psutil

from maven_jax.errors import ConfigError
from maven_jax.types import TrainState


class Memory(NamedTuple):
    """Bytes that a sweep holds on its devices, all lanes together."""

    replay: int
    weights: int
    """With targets, optimisers and counters."""
    scratch: int = 0
    """Activations and gradients of the lanes' updates."""
    checkpoint: int = 0
    """A copy of the state while it is saved, where devices and host share their memory."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.total)} (replay {format_bytes(self.replay)}, weights "
            f"{format_bytes(self.weights)}, activations {format_bytes(self.scratch)}, checkpoint "
            f"{format_bytes(self.checkpoint)})"
        )


def state_memory(state: TrainState) -> Memory:
    """What a state takes, of arrays or of `ShapeDtypeStruct`s."""
    replay = num_bytes((state.replay, state.latent_replay))
    return Memory(replay, num_bytes(state) - replay)


def free_bytes(devices: list[jax.Device]) -> int | None:
    """What the devices can still hold together; None where nothing tells.

    CPU devices share the machine's memory, or what its control groups allow.
    """
    if devices[0].platform == "cpu":
        return min(psutil.virtual_memory().available, control_group_free())
    stats = [device.memory_stats() for device in devices]
    if not all(s and "bytes_limit" in s for s in stats):
        return None
    return sum(s["bytes_limit"] - s["bytes_in_use"] for s in stats if s)


def check_memory(held: Memory, free: int | None, num_lanes: int, num_devices: int) -> None:
    """Refuses what does not fit, with the number of runs that does.

    Args:
        held: by all lanes.
        free: bytes; None where nothing tells.
        num_lanes: without padding.
        num_devices: that share them.

    Raises:
        ConfigError: more is held than is free.
    """
    if free is None or held.total <= free:
        return
    padded = -(-num_lanes // num_devices) * num_devices
    fit = int(padded * free / held.total)
    if fit >= num_devices:
        fit -= fit % num_devices  # a group is padded to an even share
    raise ConfigError(
        f"{num_lanes} runs need {held}, but only {format_bytes(free)} are free; use "
        + (f"--group-size {fit} or less" if fit else "a smaller replay_size")
    )


def format_bytes(count: int) -> str:
    """A number of bytes in MB, or GB from one on."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def num_bytes(tree: Any) -> int:
    """Of all arrays of a tree, or of their `ShapeDtypeStruct`s."""

    def size(x: Any) -> int:
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return math.prod(x.shape) * (8 if is_key else x.dtype.itemsize)

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def control_group_free(root: Path = Path("/")) -> int:
    """What is left below the memory limits of a Linux process; very much where there is none.

    The limits of its own control group and of all above it hold, of version 1 and 2 alike. In a
    container its path may be one that is seen from outside only; what is mounted counts then.

    Args:
        root: of the file system.

    Returns:
        Bytes. A group whose files cannot be read limits nothing.
    """
    lines: list[str] = []
    with suppress(OSError, ValueError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    paths = dict(line.split(":", 2)[1:] for line in lines if line.count(":") >= 2)
    free = [sys.maxsize]
    for version in _VERSIONS:
        own = [path for names, path in paths.items() if version.controller in names.split(",")]
        group = PurePosixPath(*(path.lstrip("/") for path in own[:1]))
        if ".." in group.parts:  # outside of what this process may see
            group = PurePosixPath()
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):
                free.append(_group_free(root / version.mount / folder, version))
    return min(free)


class _Version(NamedTuple):
    """Where a version of control groups tells of memory."""

    mount: str
    controller: str
    """What its line of `/proc/self/cgroup` names."""
    limit: str
    used: str
    cache: str
    """An entry of `memory.stat`: what is given back when somebody needs it."""


_VERSION_2 = _Version("sys/fs/cgroup", "", "memory.max", "memory.current", "inactive_file")
_VERSIONS = (
    _VERSION_2,
    _VERSION_2._replace(mount="sys/fs/cgroup/unified"),  # where both versions are in use
    _Version(
        "sys/fs/cgroup/memory",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def _group_free(folder: Path, version: _Version) -> int:
    limit = (folder / version.limit).read_text().strip()
    if limit == "max":
        return sys.maxsize
    used = int((folder / version.used).read_text())
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return max(int(limit) - used + int(stat.get(version.cache, 0)), 0)
