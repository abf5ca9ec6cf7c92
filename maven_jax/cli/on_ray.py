"""Parts of a plan as tasks of Ray, on this machine or on a cluster that shares a file system.

Ray places the tasks, and retries one whose worker dies: it then resumes from its last checkpoint.
A worker imports this module before JAX has its devices, so it imports little.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maven_jax.experiments.options import Options
    from maven_jax.experiments.plan import Plan
    from maven_jax.experiments.run import Run

RETRIES = 10
"""How often a part is resumed whose worker dies."""


def train_on_ray(
    plan: "Plan",
    path: Path,
    options: "Options",
    address: str,
    only: Collection[str] = (),
    cpus: float | None = None,
    gpus: float | None = None,
) -> list["Run"]:
    """`train_plan`, each part a task of Ray.

    Args:
        plan: what to train.
        path: folder to make, or of the same plan; all workers see it.
        options: what the runs leave and say beside.
        address: of a running cluster, `auto` for the one that this machine belongs to, or `local`
            to start Ray here.
        only: names of the parts to train; by default all.
        cpus: cores that a part asks for; by default those of this machine, or one beside a GPU.
        gpus: that a part asks for; by default one where the cluster has any.

    Returns:
        The parts that have finished.

    Raises:
        ConfigError: Ray is not installed, or what `train_plan` refuses.
        StorageError: the folder holds something else, or cannot be made.
        InterruptedRunError: after Ctrl-C; the tasks have saved what they had learned.
    """
    from maven_jax.cli.devices import count_cores
    from maven_jax.errors import ConfigError
    from maven_jax.experiments.folder import ENDED, load_setup, parts_of
    from maven_jax.experiments.options import InterruptedRunError
    from maven_jax.experiments.plan import check_names, create_plan, finished_runs

    try:
        import ray
    except ImportError:
        raise ConfigError("ray is not installed; use pip install 'maven-jax[ray]'") from None
    check_names(only, [part.name for part in plan.parts])
    create_plan(plan, path, options)
    folders = [f for f in parts_of(path) if not only or f.name in only]
    to_train = [f for f in folders if load_setup(f)[1]["status"] not in ENDED]
    try:
        ray.init(address=None if address == "local" else address, include_dashboard=False)
    except ConnectionError as error:
        raise ConfigError(f"ray is {address!r}: {str(error).splitlines()[0]}") from None
    failure: Exception | None = None
    try:
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU") else 0
        cpus = cpus if cpus is not None else 1 if gpus else count_cores()
        task = ray.remote(train_part).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        settings = options.tensorboard, dataclasses.asdict(options.checkpoint)
        waiting = [
            task.remote(str(path.absolute()), "" if f == path else f.name, *settings)
            for f in to_train
        ]
        try:
            while waiting:
                done, waiting = ray.wait(waiting)
                try:
                    ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    failure = failure or error.cause
                except ray.exceptions.RayError as error:
                    failure = failure or error
        except KeyboardInterrupt:
            for running in waiting:
                ray.cancel(running)
            ray.wait(waiting, num_returns=len(waiting))
            raise InterruptedRunError(path) from None
    finally:
        ray.shutdown()
        if plan.report is not None and options.report is not None:
            options.report(path)
    if failure is not None:
        raise failure
    return finished_runs(folders)


def train_part(path: str, name: str, tensorboard: bool, checkpoint: dict[str, Any]) -> None:
    """Trains one part of a plan's folder in a worker, from its last checkpoint if there is one.

    Args:
        path: the plan's folder.
        name: of the part; empty for a plan that is one.
        tensorboard: whether events are written.
        checkpoint: fields of `Checkpointing`.
    """
    from maven_jax.cli.devices import show_every_core

    show_every_core()
    from maven_jax.cli.program_cache import cache_programs

    cache_programs()
    from maven_jax.cli.shared import options_of
    from maven_jax.experiments.checkpoint import Checkpointing
    from maven_jax.experiments.folder import ENDED, load_setup
    from maven_jax.experiments.plan import resume_plan

    if load_setup(Path(path) / name)[1]["status"] not in ENDED:
        options = options_of(tensorboard, Checkpointing(**checkpoint))
        resume_plan(path, options, only=[name] if name else [])
