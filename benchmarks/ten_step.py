"""Every algorithm, latent and form of the mutual information on the 10-step matrix game.

    python benchmarks/ten_step.py --seeds 8 --out runs/ten_step

Trains one variant after the other and prints a row for each: quartiles over seeds of the greedy
return at the end, seeds at the best return, seeds of which some z earns it, and medians of
I(z; joint actions) and of the bound J_V. A finished variant in the folder is read, not
run again, and an interrupted one gone on with.
"""

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax

from maven_jax.__main__ import count_cores

if __name__ == "__main__" and "JAX_NUM_CPU_DEVICES" not in os.environ:
    jax.config.update("jax_num_cpu_devices", count_cores())

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from maven_jax import Config, load_config
from maven_jax.config import override
from maven_jax.environments import complete, make_env
from maven_jax.runs.folder import load_setup
from maven_jax.runs.grid import make_lanes
from maven_jax.runs.options import Options
from maven_jax.runs.run import Run, load_run
from maven_jax.runs.runner import continue_run, train_run


class Variant(NamedTuple):
    """A packaged configuration and the sections of it that are changed."""

    base: str
    changes: dict[str, Any]

    def config(self, steps: int) -> Config:
        """The whole configuration, for so many environment steps."""
        config = override(complete(load_config(self.base)), self.changes)
        return override(config, {"training": {"total_env_steps": steps}})


VARIANTS = {
    "maven": Variant("maven", {}),
    "maven, gaussian z": Variant("maven", {"latent": {"kind": "gaussian"}}),
    "maven, logistic z": Variant("maven", {"latent": {"kind": "logistic"}}),
    "maven, uniform z": Variant("maven", {"latent": {"kind": "uniform"}}),
    "maven, bandit z": Variant("maven", {"latent": {"kind": "bandit"}}),
    "maven, q_v per step": Variant("maven", {"discriminator": {"kind": "feed_forward"}}),
    "maven, r_aux of taken actions": Variant(
        "maven",
        {
            "discriminator": {"signal": "reward", "reads": "taken_actions"},
            "hyperparameters": {"intrinsic_weight": 0.1},
        },
    ),
    "maven_iql": Variant("maven", {"algorithm": "maven_iql"}),
    "maven_vdn": Variant("maven", {"algorithm": "maven_vdn"}),
    "maven_unconstrained": Variant("maven", {"algorithm": "maven_unconstrained"}),
    "maven_qtran": Variant("maven", {"algorithm": "maven_qtran"}),
    "iql": Variant("qmix", {"algorithm": "iql"}),
    "vdn": Variant("qmix", {"algorithm": "vdn"}),
    "qmix": Variant("qmix", {}),
    "qmix_unconstrained": Variant("qmix", {"algorithm": "qmix_unconstrained"}),
    "qmix_unconstrained, penalty 1": Variant(
        "qmix",
        {"algorithm": "qmix_unconstrained", "hyperparameters": {"monotonicity_weight": 1.0}},
    ),
    "qtran": Variant("qmix", {"algorithm": "qtran"}),
    "maven_team": Variant("maven_team", {}),
    "maven_team, gaussian z": Variant("maven_team", {"latent": {"kind": "gaussian"}}),
}


def folder_name(variant: str) -> str:
    """The name of a variant as that of a folder."""
    return variant.replace(", ", "-").replace(" ", "_")


def describe(name: str, run: Run, best: float) -> list[str]:
    """The cells of a variant's row."""
    returns = run.final("return")
    low, median, high = np.percentile(returns, [25, 50, 75])
    of_each_z = [run.final(column) for column in run.metrics if column.startswith("return_z_")]
    reached = int((np.max(of_each_z, axis=0) >= best - 0.1).sum()) if of_each_z else None
    return [
        name,
        f"{low:.2f}",
        f"{median:.2f}",
        f"{high:.2f}",
        f"{(returns >= best - 0.1).sum()} of {len(returns)}",
        "-" if reached is None else f"{reached} of {len(returns)}",
        *(
            f"{np.median(run.final(metric)):.2f}" if metric in run.metrics else "-"
            for metric in ("action_information", "mi_bound_test")
        ),
    ]


def main(argv: list[str] | None = None, variants: dict[str, Variant] = VARIANTS) -> None:
    """Trains what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each seed")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", default=list(variants))
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    arguments = parser.parse_args(argv)
    for name in arguments.only:
        if name not in variants:
            parser.error(f"--only names {name!r}; allowed: {', '.join(variants)}")
    table = Table("variant", "25 %", "median", "75 %", "at best", "a z at best", box=MARKDOWN)
    table.add_column("I(z; actions)")
    table.add_column("J_V")
    for name in arguments.only:
        config, path = variants[name].config(arguments.steps), arguments.out / folder_name(name)
        env = make_env(config)
        if path.exists():
            finished = load_setup(path)[1]["status"] == "finished"
            run = load_run(path) if finished else continue_run(path, env, Options(False))
        else:
            lanes = make_lanes(config.hyperparameters, range(arguments.seeds))
            run = train_run(config, env, path, lanes, Options(tensorboard=False))
        table.add_row(*describe(name, run, env.optimal_return))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
