"""Many seeds as one compiled program: vmapped, sharded over devices, driven in chunks."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maven_jax.config import Hyperparameters
from maven_jax.train import Trainer
from maven_jax.types import Metrics, TrainState


class Sweep(NamedTuple):
    """A compiled sweep: two programs, each traced and compiled once."""

    init: Callable[[jax.Array, Hyperparameters], TrainState]
    chunk: Callable[[TrainState, Hyperparameters], tuple[TrainState, Metrics]]
    finished: Callable[[TrainState], jax.Array]
    lanes: jax.Array
    """Keys of the seeds, and padding up to an even share for every device."""
    hyperparameters: Hyperparameters
    num_seeds: int
    compile_seconds: float


class SweepChunk(NamedTuple):
    """The sweep after one more chunk of every unfinished seed."""

    state: TrainState
    """Every lane, padding included; donated to the next chunk: copy what must outlive it."""
    metrics: dict[str, np.ndarray]
    """One row a seed; that of a finished seed is its last."""
    active: np.ndarray
    """Seeds that took part in this chunk."""


def seed_keys(first_seed: int, num_seeds: int) -> jax.Array:
    """`jax.random.key` of each of consecutive seeds: alone or in a sweep, a seed has one key."""
    return jax.vmap(jax.random.key)(jnp.arange(first_seed, first_seed + num_seeds))


def make_mesh(num_seeds: int) -> Mesh:
    """As many devices as there are seeds to share, on one axis."""
    return Mesh(np.array(jax.devices()[:num_seeds]), ("seeds",))


def pad_lanes(lanes: Any, num_devices: int) -> Any:
    """Repeats the last entry of every array until the devices share the lanes evenly."""

    def pad(x: jax.Array) -> jax.Array:
        missing = -x.shape[0] % num_devices
        return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])

    return jax.tree.map(pad, lanes)


def over_lanes(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function(lane, shared)` vmapped over lanes, which the devices share and none communicates.

    Of its two arguments and its results, all but the second have a leading axis of lanes.
    """
    return jax.shard_map(
        jax.vmap(function, in_axes=(0, None)),
        mesh=mesh,
        in_specs=(PartitionSpec("seeds"), PartitionSpec()),
        out_specs=PartitionSpec("seeds"),
        check_vma=False,
    )


def map_lanes(function: Callable[..., Any], lanes: Any, shared: Any) -> Any:
    """Runs `function(lane, shared)` for every lane, on all devices; arrays on the host."""
    num_lanes = jax.tree.leaves(lanes)[0].shape[0]
    mesh = make_mesh(num_lanes)
    lanes = jax.device_put(pad_lanes(lanes, mesh.size), NamedSharding(mesh, PartitionSpec("seeds")))
    shared = jax.tree.map(jnp.float32, shared)
    return take_seeds(jax.jit(over_lanes(function, mesh))(lanes, shared), num_lanes)


def compile_sweep(
    trainer: Trainer, keys: jax.Array, hyperparameters: Hyperparameters, mesh: Mesh | None = None
) -> Sweep:
    """Compiles a sweep for its number of seeds and devices; lanes never communicate.

    Args:
        trainer: from `make_trainer`.
        keys: one for each seed.
        hyperparameters: shared by all seeds.
        mesh: devices to share the seeds; by default `make_mesh`.
    """
    started = time.perf_counter()
    mesh = mesh or make_mesh(keys.shape[0])
    over_seeds, shared = PartitionSpec("seeds"), PartitionSpec()
    init = jax.jit(over_lanes(trainer.init, mesh), compiler_options=_cheap_compilation(mesh))
    chunk = jax.jit(over_lanes(trainer.chunk, mesh), donate_argnums=0)
    lanes = jax.device_put(pad_lanes(keys, mesh.size), NamedSharding(mesh, over_seeds))
    hyperparameters = jax.tree.map(jnp.float32, hyperparameters)
    hyperparameters = jax.device_put(hyperparameters, NamedSharding(mesh, shared))
    traced = init.trace(lanes, hyperparameters)
    compiled_init = traced.lower().compile()
    state = jax.tree.map(  # JAX replicates arrays of size 0, such as the null latent
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        traced.out_info,
        compiled_init.output_shardings,
    )
    return Sweep(
        init=compiled_init,
        chunk=chunk.lower(state, hyperparameters).compile(),
        finished=trainer.finished,
        lanes=lanes,
        hyperparameters=hyperparameters,
        num_seeds=keys.shape[0],
        compile_seconds=time.perf_counter() - started,
    )


def run_sweep(sweep: Sweep) -> Iterator[SweepChunk]:
    """Trains every seed to its end, yielding after each chunk."""
    state = sweep.init(sweep.lanes, sweep.hyperparameters)
    latest: dict[str, np.ndarray] = {}
    while True:
        active = ~np.asarray(sweep.finished(state))[: sweep.num_seeds]
        if not active.any():
            return
        state, metrics = sweep.chunk(state, sweep.hyperparameters)
        for name, values in take_seeds(metrics, sweep.num_seeds).items():
            rows = active.reshape(-1, *[1] * (values.ndim - 1))
            latest[name] = np.where(rows, values, latest.get(name, values))
        yield SweepChunk(state, dict(latest), active)


def take_seeds(tree: Any, num_seeds: int) -> Any:
    """Copies a sweep's arrays to the host, without its padding lanes."""
    return jax.tree.map(lambda x: np.array(x[:num_seeds]), tree)


def _cheap_compilation(mesh: Mesh) -> dict[str, int]:
    """On a CPU, a program that runs once is not worth optimising: half the time to compile it."""
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_backend_optimization_level": 0} if is_cpu else {}
