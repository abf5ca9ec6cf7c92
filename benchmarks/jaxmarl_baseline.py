"""JaxMARL's own QMIX from a clone, and its tasks as this package has them."""

import argparse
import copy
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import jax
import yaml

from maven_jax import Config, from_dict, load_config, override

BASELINE = Path("baselines/QLearning")
SIZES = {
    "HIDDEN_SIZE": 64,
    "MIXER_EMBEDDING_DIM": 32,
    "MIXER_HYPERNET_HIDDEN_DIM": 64,
    "TEST_NUM_ENVS": 64,
}
"""What two cores bear; ours are the same."""


class Task(NamedTuple):
    """An environment as each of the two has it."""

    file: str
    """JaxMARL's configuration."""
    theirs: dict[str, Any]
    """What is changed in it."""
    ours: dict[str, Any]
    """A configuration of the same sizes."""
    packaged: str
    """Our configuration to learn by."""
    scores: tuple[str, str]
    """What a test is judged by, by its name there and here."""

    def at_rate(self, rate: float | None) -> "Task":
        """With a learning rate of JaxMARL's; None for its configuration's own."""
        return self if rate is None else self._replace(theirs=self.theirs | {"LR": rate})


TASKS = {
    "smax_3m": Task(
        "ql_rnn_smax.yaml",
        {"MAP_NAME": "3m"},
        {
            "env": {"name": "smax", "options": {"scenario": "3m", "time_limit": 100}},
            "training": {"num_envs": 16, "row_slots": 128, "updates_per_round": 8},
        },
        "smax_3m",
        ("test_returned_won_episode", "extras/win_rate"),
    ),
    "mpe_spread": Task(
        "ql_rnn_mpe.yaml",
        {},
        {
            "env": {"name": "mpe_spread", "options": {"time_limit": 25}},
            "training": {"num_envs": 8, "updates_per_round": 1},
        },
        "spread",
        ("test_returned_episode_returns", "return"),
    ),
}


def our_config(task: Task) -> Config:
    """To time rounds by: of the same sizes as JaxMARL's, with its optimiser."""
    network = {
        "hidden_size": SIZES["HIDDEN_SIZE"],
        "mixer_embed_size": SIZES["MIXER_EMBEDDING_DIM"],
        "mixer_hypernet_size": SIZES["MIXER_HYPERNET_HIDDEN_DIM"],
    }
    config = override(from_dict({"algorithm": "qmix", "network": network}), task.ours)
    endless = {"total_env_steps": 10**8, "batch_size": 32, "updates_per_evaluation": 8}
    return override(config, {"training": endless | {"optimizer": "radam"}})


def learnt_config(task: Task, steps: int) -> Config:
    """To learn by: our packaged configuration, with agents of JaxMARL's size."""
    network = {"hidden_size": SIZES["HIDDEN_SIZE"], "layer_norm": False}
    changes = {"algorithm": "qmix", "network": network, "training": {"total_env_steps": steps}}
    return override(load_config(task.packaged), changes)


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


def read_baseline(parser: argparse.ArgumentParser, checkout: Path) -> Baseline:
    """`load_baseline`; a folder that is no clone ends the script in a line."""
    try:
        return load_baseline(checkout)
    except (FileNotFoundError, ImportError) as error:
        parser.error(f"--jaxmarl: {error}; allowed: a clone of JaxMARL, with JaxMARL installed")


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
