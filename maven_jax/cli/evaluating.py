"""Commands that play test episodes: `evaluate`, and `convert` for the published weights."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console

from maven_jax.acting.rollout import env_spec
from maven_jax.cli.shared import print_line, say
from maven_jax.config import EnvConfig
from maven_jax.environments.registry import complete, make_env
from maven_jax.errors import ConfigError, check
from maven_jax.examples import example_path
from maven_jax.experiments.evaluating import evaluation_key, play_behaviour
from maven_jax.experiments.grid import lanes_from_columns, make_lanes
from maven_jax.experiments.new_folder import refuse_existing
from maven_jax.experiments.run import load_run
from maven_jax.experiments.trained import load_trained, play_tests, with_episodes
from maven_jax.pymarl.files import read_folder, write_run
from maven_jax.reports.marl_eval import task_name
from maven_jax.reports.plots import check_picture, draw_behaviour
from maven_jax.reports.render import check_gif, record_episode, write_gif
from maven_jax.reports.tables import evaluation_table
from maven_jax.training.train import make_trainer
from maven_jax.validation.files import load_config


@dataclass(frozen=True)
class Evaluate:
    """Arguments of `maven-jax evaluate`."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder of a run. It comes first if options of --env are given."""
    example: str | None = None
    """Name of a trained run that comes with the package, in the place of RUN."""
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
    env: tyro.conf.AvoidSubcommands[EnvConfig | None] = None
    """The environment to play in, of the same sizes. Default: the run's own."""

    @property
    def folder(self) -> Path:
        """That of the run.

        Raises:
            ConfigError: not one of RUN and --example is given, or no example has the name.
        """
        if self.example is None and self.run is not None:
            return self.run
        if self.example is None or self.run is not None:
            raise ConfigError("evaluate needs either RUN, the folder of a run, or --example NAME")
        return example_path(self.example)


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
    run = load_run(command.folder)
    config = with_episodes(run.config, episodes, seed)
    lane = command.lane or 0
    check(0 <= lane < run.num_lanes, "lane", lane, f"a whole number from 0 to {run.num_lanes - 1}")
    if command.lane is not None and command.render is None and command.behaviour is None:
        raise ConfigError(f"lane is {command.lane}; --lane needs --render or --behaviour")
    other = None
    if command.env is not None:
        config = dataclasses.replace(config, env=command.env)
        other = make_env(config)
    env, algorithm, params, latent_params = load_trained(run, other, say=say)
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
        title = f"greedy episodes of each z: {run.path}, lane {lane}"
        draw_behaviour(seen, command.behaviour, title)
        written.append(f"picture: {command.behaviour}")
    where = "" if other is None else f"{config.env.name}, {task_name(config)}"
    console.print(evaluation_table(run, metrics, episodes, where))  # once all files are written
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
