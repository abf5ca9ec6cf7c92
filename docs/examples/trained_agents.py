"""Trained agents in a custom loop over environment steps.

    python docs/examples/trained_agents.py              # a run that comes with the package
    maven-jax train maven --out runs/mine
    python docs/examples/trained_agents.py runs/mine    # your own

The team draws a z for the episode, as MAVEN does, and is greedy until the episode ends.
"""

import sys

import jax

from maven_jax import load_example, load_results
from maven_jax.acting.policy import Policy
from maven_jax.envs import MStepMatrixGame


def play(policy: Policy, env, key: jax.Array) -> tuple[float, int]:
    """The return of one episode, and how many steps it took."""
    reset_key, latent_key = jax.random.split(key)
    state, timestep = env.reset(reset_key)
    carry = policy.reset(latent_key, timestep.observation)
    step, total, steps = jax.jit(env.step), 0.0, 0
    while not timestep.last():
        action, carry = policy.act(carry, timestep.observation)
        state, timestep = step(state, action)
        total, steps = total + float(timestep.reward), steps + 1
    return total, steps


if __name__ == "__main__":
    results = load_results(sys.argv[1]) if sys.argv[1:] else load_example("maven_team")
    total, steps = play(results.policy(seed=0), MStepMatrixGame(m=10), jax.random.key(0))
    print(f"an episode of {steps} steps returned {total:.2f}")
