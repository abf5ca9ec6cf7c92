"""What commands of several groups need."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

from maven_jax.acting.rollout import env_spec
from maven_jax.algorithms.table import make_algorithm
from maven_jax.config import Config
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.console import log_to, plain_console
from maven_jax.experiments.evaluating import evaluate_lanes, evaluation_key
from maven_jax.experiments.grid import Lanes
from maven_jax.experiments.options import Options
from maven_jax.experiments.sweep import spread
from maven_jax.reports.plots import draw_curves
from maven_jax.studies.report import report_lines, report_or_say, write_report
from maven_jax.types import MarlEnv, NetworkParams, Params

Overrides = Annotated[str | None, tyro.conf.arg(name="config")]
"""The type of `--config`."""


def say(line: str) -> None:
    """A line beside the results, on standard error."""
    log_to(plain_console(stderr=True))(line)


def options_of(
    tensorboard: bool, checkpoint: Checkpointing, remarks: Sequence[str] = ()
) -> Options:
    """What a command that trains leaves and says beside its results."""
    return Options(
        tensorboard,
        checkpoint,
        remarks=remarks,
        draw=draw_curves,
        report=lambda path: report_or_say(path, say),
    )


def play_tests(
    params: Params,
    latent_params: NetworkParams,
    seed: int,
    lanes: Lanes,
    config: Config,
    env: MarlEnv,
) -> dict[str, np.ndarray]:
    """`evaluate` of the weights of every lane."""
    algorithm = make_algorithm(config, env_spec(env))
    num_lanes = len(lanes.seeds)
    temperatures = np.asarray(spread(lanes.hyperparameters, num_lanes).temperature)
    keys = jax.random.split(evaluation_key(seed, "table"), num_lanes)
    return evaluate_lanes(params, latent_params, keys, temperatures, env, algorithm, config)


def show_report(out: Path, console: Console) -> None:
    """Writes a study's report and prints it."""
    for line in report_lines(write_report(out)):
        console.print(line, highlight=False, soft_wrap=isinstance(line, str))
