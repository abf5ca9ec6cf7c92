"""QMIX of JaxMARL and of this package in turn: seconds of a learning round, and learning curves.

    python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m mpe_spread --seeds 1 4
    python benchmarks/against_jaxmarl.py --jaxmarl CHECKOUT --tasks smax_3m --learn 300000 --seeds 3

CHECKOUT is a clone of github.com/FLAIROx/JaxMARL, whose `baselines/QLearning/qmix_rnn.py` is run as
it stands. Timed are rounds of the same environment, environments, steps, replayed batch, gradient
steps and hidden sizes: the difference of two lengths of JaxMARL's whole run, which is one program,
and as many rounds of ours, both for all seeds at once. With `--learn` each seed trains alone: first
JaxMARL's, by its own configuration but for the sizes, then ours, by the packaged one.
"""

import argparse
import copy
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import jax

from maven_jax.__main__ import show_every_core

if __name__ == "__main__":
    show_every_core()

import jax.numpy as jnp
import numpy as np
import yaml
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import (
    Config,
    compile_sweep,
    from_dict,
    load_config,
    make_trainer,
    override,
    run_sweep,
    seed_keys,
)
from maven_jax.config import Hyperparameters
from maven_jax.environments import make_env
from maven_jax.rounds import make_parts, play_round
from maven_jax.runs.sweep import make_mesh, over_lanes, place_lanes, spread
from maven_jax.types import TrainState

BASELINE = Path("baselines/QLearning")
SIZES = {"HIDDEN_SIZE": 64, "MIXER_EMBEDDING_DIM": 32, "MIXER_HYPERNET_HIDDEN_DIM": 64}
"""What two cores bear, and what this package's networks have; its hypernetworks have one layer."""


class Task(NamedTuple):
    """An environment as each of the two has it."""

    file: str
    """JaxMARL's configuration."""
    theirs: dict[str, Any]
    """What is changed in it."""
    ours: dict[str, Any]
    """A configuration of the same sizes."""
    packaged: str | None
    """Our configuration to learn by; None for that of the same sizes."""
    scores: tuple[str, str]
    """What a test is judged by, by its name there and here."""


TASKS = {
    "smax_3m": Task(
        "ql_rnn_smax.yaml",
        {"MAP_NAME": "3m"},
        {
            "env": {"name": "smax", "options": {"scenario": "3m", "time_limit": 100}},
            "training": {"num_envs": 16, "row_slots": 128, "updates_per_round": 8},
        },
        "smax_3m",
        ("test_returned_won_episode", "win_rate"),
    ),
    "mpe_spread": Task(
        "ql_rnn_mpe.yaml",
        {},
        {
            "env": {"name": "mpe_spread", "options": {"time_limit": 25}},
            "training": {"num_envs": 8, "updates_per_round": 1},
        },
        None,
        ("test_returned_episode_returns", "return"),
    ),
}


def our_config(task: Task) -> Config:
    """Of the same sizes as JaxMARL's."""
    same = {"algorithm": "qmix", "network": {"hidden_size": 64, "mixer_embed_size": 32}}
    config = override(from_dict(same), task.ours)
    endless = {"total_env_steps": 10**8, "batch_size": 32, "updates_per_evaluation": 8}
    return override(config, {"training": endless})


class Baseline(NamedTuple):
    """JaxMARL's QMIX."""

    module: ModuleType
    checkout: Path
    logged: list[tuple[float, dict[str, float]]]
    """What it has logged: when, and each value by its name."""

    def config(self, task: Task, **changes: Any) -> dict[str, Any]:
        """Its own configuration of a task, with the sizes and other changes."""
        text = (self.checkout / BASELINE / "config" / "alg" / task.file).read_text()
        own = yaml.safe_load(text)
        own["TOTAL_TIMESTEPS"] = int(float(own["TOTAL_TIMESTEPS"]))  # YAML reads 1e7 as a text
        return own | SIZES | {"WANDB_MODE": "disabled"} | task.theirs | changes

    def train(self, config: dict[str, Any]) -> Callable[[jax.Array], Any]:
        """A whole run, from its key."""
        env, _ = self.module.env_from_config(copy.deepcopy(config))
        return self.module.make_train(config, env)


def load_baseline(checkout: Path) -> Baseline:
    """JaxMARL's script as a module; what its command line needs beside JAX is stood in for.

    Raises:
        FileNotFoundError: there is none in the folder.
    """
    script = checkout / BASELINE / "qmix_rnn.py"
    if not script.is_file():
        raise FileNotFoundError(f"'{checkout}' has no {BASELINE / 'qmix_rnn.py'}")
    logged: list[tuple[float, dict[str, float]]] = []

    def log(values: dict[str, Any], **_: Any) -> None:
        logged.append((time.perf_counter(), {name: float(x) for name, x in values.items()}))

    hydra, omegaconf, wandb = (ModuleType(name) for name in ("hydra", "omegaconf", "wandb"))
    hydra.__dict__["main"] = lambda *_, **__: lambda function: function
    omegaconf.__dict__["OmegaConf"] = None
    wandb.__dict__["log"] = log
    spec = importlib.util.spec_from_file_location("jaxmarl_qmix", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    stand_ins = {"hydra": hydra, "omegaconf": omegaconf, "wandb": wandb}
    with patch.dict(sys.modules, stand_ins):
        spec.loader.exec_module(module)
    return Baseline(module, checkout, logged)


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
    state = jax.jit(over_lanes(trainer.init, mesh))(keys, numbers)

    def play(state: TrainState, numbers: Hyperparameters) -> TrainState:
        def body(state: TrainState, _: None) -> tuple[TrainState, None]:
            return play_round(parts, state, numbers, jnp.array(False))[0], None

        return jax.lax.scan(body, state, length=rounds)[0]

    started = time.perf_counter()
    lowered = jax.jit(over_lanes(play, mesh), donate_argnums=0).lower(state, numbers)
    compiled = lowered.compile()
    return lambda state: compiled(state, numbers), state, time.perf_counter() - started


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
    config = load_config(task.packaged) if task.packaged else our_config(task)
    config = override(config, {"algorithm": "qmix", "training": {"total_env_steps": steps}})
    sweep = compile_sweep(make_trainer(config, make_env(config)), 1)
    started = time.perf_counter()
    points = []
    for chunk in run_sweep(sweep, seed_keys(seed, 1), config.hyperparameters):
        row = {name: float(chunk.metrics[name][0]) for name in ("env_steps", task.scores[1])}
        seconds = time.perf_counter() - started
        points.append(Point(seconds, int(row["env_steps"]), row[task.scores[1]]))
    return points


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
    add_out(parser)
    arguments = parser.parse_args(argv)
    numbers = (*arguments.seeds, arguments.rounds, arguments.turns, arguments.learn)
    if min(x for x in numbers if x is not None) < 1:
        parser.error("--seeds, --rounds, --turns, --learn; allowed: whole numbers of at least 1")
    try:
        baseline = load_baseline(arguments.jaxmarl)
    except (FileNotFoundError, ImportError) as error:
        parser.error(f"--jaxmarl: {error}; allowed: a clone of JaxMARL, with JaxMARL installed")
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for name in arguments.tasks:
        task = tasks[name]
        if arguments.learn is None:
            for num_seeds in arguments.seeds:
                measured = time_rounds(baseline, task, num_seeds, arguments.rounds, arguments.turns)
                rows.append({"task": name, "seeds": num_seeds} | measured)
            continue
        for seed in range(max(arguments.seeds)):
            theirs = learn_theirs(baseline, task, seed, arguments.learn)
            for of, points in (
                ("jaxmarl", theirs),
                ("ours", learn_ours(task, seed, arguments.learn)),
            ):
                curves.append({"task": name, "of": of, "seed": seed, "points": points})
                rows.append({"task": name, "of": of, "seed": seed} | points[-1]._asdict())
    print_table(rows)
    write_record(arguments.out, rows=rows, **({"curves": curves} if curves else {}))


if __name__ == "__main__":
    main()
