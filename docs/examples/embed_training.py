"""Whole training runs inside a larger jitted function.

The function searches for a learning rate. It draws candidates, trains each of them with several
seeds by `make_train`, and keeps the best one. All of this is one compiled program.
"""

import jax

from maven_jax import from_dict, make_train
from maven_jax.envs import MStepMatrixGame

CONFIG = from_dict(
    {
        "algorithm": "qmix",
        "network": {"hidden_size": 16, "mixer_embed_size": 8},
        "training": {"total_env_steps": 300, "batch_size": 8, "updates_per_evaluation": 20},
        "hyperparameters": {"epsilon_steps": 200},
    }
)


def make_search(num_candidates: int, num_seeds: int):
    """A function of a key: candidates, the mean return of each, and the best one's weights."""
    train = make_train(CONFIG, MStepMatrixGame(m=3))

    def evaluate(key: jax.Array, learning_rate: jax.Array):
        hyperparameters = CONFIG.hyperparameters._replace(learning_rate=learning_rate)
        state, metrics = train(key, hyperparameters)
        return state.params, metrics["return"].max()

    def search(key: jax.Array):
        draw_key, train_key = jax.random.split(key)
        candidates = 10 ** jax.random.uniform(draw_key, (num_candidates,), minval=-4, maxval=-2)
        keys = jax.random.split(train_key, num_seeds)
        over_seeds = jax.vmap(evaluate, in_axes=(0, None))
        params, returns = jax.vmap(over_seeds, in_axes=(None, 0))(keys, candidates)
        scores = returns.mean(axis=1)
        best = scores.argmax()
        return candidates, scores, jax.tree.map(lambda x: x[best], params)

    return search


if __name__ == "__main__":
    rates, scores, _ = jax.jit(make_search(num_candidates=4, num_seeds=3))(jax.random.key(0))
    for rate, score in zip(rates, scores, strict=True):
        print(f"learning rate {rate:.1e}: mean best return {score:.2f}")
