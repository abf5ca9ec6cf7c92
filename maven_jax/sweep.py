"""Many seeds as one compiled program: vmapped over seeds, sharded over devices, driven in chunks."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maven_jax.config import Hyperparameters
from maven_jax.train import Trainer
from maven_jax.types import Metrics, TrainState


class SweepChunk(NamedTuple):
    """The sweep after one more chunk of every unfinished seed."""

    state: TrainState
    """Every lane, padding included; donated to the next chunk: copy what must outlive it."""
    metrics: dict[str, np.ndarray]
    """One row a seed."""
    active: np.ndarray
    """Seeds that took part in this chunk; the metrics of the others mean nothing."""


def seed_keys(first_seed: int, num_seeds: int) -> jax.Array:
    """`jax.random.key` of each of `num_seeds` consecutive seeds: a seed alone runs as in a sweep."""
    return jax.vmap(jax.random.key)(jnp.arange(first_seed, first_seed + num_seeds))


def make_mesh() -> Mesh:
    """All devices on one axis, `seeds`."""
    return Mesh(np.array(jax.devices()), ("seeds",))


def pad_lanes(keys: jax.Array, mesh: Mesh) -> jax.Array:
    """Repeats the last key until the devices share the lanes evenly."""
    missing = -keys.shape[0] % mesh.size
    return jnp.concatenate([keys, jnp.repeat(keys[-1:], missing, axis=0)])


def run_sweep(
    trainer: Trainer, keys: jax.Array, hyperparameters: Hyperparameters, mesh: Mesh | None = None
) -> Iterator[SweepChunk]:
    """Trains every key's seed to its end, yielding after each chunk.

    Every program is traced and compiled once. Lanes never communicate.

    Args:
        trainer: from `make_trainer`.
        keys: one for each seed.
        hyperparameters: shared by all seeds.
        mesh: devices to share the seeds; all of them by default.
    """
    mesh = mesh or make_mesh()
    over_seeds, shared = PartitionSpec("seeds"), PartitionSpec()
    sharded = partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(over_seeds, shared),
        out_specs=over_seeds,
        check_vma=False,
    )
    init = jax.jit(
        sharded(jax.vmap(trainer.init, in_axes=(0, None))),
        compiler_options=_cheap_compilation(mesh),
    )
    chunk = jax.jit(sharded(jax.vmap(trainer.chunk, in_axes=(0, None))), donate_argnums=0)

    num_seeds = keys.shape[0]
    lanes = jax.device_put(pad_lanes(keys, mesh), NamedSharding(mesh, over_seeds))
    hyperparameters = jax.tree.map(jnp.float32, hyperparameters)
    state = init(lanes, hyperparameters)
    while True:
        active = ~np.asarray(jax.vmap(trainer.finished)(state))[:num_seeds]
        if not active.any():
            return
        state, metrics = chunk(state, hyperparameters)
        yield SweepChunk(state, _to_host(metrics, num_seeds), active)


def _cheap_compilation(mesh: Mesh) -> dict[str, int]:
    """On a CPU, a program that runs once is not worth optimising: half the time to compile it."""
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_backend_optimization_level": 0} if is_cpu else {}


def _to_host(metrics: Metrics, num_seeds: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(value)[:num_seeds] for name, value in metrics.items()}
