"""A custom way to explore: one agent at a time tries an action, while the others are greedy.

python docs/examples/own_exploration.py
"""

from functools import partial

import jax
import jax.numpy as jnp

import maven_jax
from maven_jax.functional.exploration import greedy_actions


def one_explores(key, q_values, action_mask, epsilon):
    """Actions `[..., N]` of utilities and legal actions `[..., N, A]`.

    With probability `epsilon` one agent of each team, drawn uniformly, takes a random legal action.
    """
    *lead, num_agents, _ = q_values.shape
    coin_key, agent_key, action_key = jax.random.split(key, 3)
    coin = jax.random.uniform(coin_key, (*lead, 1)) < epsilon
    chosen = jax.random.randint(agent_key, (*lead, 1), 0, num_agents)
    explores = coin & (jnp.arange(num_agents) == chosen)
    at_random = greedy_actions(jax.random.uniform(action_key, q_values.shape), action_mask)
    return jnp.where(explores, at_random, greedy_actions(q_values, action_mask))


maven_jax.register_exploration(
    "one_at_a_time", lambda epsilon, temperature: partial(one_explores, epsilon=epsilon)
)

if __name__ == "__main__":
    config = {"algorithm": "qmix", "exploration": {"kind": "one_at_a_time"}}
    results = maven_jax.train(config, seeds=2, overrides="smoke")
    print(results.frame()[["seed", "epsilon", "return"]].tail())
