"""Environment steps a second: random play, and QMIX learning, in parallel environments.

    python benchmarks/environments.py --out environments.json

Steps really taken count; those computed after an episode's end, up to the time limit, do not. While
learning, a gradient step on a batch of 32 episodes follows each round of one episode in every
environment; with `--row-slots` there are as many gradient steps an environment step, on as many
steps each, by the mean length of random play. Medians of the timed calls, after one that is not
timed; return and length of random play are means of all episodes of that number of environments.

    python benchmarks/environments.py --environments smax --parallel 8 --row-slots 0 160
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from maven_jax.cli.devices import show_every_core

if __name__ == "__main__":
    show_every_core()

import jax.numpy as jnp
import numpy as np
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import Config, from_dict, make_trainer, override
from maven_jax.acting.random_play import RandomStep, random_episode
from maven_jax.environments.registry import ENVIRONMENTS, make_env
from maven_jax.training.budget import rounds_per_chunk, steps_of_row
from maven_jax.types import MarlEnv

CONFIG: dict[str, Any] = {
    "algorithm": "qmix",
    "training": {"total_env_steps": 10**8, "batch_size": 32, "updates_per_evaluation": 16},
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


class Rates(NamedTuple):
    """What was measured of learning."""

    learning_steps_per_s: float
    updates_per_step: float
    real_in_acting: float
    """Share of the computed steps that were taken."""
    real_in_updates: float
    """Share of the slots of replayed rows that hold a step."""


def measure_random(env: MarlEnv, num_envs: int, repeats: int) -> dict[str, float]:
    """Steps a second, mean length and mean return of random play."""
    random = random_play(env, num_envs)
    rates, returns, lengths = [], [], []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        steps, returned = jax.device_get(random(jax.random.key(repeat)))
        rates.append(steps.sum() / (time.perf_counter() - started))
        returns.append(returned)
        lengths.append(steps)
    return {
        "random_return": float(np.mean(returns)),
        "random_length": float(np.mean(lengths)),
        "random_steps_per_s": float(np.median(rates[1:])),
    }


def measure_learning(config: Config, repeats: int) -> Rates:
    """Environment steps a second with learning, and what they are made of."""
    env, training = make_env(config), config.training
    trainer = make_trainer(config, env)
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    state = jax.jit(trainer.init)(jax.random.key(0), hyperparameters)
    chunk = jax.jit(trainer.chunk, donate_argnums=0)
    rates, first = [], int(state.env_steps)
    before = first
    for _ in range(repeats + 1):
        started = time.perf_counter()
        state, _ = chunk(state, hyperparameters)
        taken = int(state.env_steps)
        rates.append((taken - before) / (time.perf_counter() - started))
        before = taken
    rounds = (repeats + 1) * rounds_per_chunk(training)
    computed = rounds * training.num_envs * steps_of_row(training, env.time_limit)
    ring = state.replay
    held = training.replay_size if ring.is_full else int(ring.current_index)
    slots = held * ring.experience.agents_view.shape[2]
    return Rates(
        float(np.median(rates[1:])),
        int(state.num_updates) / (before - first),
        (before - first) / computed,
        float(ring.experience.mask[0, :held].sum() / slots),
    )


def in_rows(config: Config, row_slots: int, mean_length: float) -> Config:
    """The configuration with rows of so many slots, that learns from as many steps as before.

    As many gradient steps an environment step, on as many steps each, as with episodes of a mean
    length one a row.
    """
    training = config.training
    slots = mean_length + 1
    batch_size = max(1, round(training.batch_size * slots / row_slots))
    held = max(batch_size, training.num_envs, round(training.replay_size * slots / row_slots))
    rows = {
        "row_slots": row_slots,
        "batch_size": batch_size,
        "replay_size": held,
        "updates_per_round": 1,
        "env_steps_per_update": training.num_envs * slots / training.updates_per_round,
    }
    return override(config, {"training": rows})


RUN = ("environment", "parallel")
TABLES = (
    (*RUN, "random_return", "random_length", "random_steps_per_s"),
    (*RUN, "row_slots", "learning_steps_per_s", "real_in_acting", "real_in_updates"),
)
"""The columns that are printed."""


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


def main(
    argv: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    options: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Measures, prints and, if asked to, writes a record, after every row anew."""
    options = options or {name: {} for name in ENVIRONMENTS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="+", default=list(options), choices=list(options))
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument(
        "--row-slots", type=int, nargs="+", default=[0], help="0: one episode a row"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each")
    add_out(parser)
    arguments = parser.parse_args(argv)
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
            random = measure_random(make_env(config), num_envs, arguments.repeats)
            for slots in arguments.row_slots:
                tried = in_rows(config, slots, random["random_length"]) if slots else config
                found = random | measure_learning(tried, arguments.repeats)._asdict()
                rows.append({"environment": name, "parallel": num_envs, "row_slots": slots} | found)
                print(rows[-1], flush=True)
                write_record(arguments.out, rows=rows)
    for columns in TABLES:
        table = Table()
        for column in columns:
            table.add_column(column.replace("_", " "), no_wrap=column == "environment")
        for row in rows:
            table.add_row(*(_text(row[column]) for column in columns))
        Console().print(table)


if __name__ == "__main__":
    main()
