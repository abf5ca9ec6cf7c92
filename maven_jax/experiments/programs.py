"""Compiled programs of runs, once it is known that their memory is there."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from maven_jax.config import Config, Hyperparameters
from maven_jax.errors import ConfigError, first_line
from maven_jax.experiments.console import log_to, show_status
from maven_jax.experiments.memory import (
    Memory,
    check_memory,
    format_bytes,
    free_bytes,
    state_memory,
)
from maven_jax.experiments.options import Options
from maven_jax.experiments.sweep import Sweep, compile_sweep, make_mesh, padded
from maven_jax.experiments.text import pluralize
from maven_jax.training.train import Trainer, make_trainer
from maven_jax.types import MarlEnv


def check_run(trainer: Trainer, num_lanes: int) -> Memory:
    """Refuses a run whose state does not fit, before anything compiles.

    Returns:
        What the state holds on the devices.

    Raises:
        ConfigError: the lanes do not fit.
    """
    state = jax.eval_shape(trainer.init, jax.random.key(0), Hyperparameters())
    mesh, lane = make_mesh(num_lanes), state_memory(state)
    devices = list(mesh.devices.flat)
    if devices[0].platform == "cpu":
        lane = lane._replace(checkpoint=lane.total)
    held = Memory(*(padded(num_lanes, mesh) * number for number in lane))
    check_memory(held, free_bytes(devices), num_lanes, mesh.size)
    return held


def compile_run(
    config: Config, env: MarlEnv, num_lanes: int, options: Options, from_weights: bool = False
) -> Sweep:
    """The program of a sweep, once it is known that its memory is there.

    Raises:
        ConfigError: a value that cannot work, or the lanes do not fit.
    """
    trainer, mesh = make_trainer(config, env), make_mesh(num_lanes)
    name, runs = options.name_of(config), pluralize(num_lanes, "run")
    free = free_bytes(list(mesh.devices.flat))
    held = check_run(trainer, num_lanes)
    with (
        show_status(options.console, f"{name}: compiling one program for {runs}"),
        explain_out_of_memory(num_lanes),
    ):
        sweep = compile_sweep(trainer, num_lanes, mesh, from_weights=from_weights)
    held = held._replace(scratch=sweep.scratch_bytes * mesh.size)
    check_memory(held, free, num_lanes, mesh.size)
    known = f"; {format_bytes(free)} are free" if free is not None else ""
    line = f"{name}: memory for {runs}: {held}{known}"
    options.console.print(line, highlight=False, soft_wrap=True)
    for line in options.remarks:
        log_to(options.console)(line)
    return sweep


@contextmanager
def explain_out_of_memory(num_lanes: int) -> Iterator[None]:
    """Turns an out-of-memory error of the device into one line."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        runs = f"{pluralize(num_lanes, 'run')} do not fit on this device together"
        raise ConfigError(f"{runs}: {first_line(error)}") from None
