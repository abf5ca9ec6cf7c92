"""A search by Optuna. Each batch of points that it proposes is trained in one compiled program.

    pip install optuna
    python docs/examples/optuna_search.py

All batches have the same number of points, so the program is compiled once.
"""

import jax.numpy as jnp
import numpy as np
import optuna
from optuna.distributions import FloatDistribution

from maven_jax import compile_sweep, from_dict, make_trainer, run_sweep, seed_keys
from maven_jax.envs import MStepMatrixGame

CONFIG = from_dict(
    {
        "algorithm": "qmix",
        "network": {"hidden_size": 16, "mixer_embed_size": 8},
        "training": {"total_env_steps": 300, "batch_size": 8, "updates_per_evaluation": 20},
        "hyperparameters": {"epsilon_steps": 200},
    }
)
SPACE = {
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "gamma": FloatDistribution(0.8, 1.0),
}


def search(num_batches: int, num_points: int, num_seeds: int) -> optuna.Study:
    """The Optuna study of batches of `num_points` points; maximises the mean final return."""
    sweep = compile_sweep(make_trainer(CONFIG, MStepMatrixGame(m=3)), num_points * num_seeds)
    keys = jnp.tile(seed_keys(0, num_seeds), num_points)
    sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(num_batches):
        trials = [study.ask(SPACE) for _ in range(num_points)]
        lanes = {
            name: np.repeat([trial.params[name] for trial in trials], num_seeds) for name in SPACE
        }
        hyperparameters = CONFIG.hyperparameters._replace(**lanes)
        *_, last = run_sweep(sweep, keys, hyperparameters)
        returns = last.metrics["return"].reshape(num_points, num_seeds)
        diverged = last.diverged.reshape(num_points, num_seeds).any(axis=1)
        for trial, value, failed in zip(trials, returns.mean(axis=1), diverged, strict=True):
            if failed:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, float(value))
    return study


if __name__ == "__main__":
    study = search(num_batches=3, num_points=4, num_seeds=2)
    print(f"mean return {study.best_value:.2f} with {study.best_params}")
