"""The finished run whose copies are damaged, resumed and read throughout this folder."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console
from small_experiments import SMALL

from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.experiments.grid import Part, make_lanes
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import Plan, open_plan
from maven_jax.experiments.runner import continue_run
from maven_jax.experiments.sweep import Sweep, compile_sweep
from maven_jax.training.train import make_trainer
from maven_jax.types import MarlEnv
from maven_jax.validation.files import load_config


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A QMIX run of two seeds and all its checkpoints, beside its configuration, qmix.yaml."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "qmix.yaml").write_text(SMALL.format(algorithm="qmix"))
    command = ["train", f"{folder}/qmix.yaml", "--seeds", "2", "--out", f"{folder}/run"]
    kept = ["--checkpoint.updates", "1", "--checkpoint.keep", "9", "--checkpoint.keep-final"]
    assert run([*command, "--no-tensorboard", *kept]) == 0
    return folder / "run"


class Program(NamedTuple):
    """What trains the run of `trained`, compiled, and its plan and folder before it has begun."""

    sweep: Sweep
    env: MarlEnv
    plan: Plan
    fresh: Path

    def train(self, path: Path, options: Options) -> None:
        """Trains what is in a folder to its end; the folder is made if it is not there."""
        if not path.exists():
            shutil.copytree(self.fresh, path)
        continue_run(path, self.env, options, self.sweep)


@pytest.fixture(scope="session")
def program(trained, tmp_path_factory) -> Program:
    fresh = tmp_path_factory.mktemp("fresh") / "run"
    config = load_config(trained.parent / "qmix.yaml")
    plan = Plan((Part("", config, make_lanes(config.hyperparameters, [0, 1]), {}),))
    open_plan(plan, fresh, Options(console=Console(quiet=True)))
    env = make_env(config)
    return Program(compile_sweep(make_trainer(config, env), 2), env, plan, fresh)
