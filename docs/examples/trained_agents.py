"""What a run has learnt, at work in a loop of one's own: its weights from disk, a step at a time.

    maven-jax train maven --out runs/mine
    python docs/examples/trained_agents.py runs/mine

The team draws a z for the episode, as MAVEN does, and is greedy until the episode ends. Where the
algorithm has no latent, z is empty.
"""

import sys
from pathlib import Path

import jax

from maven_jax import load_run, trained_weights
from maven_jax.acting.rollout import act, env_spec, initial_acting, start_episodes
from maven_jax.algorithms.table import make_algorithm
from maven_jax.environments.registry import make_env
from maven_jax.functional.exploration import act_greedily
from maven_jax.networks.layers import apply


def play(path: Path, key: jax.Array, lane: int = 0) -> tuple[float, int]:
    """The return of one episode of one of the run's seeds, and how many steps it took."""
    run = load_run(path)
    env = make_env(run.config)
    algorithm = make_algorithm(run.config, env_spec(env))
    agent, latent = algorithm.agent, algorithm.latent
    weights = trained_weights(run, env)
    params, latent_params = jax.tree.map(lambda leaf: leaf[lane], weights)

    start_key, latent_key, act_key = jax.random.split(key, 3)
    start = start_episodes(env, start_key, 1)
    z = latent.sample(latent_params, latent_key, start.initial_state)
    head_weights = apply(agent, params.agent, z, env.num_agents, method="head_weights")
    acting = initial_acting(agent, 1, env.num_agents)

    @jax.jit
    def step(key, state, observation, acting):
        acting, _, actions = act(
            agent, params.agent, key, acting, observation, head_weights, act_greedily
        )
        return *jax.vmap(env.step)(state, actions), acting

    (state, timestep), total, steps = start, 0.0, 0
    while not timestep.last() and steps < env.time_limit:
        act_key, step_key = jax.random.split(act_key)
        state, timestep, acting = step(step_key, state, timestep.observation, acting)
        total, steps = total + float(timestep.reward[0]), steps + 1
    return total, steps


if __name__ == "__main__":
    total, steps = play(Path(sys.argv[1]), jax.random.key(0))
    print(f"an episode of {steps} steps returned {total:.2f}")
