"""Commands that play test episodes: `evaluate`, and `convert` for the published weights."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console

from maven_jax.acting.rollout import env_spec
from maven_jax.algorithms.table import make_algorithm
from maven_jax.cli.shared import play_tests, print_line, say
from maven_jax.environments.registry import complete, make_env
from maven_jax.errors import ConfigError, check
from maven_jax.experiments.evaluating import evaluation_key, play_behaviour, trained_weights
from maven_jax.experiments.grid import lanes_from_columns, make_lanes
from maven_jax.experiments.new_folder import refuse_existing
from maven_jax.experiments.provenance import env_of_run
from maven_jax.experiments.run import load_run
from maven_jax.pymarl.files import read_folder, write_run
from maven_jax.reports.plots import check_picture, draw_behaviour
from maven_jax.reports.render import check_gif, record_episode, write_gif
from maven_jax.reports.tables import evaluation_table
from maven_jax.training.train import make_trainer
from maven_jax.validation.files import load_config


@dataclass(frozen=True)
class Evaluate:
    """Arguments of `maven-jax evaluate`."""

    run: tyro.conf.Positional[Path]
    """Folder of a run."""
    episodes: int = 256
    """Test episodes with z from the latent policy, for each seed."""
    seed: int = 0
    """Seed of the test episodes."""
    lane: int | None = None
    """The lane (one seed, or one seed and point of a grid), counted from 0, that --render and
    --behaviour show. Default: 0."""
    render: Path | None = None
    """GIF to write of one greedy episode."""
    behaviour: Path | None = None
    """Picture to write of what each z does: its return, and the agents' actions."""


@dataclass(frozen=True)
class Convert:
    """Arguments of `maven-jax convert`."""

    folder: tyro.conf.Positional[Path]
    """Folder of agent.th, mixer.th, ez_bandit_policy.th or the like; or of .npz files so named."""
    config: str
    """The run's configuration: a YAML file, or the name of a packaged one."""
    out: Path
    """Folder to make for the run."""
    fresh_discriminator: bool = False
    """Initialise the discriminator at random, since the published code does not save it. J_V is
    meaningless then."""


def evaluate_run(command: Evaluate, console: Console) -> None:
    """`maven-jax evaluate RUN`."""
    episodes, seed = command.episodes, command.seed
    check(1 <= episodes <= 10**5, "episodes", episodes, "a whole number from 1 to 100000")
    check(0 <= seed < 2**31, "seed", seed, "a whole number from 0 to 2**31 - 1")
    run = load_run(command.run)
    lane = command.lane or 0
    check(0 <= lane < run.num_lanes, "lane", lane, f"a whole number from 0 to {run.num_lanes - 1}")
    if command.lane is not None and command.render is None and command.behaviour is None:
        raise ConfigError(f"lane is {command.lane}; --lane needs --render or --behaviour")
    evaluation = dataclasses.replace(run.config.evaluation, episodes=episodes)
    config = dataclasses.replace(run.config, evaluation=evaluation)
    env = env_of_run(run.path, config, run.info)
    algorithm = make_algorithm(config, env_spec(env))
    if command.render is not None:
        refuse_existing("GIF", command.render)
        check_gif(env, command.render)
    if command.behaviour is not None:
        refuse_existing("picture", command.behaviour)
        check_picture("behaviour", command.behaviour)
        if not algorithm.latent.size:
            raise ConfigError(
                f"--behaviour shows what each z does, and {config.algorithm} has no z; use a run "
                "of MAVEN"
            )
    params, latent_params = trained_weights(run, env, say)
    lanes = lanes_from_columns(run.lanes, config.hyperparameters)
    metrics = play_tests(params, latent_params, seed, lanes, config, env)
    params, latent_params = jax.tree.map(lambda x: x[lane], (params, latent_params))
    written = []
    if command.render is not None:
        key = evaluation_key(seed, "render")
        write_gif(env, record_episode(env, algorithm, params, latent_params, key), command.render)
        written.append(f"GIF: {command.render}")
    if command.behaviour is not None:
        key = evaluation_key(seed, "behaviour")
        seen = play_behaviour(params, latent_params, key, env, algorithm, config, starts=64)
        title = f"greedy episodes of each z: {command.run}, lane {lane}"
        draw_behaviour(seen, command.behaviour, title)
        written.append(f"picture: {command.behaviour}")
    console.print(evaluation_table(run, metrics, episodes))  # once all files are written
    for line in written:
        print_line(console, line)


def convert(command: Convert, console: Console) -> None:
    """`maven-jax convert FOLDER --config CONFIG --out RUN`."""
    config = complete(load_config(command.config))
    env = make_env(config)
    make_trainer(config, env)  # checks what `evaluate` will
    refuse_existing("output folder", command.out)
    fresh = command.fresh_discriminator
    weights = read_folder(command.folder, config, env_spec(env), fresh_discriminator=fresh)
    params, latent_params = jax.tree.map(lambda x: np.asarray(x)[None], weights)
    lanes = make_lanes(config.hyperparameters, [0])
    metrics = play_tests(params, latent_params, 0, lanes, config, env)
    write_run(command.out, config, command.folder, params, latent_params, metrics)
    console.print(evaluation_table(load_run(command.out), metrics, config.evaluation.episodes))
    if fresh and "mi_bound_test" in metrics:
        console.print("The discriminator is untrained: J_V is meaningless.")
    print_line(console, f"run: {command.out}/")
