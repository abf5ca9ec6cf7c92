"""Environment steps a second: random play, and QMIX learning, in parallel environments.

    python benchmarks/environments.py --out environments.json

Steps really taken count; those computed after an episode's end, up to the time limit, do not. While
learning, a gradient step on a batch of 32 episodes follows each round of one episode in every
environment. Medians of the timed calls, after one that is not timed; the random return is the mean
of all episodes of that number of environments.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from maven_jax.__main__ import count_cores

if __name__ == "__main__" and "JAX_NUM_CPU_DEVICES" not in os.environ:
    jax.config.update("jax_num_cpu_devices", count_cores())

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from maven_jax import Config, from_dict, make_trainer
from maven_jax.environments import ENVIRONMENTS, make_env
from maven_jax.random_play import RandomStep, random_episode
from maven_jax.runs.new_folder import describe_machine
from maven_jax.types import MarlEnv

CONFIG: dict[str, Any] = {
    "algorithm": "qmix",
    "training": {"total_env_steps": 10**8, "batch_size": 32, "updates_per_evaluation": 2},
    "evaluation": {"episodes": 1},
}
"""What learns, in every environment with its own options."""


def random_play(env: MarlEnv, num_envs: int) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """From a key to the steps and the returns of episodes of random legal actions, compiled."""

    def read(carry: None, step: RandomStep) -> tuple[None, tuple[jax.Array, jax.Array]]:
        return carry, (step.active, step.active * step.timestep.reward)

    def play(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, (active, rewards) = random_episode(env, key, lambda *_: None, read)
        return active.sum(), rewards.sum()

    return jax.jit(lambda key: jax.vmap(play)(jax.random.split(key, num_envs)))


def measure(config: Config, num_envs: int, repeats: int) -> dict[str, Any]:
    """Steps a second of one environment."""
    env = make_env(config)
    random = random_play(env, num_envs)
    rates, returns = [], []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        steps, returned = jax.device_get(random(jax.random.key(repeat)))
        rates.append(steps.sum() / (time.perf_counter() - started))
        returns.append(returned)
    trainer = make_trainer(config, env)
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    state = jax.jit(trainer.init)(jax.random.key(0), hyperparameters)
    chunk = jax.jit(trainer.chunk, donate_argnums=0)
    learning, before = [], int(state.env_steps)
    for _ in range(repeats + 1):
        started = time.perf_counter()
        state, _ = chunk(state, hyperparameters)
        taken = int(state.env_steps)
        learning.append((taken - before) / (time.perf_counter() - started))
        before = taken
    return {
        "environment": config.env.name,
        "parallel": num_envs,
        "random_return": float(np.mean(returns)),
        "random_steps_per_s": float(np.median(rates[1:])),
        "learning_steps_per_s": float(np.median(learning[1:])),
    }


def main(
    argv: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    options: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Measures, prints and, if asked to, writes a record."""
    options = options or {name: {} for name in ENVIRONMENTS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="+", default=list(options), choices=list(options))
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.exists():
        parser.error(f"--out is '{arguments.out}', which exists; allowed: a new file")
    if min(*arguments.parallel, arguments.repeats) < 1:
        parser.error("--parallel and --repeats; allowed: whole numbers of at least 1")
    plain = overrides or CONFIG
    rows = []
    for name in arguments.environments:
        for num_envs in arguments.parallel:
            size = {"num_envs": num_envs, "replay_size": max(64, num_envs)}
            config = from_dict(
                plain
                | {
                    "env": {"name": name, "options": options[name]},
                    "training": plain["training"] | size,
                }
            )
            rows.append(measure(config, num_envs, arguments.repeats))
            print(rows[-1], flush=True)
    table = Table(*rows[0])
    for row in rows:
        mean, *rates = (value for value in row.values() if isinstance(value, float))
        table.add_row(
            row["environment"], str(row["parallel"]), f"{mean:.3f}", *(f"{x:,.0f}" for x in rates)
        )
    Console().print(table)
    if arguments.out is not None:
        record = {"machine": describe_machine(), "rows": rows}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
