"""A custom algorithm: VDN with a custom loss, hysteretic Q-learning.

python docs/examples/own_algorithm.py
"""

import jax
import jax.numpy as jnp

import maven_jax
from maven_jax.algorithms.objectives import mixed, mixed_value, select
from maven_jax.episodes import next_latent
from maven_jax.functional.exploration import greedy_actions
from maven_jax.functional.losses import weighted_mean

NEGATIVE_WEIGHT = 0.1  # weight of negative TD errors; Matignon et al. 2007


def hysteretic_loss(mixer, online, target, reward, batch, hyperparameters, config):
    """Loss and metrics of a batch; axes are `T B` (`maven_jax.algorithms.objectives.Loss`)."""
    value = mixed_value(mixer, online, batch)
    next_actions = greedy_actions(online.q_values[1:], batch.action_mask[1:])
    chosen = select(target.q_values[1:], next_actions)
    next_value = mixed(mixer, target.mixer, chosen, batch.global_state[1:], next_latent(batch))
    q_target = reward + hyperparameters.gamma * batch.discount * next_value
    error = jax.lax.stop_gradient(q_target) - value
    weight = jnp.where(error > 0, 1.0, NEGATIVE_WEIGHT)
    loss = weighted_mean(weight * error**2, batch.mask)
    return loss, {"td_error_abs": weighted_mean(jnp.abs(error), batch.mask)}


maven_jax.register_algorithm("hysteretic", mixer="additive", objective=hysteretic_loss)

if __name__ == "__main__":  # the climbing game: 11 is its best payoff, and misses cost up to 30
    env = {"name": "matrix_game", "options": {"game": "climbing"}}
    training = {"total_env_steps": 2000, "updates_per_evaluation": 500}
    for algorithm in ("vdn", "hysteretic"):
        config = {"algorithm": algorithm, "env": env, "training": training}
        frame = maven_jax.train(config, seeds=4).frame()
        print(algorithm, frame.groupby("seed")["return"].last().tolist())
