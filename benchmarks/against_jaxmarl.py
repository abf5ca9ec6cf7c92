"""QMIX of JaxMARL and of this package in turn: seconds of a learning round, and learning curves.

    python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m mpe_spread --seeds 1 4
    python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m --learn 300000 --seeds 3

CHECKOUT is a clone of github.com/FLAIROx/JaxMARL, whose `baselines/QLearning/qmix_rnn.py` is run as
it stands. Timed are rounds of the same environment, environments, steps, replayed batch, gradient
steps and hidden sizes: the difference of two lengths of JaxMARL's whole run, which is one program,
and as many rounds of ours, both for all seeds at once. With `--learn` each seed trains alone: first
JaxMARL's, by its own configuration but for the sizes (and its learning rate, where `--rate` names
another), then ours, by the packaged one with agents of the same size.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from maven_jax.cli.devices import show_every_core

if __name__ == "__main__":
    show_every_core()

import jax.numpy as jnp
import numpy as np
from jaxmarl_baseline import TASKS, Baseline, Task, learnt_config, our_config, read_baseline
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import (
    Config,
    compile_sweep,
    make_trainer,
    run_sweep,
    seed_keys,
)
from maven_jax.config import Hyperparameters
from maven_jax.environments.registry import make_env
from maven_jax.experiments.sweep import make_mesh, over_lanes, place_lanes, spread, update_lanes
from maven_jax.training.rounds import make_parts, play_round
from maven_jax.types import TrainState


def seconds_of(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """How long a call takes until its results are there, and they."""
    started = time.perf_counter()
    results = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - started, results


def compile_theirs(
    baseline: Baseline, task: Task, num_seeds: int, rounds: int
) -> tuple[list[Callable[[], Any]], float]:
    """Two lengths of its run, `rounds` apart, once learning has begun; seconds to compile one."""
    config = baseline.config(task, TEST_DURING_TRAINING=False, LEARNING_STARTS=0)
    first = config["BUFFER_BATCH_SIZE"] + 1  # it learns once it has so many rounds
    programs, seconds = [], 0.0
    keys = jax.random.split(jax.random.PRNGKey(0), num_seeds)
    for length in (first, first + rounds):
        steps = length * config["NUM_STEPS"] * config["NUM_ENVS"]
        train = baseline.train(config | {"TOTAL_TIMESTEPS": steps})
        started = time.perf_counter()
        compiled = jax.jit(jax.vmap(train)).lower(keys).compile()
        seconds = time.perf_counter() - started
        programs.append(partial(compiled, keys))
    return programs, seconds


def compile_ours(
    config: Config, num_seeds: int, rounds: int
) -> tuple[Callable[[TrainState], TrainState], TrainState, float]:
    """Rounds of ours, a state to begin with, and seconds to compile."""
    env, mesh = make_env(config), make_mesh(num_seeds)
    parts, trainer = make_parts(config, env), make_trainer(config, env)
    lanes = seed_keys(0, num_seeds), spread(config.hyperparameters, num_seeds)
    keys, numbers = place_lanes(lanes, mesh)
    state = jax.jit(over_lanes(trainer.init, mesh, num_seeds))(keys, numbers)

    def play(state: TrainState, numbers: Hyperparameters) -> tuple[TrainState, None]:
        def body(state: TrainState, _: None) -> tuple[TrainState, None]:
            return play_round(parts, state, numbers, jnp.array(False))[0], None

        return jax.lax.scan(body, state, length=rounds)

    started = time.perf_counter()
    lowered = jax.jit(update_lanes(play, mesh, num_seeds), donate_argnums=0).lower(state, numbers)
    compiled = lowered.compile()
    return lambda state: compiled(state, numbers)[0], state, time.perf_counter() - started


def time_rounds(
    baseline: Baseline, task: Task, num_seeds: int, rounds: int, turns: int
) -> dict[str, float]:
    """Milliseconds of a learning round and seed, of the two in turn."""
    (short, long), their_compiling = compile_theirs(baseline, task, num_seeds, rounds)
    play, state, our_compiling = compile_ours(our_config(task), num_seeds, rounds)
    theirs, ours = [], []
    for turn in range(turns + 1):
        differences = seconds_of(long)[0] - seconds_of(short)[0]
        seconds, state = seconds_of(play, state)
        if turn:  # the first of each is not timed
            theirs.append(differences)
            ours.append(seconds)
    scale = 1e3 / (rounds * num_seeds)
    their_ms, our_ms = (scale * float(np.median(seconds)) for seconds in (theirs, ours))
    return {
        "jaxmarl_ms": their_ms,
        "ours_ms": our_ms,
        "ratio": our_ms / their_ms,
        "jaxmarl_compile_s": their_compiling,
        "ours_compile_s": our_compiling,
    }


class Point(NamedTuple):
    """A test of greedy play."""

    seconds: float
    """Since the first round, without compiling."""
    env_steps: int
    score: float


def learn_theirs(baseline: Baseline, task: Task, seed: int, steps: int) -> list[Point]:
    """The tests of one run of JaxMARL's."""
    config = baseline.config(task, TOTAL_TIMESTEPS=steps, WANDB_MODE="online")
    key = jax.random.PRNGKey(seed)
    compiled = jax.jit(baseline.train(config)).lower(key).compile()
    baseline.logged.clear()
    started = time.perf_counter()
    jax.block_until_ready(compiled(key))
    jax.effects_barrier()
    rounds = steps // config["NUM_STEPS"] // config["NUM_ENVS"]
    every = max(1, int(rounds * config["TEST_INTERVAL"]))
    rows = sorted(baseline.logged, key=lambda row: row[1]["env_step"])
    return [
        Point(when - started, int(values["env_step"]), values[task.scores[0]])
        for when, values in rows
        if int(values["update_steps"]) % every == 0
    ]


def learn_ours(task: Task, seed: int, steps: int) -> list[Point]:
    """The tests of one run of ours."""
    config = learnt_config(task, steps)
    sweep = compile_sweep(make_trainer(config, make_env(config)), 1)
    started = time.perf_counter()
    points = []
    for chunk in run_sweep(sweep, seed_keys(seed, 1), config.hyperparameters):
        row = {name: float(chunk.metrics[name][0]) for name in ("env_steps", task.scores[1])}
        seconds = time.perf_counter() - started
        points.append(Point(seconds, int(row["env_steps"]), row[task.scores[1]]))
    return points


def compare(theirs: list[Point], ours: list[Point]) -> dict[str, float]:
    """Two runs' scores once both are done, and when the faster of them was.

    A run's score is the mean of its last three tests.
    """
    earlier = min(theirs[-1].seconds, ours[-1].seconds)
    found = {}
    for name, points in (("jaxmarl", theirs), ("ours", ours)):
        by_then = [point for point in points if point.seconds <= earlier]
        found[f"{name}_s"] = points[-1].seconds
        found[f"{name}_score"] = last_score(points)
        found[f"{name}_by_then"] = last_score(by_then or points[:1])
    return found


def last_score(points: list[Point]) -> float:
    """The mean of the last three tests."""
    return float(np.mean([point.score for point in points[-3:]]))


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as a user reads them."""
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(x if isinstance(x, str) else f"{x:.4g}" for x in row.values()))
    Console().print(table)


def main(argv: list[str] | None = None, tasks: dict[str, Task] | None = None) -> None:
    """Measures, prints and, if asked to, writes a record."""
    tasks = TASKS if tasks is None else tasks
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jaxmarl", type=Path, required=True, help="folder of a clone of JaxMARL")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=list(tasks))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4], help="numbers of seeds")
    parser.add_argument("--rounds", type=int, default=10, help="timed in one piece")
    parser.add_argument("--turns", type=int, default=3, help="timed pieces of each")
    parser.add_argument("--learn", type=int, help="environment steps to train seeds 0, 1, ... for")
    parser.add_argument("--rate", type=float, help="JaxMARL's learning rate, if not its own")
    add_out(parser)
    arguments = parser.parse_args(argv)
    numbers = (*arguments.seeds, arguments.rounds, arguments.turns, arguments.learn)
    if min(x for x in numbers if x is not None) < 1:
        parser.error("--seeds, --rounds, --turns, --learn; allowed: whole numbers of at least 1")
    if arguments.rate is not None and not 0 < arguments.rate < 1:
        parser.error(f"--rate is {arguments.rate:g}; allowed: between 0 and 1")
    baseline = read_baseline(parser, arguments.jaxmarl)
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for name in arguments.tasks:
        task = tasks[name].at_rate(arguments.rate)
        if arguments.learn is None:
            for num_seeds in arguments.seeds:
                measured = time_rounds(baseline, task, num_seeds, arguments.rounds, arguments.turns)
                rows.append({"task": name, "seeds": num_seeds} | measured)
                write_record(arguments.out, rows=rows)
            continue
        for seed in range(max(arguments.seeds)):
            theirs = learn_theirs(baseline, task, seed, arguments.learn)
            ours = learn_ours(task, seed, arguments.learn)
            rows.append({"task": name, "seed": seed} | compare(theirs, ours))
            for of, points in (("jaxmarl", theirs), ("ours", ours)):
                curves.append({"task": name, "of": of, "seed": seed, "points": points})
            write_record(arguments.out, rows=rows, curves=curves)
    print_table(rows)


if __name__ == "__main__":
    main()
