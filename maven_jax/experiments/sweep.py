"""Many runs as one compiled program: vmapped, sharded over devices, driven in chunks.

A lane is one run of a sweep: a key, and hyperparameters of its own. Lanes never communicate.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from maven_jax.config import Hyperparameters
from maven_jax.errors import check
from maven_jax.functional.loops import update_in_turn
from maven_jax.training.train import Trainer, is_finished
from maven_jax.types import Metrics, NetworkParams, Params, ScalarKey, TrainState

LANES = PartitionSpec("lanes")


class Step(NamedTuple):
    """What one of a sweep's programs returns for every lane, in addition to its state."""

    metrics: Metrics
    finished: jax.Array
    diverged: jax.Array


class Sweep(NamedTuple):
    """A compiled sweep: two programs, each traced and compiled once, whatever the lanes' values."""

    init: Callable[..., tuple[TrainState, Step]]
    """From the key, the hyperparameters and, if compiled so, the weights of every lane; without
    metrics."""
    chunk: Callable[[TrainState, Hyperparameters, Int[Array, "L"]], tuple[TrainState, Step]]
    """From the state, the hyperparameters and the number of environment steps of every lane."""
    total_env_steps: int
    mesh: Mesh
    num_lanes: int
    """Without the padding up to an even share for every device."""
    state_shapes: TrainState
    """`ShapeDtypeStruct`s of the state, padding included."""
    scratch_bytes: int
    """What a chunk needs on each device beside the state; 0 where the compiler does not say."""
    compile_seconds: float


class Position(NamedTuple):
    """What a sweep can resume from, in the host's memory and without padding."""

    state: TrainState
    metrics: dict[str, np.ndarray]
    """The last row of every lane."""


class SweepChunk(NamedTuple):
    """The sweep after one more chunk of every unfinished lane."""

    state: TrainState
    """Every lane, padding included; donated to the next chunk: copy what must outlive it."""
    metrics: dict[str, np.ndarray]
    """One row a lane; that of a finished lane is its last."""
    active: np.ndarray
    """Lanes that took part in this chunk and stayed finite."""
    diverged: np.ndarray
    """Lanes that have diverged, in this chunk or an earlier one."""


def seed_keys(first_seed: int, num_seeds: int) -> jax.Array:
    """`jax.random.key` of each of consecutive seeds.

    Raises:
        ConfigError: no seed, or one out of range.
    """
    check(num_seeds >= 1, "num_seeds", num_seeds, "a whole number from 1 on")
    for seed in (first_seed, first_seed + num_seeds - 1):
        check(0 <= seed < 2**31, "seed", seed, "a whole number from 0 to 2**31 - 1")
    return lane_keys(range(first_seed, first_seed + num_seeds))


def lane_keys(seeds: Sequence[int] | np.ndarray) -> jax.Array:
    """`jax.random.key` of each seed."""
    return jax.vmap(jax.random.key)(jnp.array(seeds))


def make_mesh(num_lanes: int) -> Mesh:
    """An axis `lanes` of devices, at most one a lane.

    On a CPU one lane has two devices, of which one is idle, so that the program is compiled as for
    many lanes, with the same results bit for bit.
    """
    devices = jax.devices()
    used = max(num_lanes, 2) if devices[0].platform == "cpu" else num_lanes
    return Mesh(np.array(devices[:used]), ("lanes",))


def padded(num_lanes: int, mesh: Mesh) -> int:
    """How many lanes a program has: padding makes the devices' shares even."""
    return num_lanes + -num_lanes % mesh.size


def place_lanes(lanes: Any, mesh: Mesh) -> Any:
    """Shares arrays with an axis of lanes among devices; copies of the last lane pad them."""

    def place(x: Any) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(x)))
        missing = padded(x.shape[0], mesh) - x.shape[0]
        every = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)])
        sharding = NamedSharding(mesh, LANES)
        return jax.make_array_from_callback(every.shape, sharding, lambda index: every[index])

    return jax.tree.map(place, lanes)


def take_lanes(tree: Any, num_lanes: int) -> Any:
    """Copies a sweep's arrays to the host's memory, without its padding lanes."""

    def take(x: jax.Array) -> np.ndarray:
        # The whole array would keep a second copy of what several devices share.
        shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.asarray(shard.data) for shard in shards])[:num_lanes]

    return jax.tree.map(take, tree)


def spread(hyperparameters: Hyperparameters, num_lanes: int) -> Hyperparameters:
    """A single precision value of every hyperparameter for each lane."""
    return jax.tree.map(
        lambda x: np.broadcast_to(np.asarray(x, np.float32), (num_lanes,)), hyperparameters
    )


def update_lanes(
    function: Callable[..., tuple[Any, Any]], mesh: Mesh, num_lanes: int
) -> Callable[..., tuple[Any, Any]]:
    """Maps a function over lanes, shared by devices: all arguments and results get a leading axis.

    On an accelerator a device computes its lanes at once (`vmap`), on a CPU one after the other.
    There padding is not computed: its state stays, and its further results are zeros.

    Args:
        function: from a lane's state and further arguments to its next state, which takes the
            memory of the one before where that is donated, and a further result.
        mesh: from `make_mesh`.
        num_lanes: without padding.
    """

    @wraps(function)  # its name is the program's
    def here(state: Any, *lanes: Any) -> tuple[Any, Any]:
        if not _is_cpu(mesh):
            return jax.vmap(function)(state, *lanes)
        return update_in_turn(function, _num_real_lanes_here(num_lanes, mesh), state, *lanes)

    return jax.shard_map(here, mesh=mesh, in_specs=LANES, out_specs=LANES, check_vma=False)


def _num_real_lanes_here(num_lanes: int, mesh: Mesh) -> Int[Array, ""]:
    """How many of a device's lanes are no padding; a number that the compiler does not know."""
    lanes_per_device = padded(num_lanes, mesh) // mesh.size
    unknown = jax.lax.optimization_barrier(jnp.int32(num_lanes))
    return jnp.clip(unknown - lanes_per_device * jax.lax.axis_index("lanes"), 0, lanes_per_device)


def over_lanes(function: Callable[..., Any], mesh: Mesh, num_lanes: int) -> Callable[..., Any]:
    """`update_lanes` for a function that has arguments and a result, and no state."""

    @wraps(function)  # its name is the program's
    def every(*lanes: Any) -> Any:
        compute = update_lanes(lambda _, *own: (None, function(*own)), mesh, num_lanes)
        return compute(None, *lanes)[1]

    return every


def _is_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


def map_lanes(function: Callable[..., Any], *lanes: Any) -> Any:
    """Runs `function` for every lane, on all devices; arrays in the host's memory."""
    num_lanes = jax.tree.leaves(lanes)[0].shape[0]
    mesh = make_mesh(num_lanes)
    lanes = place_lanes(lanes, mesh)
    return take_lanes(jax.jit(over_lanes(function, mesh, num_lanes))(*lanes), num_lanes)


def compile_sweep(
    trainer: Trainer, num_lanes: int, mesh: Mesh | None = None, *, from_weights: bool = False
) -> Sweep:
    """Compiles a sweep for its number of lanes and the devices of a mesh, by default `make_mesh`.

    With `from_weights`, `init` is given the weights to start from.
    """
    started = time.perf_counter()
    mesh = mesh or make_mesh(num_lanes)
    sharding = NamedSharding(mesh, LANES)

    def init(
        key: ScalarKey, hyperparameters: Hyperparameters, *weights: Any
    ) -> tuple[TrainState, Step]:
        state = trainer.init(key, hyperparameters, *weights)
        return state, Step({}, state.diverged, state.diverged)  # no run is over before it learns

    def chunk(
        state: TrainState, hyperparameters: Hyperparameters, total_env_steps: Int[Array, ""]
    ) -> tuple[TrainState, Step]:
        state, metrics = trainer.chunk(state, hyperparameters, total_env_steps)
        return state, Step(metrics, is_finished(state, total_env_steps), state.diverged)

    def on_mesh(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def every_lane(x: Any) -> jax.ShapeDtypeStruct:
        return on_mesh((padded(num_lanes, mesh), *x.shape), x.dtype)

    one_key = jax.eval_shape(lambda: jax.random.key(0))
    keys, steps = every_lane(one_key), every_lane(np.int32(0))
    hyperparameters = jax.tree.map(lambda _: every_lane(np.float32(0)), Hyperparameters())
    weights: tuple[Any, ...] = ()
    if from_weights:
        fresh = jax.eval_shape(trainer.init, jax.random.key(0), Hyperparameters())
        weights = (jax.tree.map(every_lane, (fresh.params, fresh.latent_params)),)
    # On a CPU `init` takes half the time to compile without optimisation, and it runs once.
    options = {"xla_backend_optimization_level": 0} if _is_cpu(mesh) else {}
    traced = jax.jit(over_lanes(init, mesh, num_lanes), compiler_options=options).trace(
        keys, hyperparameters, *weights
    )
    state = jax.tree.map(lambda x: on_mesh(x.shape, x.dtype), traced.out_info[0])
    with ThreadPoolExecutor(1) as beside:  # the compiler leaves Python to others
        compiled_init = beside.submit(traced.lower().compile)
        jitted = jax.jit(update_lanes(chunk, mesh, num_lanes), donate_argnums=0)
        compiled_chunk = jitted.lower(state, hyperparameters, steps).compile()
    memory = compiled_chunk.memory_analysis()
    return Sweep(
        init=compiled_init.result(),
        chunk=compiled_chunk,
        total_env_steps=trainer.total_env_steps,
        mesh=mesh,
        num_lanes=num_lanes,
        state_shapes=state,
        scratch_bytes=memory.temp_size_in_bytes if memory else 0,
        compile_seconds=time.perf_counter() - started,
    )


def run_sweep(
    sweep: Sweep,
    keys: jax.Array,
    hyperparameters: Hyperparameters,
    position: Position | None = None,
    weights: tuple[Params, NetworkParams] | None = None,
) -> Iterator[SweepChunk]:
    """Trains every lane to its end, yielding after each chunk.

    Args:
        sweep: the compiled programs.
        keys: one a lane.
        hyperparameters: each a number for all lanes or an array with one for every lane.
        position: where to resume; by default the start.
        weights: of every lane, to start from, where the sweep is compiled for it.
    """
    num_lanes = sweep.num_lanes
    steps = np.full(num_lanes, sweep.total_env_steps, np.int32)
    placed = place_lanes((spread(hyperparameters, num_lanes), steps), sweep.mesh)
    latest: dict[str, np.ndarray] = {}
    if position is None:
        start = [] if weights is None else [place_lanes(weights, sweep.mesh)]
        state, step = sweep.init(place_lanes(keys, sweep.mesh), placed[0], *start)
        _, finished, diverged = take_lanes(step, num_lanes)
    else:
        finished = np.asarray(is_finished(position.state, sweep.total_env_steps))
        diverged = position.state.diverged
        state, latest = place_lanes(position.state, sweep.mesh), dict(position.metrics)
    while not np.all(finished):
        state, step = sweep.chunk(state, *placed)
        rows, finished_now, diverged = take_lanes(step, num_lanes)
        active = ~np.asarray(finished | diverged)
        for name, values in rows.items():
            mask = active.reshape(-1, *[1] * (values.ndim - 1))
            latest[name] = np.where(mask, values, latest.get(name, values)).astype(values.dtype)
        finished = finished_now
        yield SweepChunk(state, dict(latest), active, np.asarray(diverged))
