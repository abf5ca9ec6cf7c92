"""Where the time of a round of training goes: acting, storing, the gradient step, z, test episodes.

    python benchmarks/breakdown.py --configs qmix maven smax_3m --seeds 20 --out breakdown.json

Each part is compiled alone, for all seeds and all devices, and given the same state; parts take
turns, and medians are reported, in milliseconds a round and seed. An evaluation counts with its
share of a round. `whole` is the round compiled in one piece, as training runs it, so that what
the parts take together is more: each is sent to the devices on its own.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax

from maven_jax.cli.devices import show_every_core

if __name__ == "__main__":
    show_every_core()

import jax.numpy as jnp
import numpy as np
from configurations import add_configs, read_configs
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import Config, make_trainer
from maven_jax.config import Hyperparameters
from maven_jax.environments.registry import make_env
from maven_jax.episodes import as_floats, swap_time_and_batch
from maven_jax.experiments.sweep import (
    make_mesh,
    over_lanes,
    place_lanes,
    seed_keys,
    spread,
    update_lanes,
)
from maven_jax.learning.learner import loss
from maven_jax.training.budget import rounds_per_chunk, updates_per_round
from maven_jax.training.evaluation import evaluate
from maven_jax.training.rounds import (
    Collected,
    Parts,
    collect,
    gradient_step,
    latent_steps,
    make_parts,
    play_round,
    store,
)
from maven_jax.types import ScalarKey, TrainState

PARTS = "acting", "storing", "gradient step", "latent steps", "evaluation"
LOSS = "of gradient steps the loss"
Timed = Callable[[TrainState, ScalarKey, Collected | None, Hyperparameters], tuple[TrainState, Any]]
"""A part of a round, of one seed: the state after it, and what else it computes; acting is given
nothing that was collected."""


def timed_parts(parts: Parts) -> dict[str, tuple[Timed, float]]:
    """Each part of a round, and how often a round runs it."""
    config, algorithm = parts.config, parts.algorithm
    updates = updates_per_round(config.training)
    going = jnp.array(False)

    def forward(state, key, collected, numbers):
        sampled = parts.replay.sample(state.replay, key).experience
        batch = as_floats(swap_time_and_batch(sampled), algorithm.latent.size)
        of = state.params, state.target_params, state.latent_params, batch, numbers
        return state, loss(*of, algorithm, config, state.moments, state.target_moments)[0]

    def test_episodes(state, key, collected, numbers):
        weights = state.params, state.latent_params
        rest = numbers.temperature, parts.env, algorithm, config
        return state, evaluate(*weights, key, *rest)

    timed: dict[str, tuple[Timed, float]] = {
        "acting": (lambda state, key, _, h: (state, collect(parts, state, key, h)), 1),
        "storing": (lambda state, _, collected, h: (store(parts, state, collected, going), ()), 1),
        "gradient step": (lambda state, key, _, h: gradient_step(parts, state, key, h), updates),
        LOSS: (forward, updates),
        "evaluation": (test_episodes, 1 / rounds_per_chunk(config.training)),
        "whole": (lambda state, _, __, h: play_round(parts, state, h, going), 1),
    }
    if parts.latent_replay is not None:
        timed["latent steps"] = (
            lambda state, key, _, h: (latent_steps(parts, state, key, h), ()),
            updates,
        )
    return timed


def measure(config: Config, num_seeds: int, turns: int) -> dict[str, float]:
    """Milliseconds of each part, a round and seed."""
    env = make_env(config)
    parts, mesh = make_parts(config, env), make_mesh(num_seeds)
    keys, numbers = seed_keys(0, num_seeds), spread(config.hyperparameters, num_seeds)
    keys, numbers = place_lanes((keys, numbers), mesh)
    trainer = make_trainer(config, env)
    state = jax.jit(over_lanes(trainer.init, mesh, num_seeds))(keys, numbers)
    timed = timed_parts(parts)
    programs = {
        name: jax.jit(update_lanes(part, mesh, num_seeds), donate_argnums=0)
        for name, (part, _) in timed.items()
    }
    state, (collected, _) = programs["acting"](state, keys, None, numbers)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(turns + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            given = None if name == "acting" else collected
            state, computed = jax.block_until_ready(program(state, keys, given, numbers))
            seconds[name].append(time.perf_counter() - started)
            del computed
    return {
        name: 1e3 * times * float(np.median(seconds[name][1:])) / num_seeds
        for name, (_, times) in timed.items()
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Milliseconds, and shares of what the parts take together; a configuration a column."""
    table = Table("ms a round and seed", *(f"{row['config']}, {row['seeds']}" for row in rows))
    for part in (*PARTS, LOSS, "together", "whole"):
        table.add_row(part, *(_cell(row, part) for row in rows))
    Console().print(table)


def _cell(row: dict[str, Any], part: str) -> str:
    return f"{row[part]:.3g} ({row[part] / row['together']:.0%})" if part in row else "-"


def main(argv: list[str] | None = None, configs: dict[str, Config] | None = None) -> None:
    """Measures, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[20])
    add_configs(parser)
    parser.add_argument("--turns", type=int, default=20, help="timed runs of each part")
    add_out(parser)
    arguments = parser.parse_args(argv)
    if min(*arguments.seeds, arguments.turns) < 1:
        parser.error("--seeds and --turns; allowed: whole numbers of at least 1")
    configs = configs or read_configs(parser, arguments.configs)
    rows = []
    for name, config in configs.items():
        for num_seeds in arguments.seeds:
            row = measure(config, num_seeds, arguments.turns)
            together = sum(row[part] for part in PARTS if part in row)
            rows.append({"config": name, "seeds": num_seeds} | row | {"together": together})
    print_table(rows)
    write_record(arguments.out, rows=rows)


if __name__ == "__main__":
    main()
