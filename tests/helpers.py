"""What several test modules share."""

import jax
import numpy as np

from maven_jax.config import Config, from_dict


def random_params(init, seed=0):
    """Normal weights of the shapes that `init` would draw, without compiling its draws."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), shapes)


def vmapped(function):
    """`function`, computed in a batch beside arguments of zeros."""

    def call(*args):
        pair = jax.tree.map(lambda x: np.stack([np.zeros_like(x), x]), args)
        both = jax.device_get(jax.jit(jax.vmap(function))(*pair))
        return jax.tree.map(lambda y: y[1], both)

    return call


def small_config(algorithm: str, **training) -> Config:
    """An experiment of a second or two, with other values of `training` as they are given."""
    return from_dict(
        {
            "algorithm": algorithm,
            "network": {"hidden_size": 8, "mixer_embed_size": 4},
            "latent": {"size": 3, "hidden_size": 8, "updates": 2, "batch_size": 4},
            "discriminator": {"hidden_size": 4, "hidden_layers": 1, "recurrent_size": 4},
            "training": {
                "total_env_steps": 60,
                "batch_size": 4,
                "replay_size": 16,
                "target_update_interval": 7,
                "updates_per_evaluation": 5,
            }
            | training,
            "evaluation": {"episodes": 4, "episodes_per_latent": 2},
            "hyperparameters": {"epsilon_steps": 20, "mi_weight": 0.1},
        }
    )
