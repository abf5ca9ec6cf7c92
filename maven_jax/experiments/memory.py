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
        replay, weights, scratch, checkpoint = map(format_bytes, self)
        return (
            f"{format_bytes(self.total)} (replay {replay}, weights {weights}, activations "
            f"{scratch}, checkpoint {checkpoint})"
        )


def state_memory(state: TrainState) -> Memory:
    """What a state takes, of arrays or of `ShapeDtypeStruct`s."""
    replay = num_bytes((state.replay, state.latent_replay))
    return Memory(replay, num_bytes(state) - replay)


def free_bytes(devices: list[jax.Device]) -> int | None:
    """What the devices can still hold together; None where that is unknown.

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

    `held` includes padding, `num_lanes` does not; `free` is in bytes, None where it is unknown.

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
    """Bytes left below the memory limits of this process; `sys.maxsize` where there are none.

    On Linux, the limits of its control group (version 2) and of all groups above it.
    """
    group, free = PurePosixPath(), [sys.maxsize]
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                group = PurePosixPath(line.removeprefix("0::/"))
    for path in (group, *group.parents):
        folder = root / "sys/fs/cgroup" / path
        with suppress(OSError, ValueError):  # a group without these files, or "max", has no limit
            limit = int((folder / "memory.max").read_text())
            used = int((folder / "memory.current").read_text())
            stat = (folder / "memory.stat").read_text().split()
            given_back = int(stat[stat.index("inactive_file") + 1])  # when it is needed
            free.append(max(limit - used + given_back, 0))
    return min(free)
