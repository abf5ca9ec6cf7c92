"""Parts of a plan as tasks of Ray, on this machine or on a cluster that shares a file system.

Ray places the tasks, and retries one whose worker dies: it then resumes from its last checkpoint.
A worker imports this module before JAX has its devices, so it imports nothing of the package.
"""

import dataclasses
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maven_jax.experiments.options import Options
    from maven_jax.experiments.plan import MakeEnv

RETRIES = 10
"""How often a part is resumed whose worker dies."""


def train_on_ray(
    path: Path,
    folders: Sequence[Path],
    options: "Options",
    make_env: "MakeEnv",
    after_each: Callable[[], None],
    *,
    callbacks: Sequence[str],
    address: str,
    cpus: float | None = None,
    gpus: float | None = None,
) -> None:
    """`train_here` of `experiments.plan`, each part a task of Ray; all workers must see the folder.

    `address` is that of a cluster, `auto` for the one that this machine belongs to, or `local` to
    start Ray here. A part asks for `cpus` cores, by default those of the largest machine, or one
    beside a GPU; and for `gpus`, by default one where the cluster has any. Workers read
    `options.checkpoint` alone, make the callbacks whose names are `callbacks`, and the environments
    that the folders name: `make_env` and `after_each` are not used.

    Raises:
        ConfigError: Ray is not installed or not found.
        StorageError: a part's workers died again and again.
        InterruptedRunError: after Ctrl-C; the tasks have saved what they had learned.
    """
    from maven_jax.errors import ConfigError, first_line
    from maven_jax.experiments.console import log_to

    for line in options.remarks:
        log_to(options.console)(line)
    if not folders:
        return
    try:
        import ray
    except ImportError:
        raise ConfigError("ray is not installed; use pip install 'maven-jax[ray]'") from None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address=address, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"ray is {address!r}: {first_line(error)}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray's own would save nothing
                signal.signal(number, handler)
    try:
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU") else 0
        if cpus is None:
            cpus = 1 if gpus else max(node["Resources"].get("CPU", 1) for node in ray.nodes())
        task = ray.remote(train_part).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        failures = _run_tasks(task, path, folders, callbacks, options)
    finally:
        ray.shutdown()
    if failures:
        raise failures[0]


def _run_tasks(
    task: Any, path: Path, folders: Sequence[Path], callbacks: Sequence[str], options: "Options"
) -> list[Exception]:
    """Trains each folder in a task, and waits for all; the errors of those that failed."""
    import ray

    from maven_jax.errors import StorageError, first_line
    from maven_jax.experiments.folder import load_setup
    from maven_jax.experiments.options import InterruptedRunError

    imports = (load_setup(folder)[1].get("imports", {}) for folder in folders)
    modules = sorted({module for named in imports for module in named.values()})
    settings = list(callbacks), dataclasses.asdict(options.checkpoint), modules
    names, failures = {}, []
    for folder in folders:
        name = "" if folder == path else folder.name
        names[task.remote(str(path.absolute()), name, *settings)] = folder.name
    waiting = list(names)
    try:
        while waiting:
            (done,), waiting = ray.wait(waiting)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                failures.append(error.cause)
            except ray.exceptions.RayError as error:
                reason = f"run '{names[done]}' was not trained: {first_line(error)}"
                failures.append(StorageError(reason))
    except KeyboardInterrupt:
        for running in waiting:
            ray.cancel(running)
        ray.wait(waiting, num_returns=len(waiting))
        raise InterruptedRunError(path) from None
    return failures


def train_part(
    path: str,
    name: str,
    callbacks: Sequence[str],
    checkpoint: dict[str, Any],
    modules: Sequence[str],
) -> None:
    """Trains one part of a plan's folder in a worker, from its last checkpoint if there is one.

    `name` is empty for a plan that is one part, `callbacks` are names as of `--callback`,
    `checkpoint` has the fields of `Checkpointing`, and `modules` are those that define what the
    configuration names; the command has imported them.

    Raises:
        StorageError: another process trains the part.
    """
    import ray

    from maven_jax.cli.devices import show_every_core

    # By which Ray cancels a task; a worker inherits that a command in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assigned = ray.get_runtime_context().get_assigned_resources()
    show_every_core(max(1, int(assigned.get("CPU", 1))))
    from maven_jax.cli.program_cache import cache_programs

    cache_programs()
    from maven_jax.cli.shared import options_of
    from maven_jax.errors import StorageError
    from maven_jax.experiments.checkpoint import Checkpointing
    from maven_jax.experiments.plan import resume_plan, unfinished
    from maven_jax.extensions import import_module

    for module in modules:
        import_module(module)
    folder = Path(path) / name
    if unfinished([folder]):
        options = options_of(callbacks, Checkpointing(**checkpoint))
        resume_plan(path, options, only=[name] if name else [])
        if unfinished([folder]):
            raise StorageError(f"run '{folder}' is being trained by another process")
