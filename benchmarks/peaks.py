"""What makers publish of their devices: operations and bytes a second, by JAX's name of the device.

Dense rates without sparsity, of one device: float32, the precision in which JAX multiplies matrices
of float32 unless it is asked for more (TF32 on GPUs, bfloat16 on TPUs), and memory.
"""

import platform
from typing import Any

import jax
from throughput import chunk_operations

from maven_jax import Config
from maven_jax.experiments.sweep import Sweep, padded

FP32, TF32, BF16, BYTES = "fp32_flop_per_s", "tf32_flop_per_s", "bf16_flop_per_s", "bytes_per_s"

PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA B200": {FP32: 75e12, TF32: 1.1e15, BYTES: 8.0e12},
    "NVIDIA H200": {FP32: 67e12, TF32: 495e12, BYTES: 4.8e12},
    "NVIDIA H100 80GB HBM3": {FP32: 67e12, TF32: 495e12, BYTES: 3.35e12},
    "NVIDIA H100 PCIe": {FP32: 51e12, TF32: 378e12, BYTES: 2.0e12},
    "NVIDIA A100-SXM4-80GB": {FP32: 19.5e12, TF32: 156e12, BYTES: 2.039e12},
    "NVIDIA A100-SXM4-40GB": {FP32: 19.5e12, TF32: 156e12, BYTES: 1.555e12},
    "NVIDIA A100 80GB PCIe": {FP32: 19.5e12, TF32: 156e12, BYTES: 1.935e12},
    "NVIDIA L4": {FP32: 30.3e12, TF32: 60e12, BYTES: 0.3e12},
    "NVIDIA L40S": {FP32: 91.6e12, TF32: 183e12, BYTES: 0.864e12},
    "Tesla V100-SXM2-16GB": {FP32: 15.7e12, BYTES: 0.9e12},
    "Tesla T4": {FP32: 8.1e12, BYTES: 0.32e12},
    "TPU v4": {BF16: 275e12, BYTES: 1.228e12},
    "TPU v5 lite": {BF16: 197e12, BYTES: 0.819e12},
    "TPU v5": {BF16: 459e12, BYTES: 2.765e12},
    "TPU v6 lite": {BF16: 918e12, BYTES: 1.64e12},
}
"""A slice of a GPU has another name than the whole, so it is unknown."""


def describe_device(peaks: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Memory in bytes and published limits of one device, None where unknown; Python's version."""
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    limits = peaks.get(device.device_kind)
    return {"memory_bytes": memory, "limits": limits, "python": platform.python_version()}


def shares(
    limits: dict[str, float], config: Config, sweep: Sweep, chunk_s: float
) -> dict[str, float]:
    """What a sweep's chunk takes of each of a device's limits.

    Operations are those of the matmuls. Bytes are XLA's estimate, which is of each loop's body
    once, scaled as the matmuls are; without what XLA does not know, and absent where it has none.

    Args:
        limits: of one device.
        config: of each seed.
        sweep: compiled for it.
        chunk_s: seconds of a chunk.
    """
    lanes = padded(sweep.num_lanes, sweep.mesh) / sweep.mesh.size
    operations, once = chunk_operations(config)
    counted = (sweep.chunk.cost_analysis() or {}).get("bytes accessed", 0.0)
    of = dict.fromkeys((FP32, TF32, BF16), operations * lanes)
    if counted > 0:
        of[BYTES] = counted * operations / once
    return {f"share_of_{n}": of[n] / chunk_s / limit for n, limit in limits.items() if n in of}
