"""How much `accelerator.py` measures."""

from typing import NamedTuple

from maven_jax import Config, load_config, override
from maven_jax.studies.study import Study, load_study


class Sizes(NamedTuple):
    """How much is measured."""

    configs: dict[str, dict[str, Config]]
    """By part and name."""
    seeds: dict[str, tuple[int, ...]]
    """By part."""
    figure: Study
    """Figure 3."""
    jaxmarl_seeds: tuple[int, ...] = (20, 1)
    jaxmarl_rounds: tuple[int, int] = (10, 3)
    """Rounds of a piece, and pieces."""
    timed_s: float = 5.0
    """Chunks are timed until so many seconds have passed; at least two are."""


def full_sizes() -> Sizes:
    """Those of a device that is to be measured."""
    training = {"training": {"total_env_steps": 10**8}}
    matrix = {name: override(load_config(name), training) for name in ("qmix", "maven")}
    smax = override(load_config("smax_3m"), training)
    smaxes = {"qmix": smax, "maven": override(smax, {"algorithm": "maven"})}
    seeds = 20, 200, 2000, 1
    configs = {"matrix": matrix, "smax": smaxes}
    return Sizes(configs, dict.fromkeys(configs, seeds), load_study("figure3"))


def small_sizes() -> Sizes:
    """Those by which the script is tried."""
    few = {"num_envs": 2, "row_slots": 104, "updates_per_evaluation": 1, "batch_size": 2}
    changes = {
        "matrix": {"training": {"updates_per_evaluation": 10}},
        "smax": {
            "network": {"hidden_size": 16},
            "training": few | {"env_steps_per_update": 200},
            "evaluation": {"episodes": 2},
        },
    }
    configs = {
        part: {name: override(config, changes[part]) for name, config in own.items()}
        for part, own in full_sizes().configs.items()
    }
    figure = load_study("figure3").with_seeds(0, 2).with_steps(2000)
    return Sizes(configs, {"matrix": (4, 2, 1), "smax": (2, 1)}, figure, (2, 1), (2, 1), 0.0)
