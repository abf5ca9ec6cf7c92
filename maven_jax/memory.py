"""How much memory a sweep will hold, and whether there is as much."""

import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import psutil

from maven_jax.config import ConfigError
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
    replay = _num_bytes((state.replay, state.latent_replay))
    return Memory(replay, _num_bytes(state) - replay)


def free_bytes(devices: list[jax.Device]) -> int | None:
    """What the devices of this process can still hold together; None where nothing tells.

    CPU devices share the machine's memory, or what the control group of the process allows.
    """
    if devices[0].platform == "cpu":
        return min(psutil.virtual_memory().available, _control_group_free())
    stats = [device.memory_stats() for device in devices]
    if not all(s and "bytes_limit" in s for s in stats):
        return None
    return sum(s["bytes_limit"] - s["bytes_in_use"] for s in stats if s)


def check_memory(held: Memory, free: int | None, num_lanes: int, num_devices: int) -> None:
    """Refuses what does not fit, and says what would.

    Args:
        held: by this process's share of the lanes.
        free: bytes; None where nothing tells.
        num_lanes: of all processes, without padding.
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
        f"{num_lanes} runs hold {held} but {format_bytes(free)} are free; allowed: "
        + (f"maven-jax sweep with --group-size {fit}, or less" if fit else "a smaller replay_size")
    )


def format_bytes(count: int) -> str:
    """A number of bytes in MB, or GB from one on."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _num_bytes(tree: Any) -> int:
    def size(x: Any) -> int:
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return math.prod(x.shape) * (8 if is_key else x.dtype.itemsize)

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def _control_group_free(root: Path = Path("/sys/fs/cgroup")) -> int:
    """What is left below the limit of a Linux control group; very much where there is none."""
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        cache = int(stat.get("inactive_file", 0))  # given back when somebody needs it
        return sys.maxsize if limit == "max" else max(int(limit) - used + cache, 0)
    except (OSError, ValueError):
        return sys.maxsize
