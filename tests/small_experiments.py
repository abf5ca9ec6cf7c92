"""Small experiments, and what the command line says, for several test modules.

Apart from `helpers`, which is imported before JAX has its devices and the shapes are checked.
"""

import json
from pathlib import Path

import chex
import yaml

from maven_jax.cli.main import run
from maven_jax.config import Config, from_dict, to_dict
from maven_jax.experiments.folder import checkpoint_files
from maven_jax.experiments.grid import Lanes, Part
from maven_jax.experiments.plan import Plan, train_plan
from maven_jax.experiments.run import Run
from maven_jax.experiments.weights import read_weights
from maven_jax.types import MarlEnv

SMALL = """
algorithm: {algorithm}
env: {{options: {{m: 3}}}}
network: {{hidden_size: 8, mixer_embed_size: 4}}
latent: {{size: 3, hidden_size: 8, updates: 2, batch_size: 4}}
discriminator: {{hidden_size: 4, hidden_layers: 1, recurrent_size: 4}}
training: {{total_env_steps: 60, batch_size: 4, replay_size: 16, updates_per_evaluation: 5}}
evaluation: {{episodes: 4, episodes_per_latent: 1}}
"""
"""The file of an experiment of a second, of an `algorithm`."""


def read_info(path: Path) -> dict:
    """What `run.json` of a run's folder says."""
    return json.loads((path / "run.json").read_text())


def edit_info(path: Path, without: str = "", **entries) -> None:
    """Changes `run.json` of a run's folder: other entries, and one fewer."""
    info = read_info(path) | entries
    info.pop(without, None)
    (path / "run.json").write_text(json.dumps(info))


def forget_config(path: Path) -> None:
    """Removes the record of `config.yaml` from a run's folder, so that another one is accepted."""
    edit_info(path, without="config_yaml")


def stop_after(path: Path, chunks: int) -> None:
    """Makes a finished run's folder one whose process was killed after so many evaluations."""
    for file in checkpoint_files(path):
        if int(file.stem) > chunks:
            file.unlink()
    (path / "weights.npz").unlink()
    edit_info(path, without="metrics_csv", status="running", keep_final=False)


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a folder, apart from locks."""
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"}


def assert_same_results(one: Path, other: Path) -> None:
    """The metrics of two runs are the same bytes and their weights the same bits."""
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    chex.assert_trees_all_equal(read_weights(one).arrays, read_weights(other).arrays)


def refused(capsys, *arguments) -> str:
    """The one line that a refused command prints."""
    assert run([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("maven-jax: error: ").rstrip("\n")


def small_config(algorithm: str, **training) -> Config:
    """`SMALL` in games of ten steps, with other values of `training` as they are given."""
    plain = yaml.safe_load(SMALL.format(algorithm=algorithm))
    del plain["env"]
    plain["training"] |= {"target_update_interval": 7} | training
    plain["evaluation"]["episodes_per_latent"] = 2
    plain["hyperparameters"] = {"epsilon_steps": 20, "mi_weight": 0.1}
    return from_dict(plain)


def train_run(
    config: Config, env: MarlEnv, path: Path, lanes: Lanes, options=None, origin=None
) -> Run:
    """Trains a plan of one part."""
    plan = Plan((Part("", config, lanes, {}),), origin=origin)
    (run,) = train_plan(plan, path, options, lambda _: env)
    return run


FORMS = [
    *({"algorithm": n} for n in ("iql", "vdn", "qmix_unconstrained", "qtran", "maven")),
    {
        "algorithm": "maven_iql",
        "latent": {"kind": "gaussian"},
        "discriminator": {"kind": "feed_forward", "reads": "taken_actions", "signal": "reward"},
    },
    {
        "algorithm": "maven_vdn",
        "latent": {"kind": "logistic"},
        "discriminator": {"kind": "feed_forward", "reads": "greedy_actions"},
        "training": {"optimizer": "adam"},
    },
    {
        "algorithm": "maven_unconstrained",
        "latent": {"kind": "bandit", "bandit_epsilon": 0.5},
        "exploration": {"kind": "boltzmann"},
        "training": {"normalize_targets": True},
    },
    {
        "latent": {"kind": "uniform"},
        "discriminator": {"reads": "taken_actions", "signal": "reward"},
        "exploration": {"kind": "team_epsilon_greedy"},
        "network": {"latent_head": "paired", "layer_norm": True},
    },
    {"algorithm": "maven_qtran", "latent": {"kind": "gaussian"}, "fidelity": "reference"},
    {"algorithm": "qmix", "training": {"optimizer": "radam"}},
]
"""Every algorithm, and each kind of latent, discriminator and so on, once.

Parts do not know of each other, so several are tried in one program.
"""


def form_config(form: dict, **training) -> Config:
    """`small_config` of MAVEN, with a form's values in place of its own."""
    plain = to_dict(small_config("maven", **training))
    for section, values in form.items():
        plain[section] = plain[section] | values if isinstance(values, dict) else values
    return from_dict(plain)
