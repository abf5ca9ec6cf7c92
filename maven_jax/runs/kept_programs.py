"""Compiled sweeps on disk: a second start of the same program neither traces nor compiles it.

JAX's own cache spares a second start the compiler alone, since its key is the traced program. Here
the key is what a trace depends on: the configuration, the devices, JAX's settings, and the sources
of all that is traced. Code that has no source file, as in a notebook, is not kept.
"""

import hashlib
import importlib.util
import os
import pickle
import sys
import sysconfig
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import jax
import jax.monitoring
from jax.experimental.serialize_executable import deserialize_and_load, serialize
from jax.sharding import Mesh
from jax.stages import Compiled

from maven_jax.config import Config
from maven_jax.runs.files import draft_of
from maven_jax.runs.sweep import Sweep, on_mesh
from maven_jax.train import Trainer, static_part

TRACED = (
    *("maven_jax", "jax", "jaxlib", "flax", "optax", "chex", "distrax", "flashbax"),
    *("jumanji", "jaxmarl"),
)
"""The packages whose sources a program depends on; an edit of any of them is another program."""
HOST = {"cli", "pymarl", "reports", "studies"}
"""Rooms of this package of which nothing is traced."""

KEPT_FROM = "jax_persistent_cache_min_compile_time_secs"
"""JAX's setting of how long it must have taken; it is not among those whose types it declares."""


def kept_file(
    folder: Path, config: Config, num_lanes: int, mesh: Mesh, *, from_weights: bool = False
) -> Path:
    """Where a program is kept, if it is.

    Args:
        folder: where all are.
        config: the experiment, whose environment must be the one that it names. Hyperparameters
            and the number of environment steps are traced: their values are not read.
        num_lanes: how many runs.
        mesh: the devices that share them.
        from_weights: `init` is given the weights to start from.
    """
    devices = [(device.id, device.device_kind) for device in mesh.devices.flat]
    backend = mesh.devices.flat[0].client
    what = static_part(config), num_lanes, from_weights
    parts = what, devices, backend.platform_version, _settings()
    key = hashlib.sha256(repr(parts).encode())
    for path in (*_sources(), *_own_sources()):
        stat = os.stat(path)
        key.update(repr((path, stat.st_mtime_ns, stat.st_size)).encode())
    return folder / key.hexdigest()


def in_notebook() -> bool:
    """Whether code may have been typed in that no file holds."""
    return hasattr(sys, "ps1")


def keep(path: Path, sweep: Sweep) -> None:
    """Writes down a program that took `KEPT_FROM` to compile, if backend and disk let it."""
    if sweep.compile_seconds < getattr(jax.config, KEPT_FROM):
        return
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), sweep.state_shapes)
    draft = draft_of(path)
    try:
        programs = [serialize(cast(Compiled, p)) for p in (sweep.init, sweep.chunk)]
        whole = pickle.dumps((programs, shapes, sweep.scratch_bytes))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(zlib.compress(whole, 1))
        draft.replace(path)
    except Exception:  # each backend has an error of its own
        with suppress(OSError):
            draft.unlink()


def find(path: Path, trainer: Trainer, num_lanes: int, mesh: Mesh) -> Sweep | None:
    """The program that was kept; None where none was, or it is damaged or cannot be loaded.

    Args:
        path: from `kept_file`.
        trainer: from `make_trainer` of the same configuration, whatever its number of steps.
        num_lanes: as given to `kept_file`.
        mesh: likewise.
    """
    started = time.perf_counter()
    if not path.is_file():
        return None
    try:
        programs, shapes, scratch_bytes = pickle.loads(zlib.decompress(path.read_bytes()))
        devices = list(mesh.devices.flat)
        init, chunk = (
            deserialize_and_load(content, in_tree, out_tree, execution_devices=devices)
            for content, in_tree, out_tree in programs
        )
    except Exception:  # damage shows in any way
        return None
    return Sweep(
        init=init,
        chunk=chunk,
        total_env_steps=trainer.total_env_steps,
        mesh=mesh,
        num_lanes=num_lanes,
        state_shapes=on_mesh(shapes, mesh),
        scratch_bytes=scratch_bytes,
        compile_seconds=time.perf_counter() - started,
    )


@contextmanager
def hits_of_jax_cache() -> Iterator[list[str]]:
    """A list that grows by an entry for each program that JAX takes from its own cache meanwhile.

    Such a program is not to be kept: XLA for CPUs cannot write down what it has read.
    """
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)


def _settings() -> list[tuple[str, Any]]:
    """JAX's, of which many change a program, but for those of its cache; and XLA's flags."""
    stated = jax.config.values
    names = sorted(name for name in stated if "cache" not in name)
    flags = [(name, os.environ.get(name, "")) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    return [*((name, getattr(jax.config, name, stated[name])) for name in names), *flags]


def _sources() -> Iterator[str]:
    """The files of the packages that are traced."""
    for package in TRACED:
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for folder, folders, files in os.walk(root, followlinks=True):
                own = package == "maven_jax" and folder == root
                folders[:] = sorted(set(folders) - HOST if own else folders)
                for name in sorted(files):
                    if name.endswith((".py", ".so", ".npz", ".yaml")):
                        yield os.path.join(folder, name)


def _own_sources() -> list[str]:
    """The files of loaded modules that are not installed: a user's environment may be in one."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders.append(str(Path(__file__).parent.parent))  # this package's, whose `__main__` runs
    command = os.path.join(paths["scripts"], "maven-jax")
    installed = (*(f"{folder}{os.sep}" for folder in folders), command)
    files = {
        getattr(module, "__file__", None) or ""
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in TRACED
    }
    return sorted(f for f in files if os.path.isfile(f) and not f.startswith(installed))
