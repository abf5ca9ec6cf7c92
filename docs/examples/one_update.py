"""QMIX's gradient step in a custom training loop.

A `Config` is hashable, including the options of its environment. So `jax.jit` takes it as a static
argument: a new configuration compiles a new program, and an equal one reuses the compiled program.
"""

import jax

from maven_jax import from_dict
from maven_jax.acting.rollout import env_spec, rollout, start_episodes
from maven_jax.algorithms.table import make_algorithm
from maven_jax.envs import MStepMatrixGame
from maven_jax.episodes import as_floats
from maven_jax.functional.exploration import act_greedily
from maven_jax.learning.learner import make_optimizer, update
from maven_jax.types import Params

CONFIG = from_dict({"algorithm": "qmix", "network": {"hidden_size": 16, "mixer_embed_size": 8}})
ENV = MStepMatrixGame(m=3)
jitted_update = jax.jit(update, static_argnames=("algorithm", "config"))


def losses(key: jax.Array, num_steps: int, config=CONFIG) -> list[float]:
    """The losses of `num_steps` gradient steps, all on the same batch of greedy episodes."""
    spec = env_spec(ENV)
    algorithm = make_algorithm(config, spec)
    agent_key, mixer_key, start_key, act_key = jax.random.split(key, 4)
    params = Params(
        agent=algorithm.agent.init_params(agent_key, spec, algorithm.latent.size),
        mixer=algorithm.mixer.init_params(mixer_key, spec, algorithm.latent.size),
        discriminator={},
    )
    start = start_episodes(ENV, start_key, 32)
    z = algorithm.latent.sample({}, act_key, start.initial_state)
    played = rollout(ENV, algorithm.agent, params.agent, act_key, start, z, act_greedily)
    batch, target = as_floats(played.episodes), params
    opt_state = make_optimizer(config.training.optimizer, config.hyperparameters).init(params)
    found = []
    for _ in range(num_steps):
        params, opt_state, metrics = jitted_update(
            params,
            target,
            opt_state,
            {},
            batch,
            config.hyperparameters,
            algorithm=algorithm,
            config=config,
        )
        found.append(float(metrics["loss"]))
    return found


if __name__ == "__main__":
    print(" ".join(f"{loss:.3f}" for loss in losses(jax.random.key(0), 10)))
