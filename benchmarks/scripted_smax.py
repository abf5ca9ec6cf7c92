"""What hand-written play wins on SMAX: a yardstick for what is learnt.

    python benchmarks/scripted_smax.py --scenarios 3m 2s3z --out scripted_smax.json

Every unit attacks if it can and otherwise walks to the nearest enemy. `closest` attacks the nearest
enemy, much as the opponents do; `focus` the weakest of those in reach, so that a team's fire meets;
`ambush` stands still until an enemy is in reach of one unit, and then does as `focus` does. All see
the whole state, which agents that learn do not.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import from_dict
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError
from maven_jax.types import MarlEnv, ScalarKey

PLAYS = "closest", "focus", "ambush"
DIRECTIONS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], np.float32)
"""Of the first four actions."""
STOP, FIRST_ATTACK = 4, 5


def choose(play: str, num_agents: int, units: Any, legal: Array) -> Int[Array, "N"]:
    """The team's actions, of JaxMARL's state of the battle and the mask of legal actions."""
    own, others = jnp.split(units.unit_positions, [num_agents])
    alive = units.unit_alive[num_agents:]
    distances = jnp.linalg.norm(own[:, None] - others, axis=-1)
    distances = jnp.where(alive, distances, jnp.inf)
    in_reach = legal[:, FIRST_ATTACK:]
    weakness = jnp.broadcast_to(units.unit_health[num_agents:], in_reach.shape)
    preferred = distances if play == "closest" else weakness
    target = jnp.argmin(jnp.where(in_reach, preferred, jnp.inf), axis=-1)
    towards = others[jnp.argmin(distances, axis=-1)] - own
    walk = jnp.argmax(towards @ DIRECTIONS.T, axis=-1)
    can_attack = in_reach.any(axis=-1)
    waiting = (play == "ambush") & ~can_attack.any()
    actions = jnp.where(can_attack, FIRST_ATTACK + target, jnp.where(waiting, STOP, walk))
    is_legal = jnp.take_along_axis(legal, actions[:, None], axis=-1)[:, 0]
    return jnp.where(is_legal, actions, jnp.argmax(legal, axis=-1))  # of the dead


def battle(env: MarlEnv, play: str, key: ScalarKey) -> Float[Array, ""]:
    """Whether a battle is won."""
    state, first = env.reset(key)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        state, observation, going, won = carry
        actions = choose(play, env.num_agents, state.env_state.state, observation.action_mask)
        state, timestep = env.step(state, actions)
        won = jnp.where(going, timestep.extras["win_rate"], won)
        return (state, timestep.observation, going & ~timestep.last(), won), None

    carry = state, first.observation, jnp.array(True), jnp.float32(0)
    return jax.lax.scan(step, carry, length=env.time_limit)[0][-1]


def main(argv: list[str] | None = None) -> None:
    """Plays, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", nargs="+", default=["3m"], help="names of JaxMARL's")
    parser.add_argument("--plays", nargs="+", choices=PLAYS, default=PLAYS)
    parser.add_argument("--battles", type=int, default=1000)
    add_out(parser)
    arguments = parser.parse_args(argv)
    if arguments.battles < 1:
        parser.error("--battles; allowed: a whole number of at least 1")
    keys = jax.random.split(jax.random.key(0), arguments.battles)
    options = [{"name": "smax", "options": {"scenario": name}} for name in arguments.scenarios]
    try:
        environments = [make_env(from_dict({"env": each})) for each in options]
    except ConfigError as error:
        parser.error(str(error))
    rows = []
    for scenario, env in zip(arguments.scenarios, environments, strict=True):
        for play in arguments.plays:
            won = jax.jit(jax.vmap(lambda key, env=env, play=play: battle(env, play, key)))(keys)
            rows.append({"scenario": scenario, "play": play, "won": float(won.mean())})
    table = Table("scenario", "play", "battles won")
    for row in rows:
        table.add_row(row["scenario"], row["play"], f"{row['won']:.3f}")
    Console().print(table)
    write_record(arguments.out, battles=arguments.battles, rows=rows)


if __name__ == "__main__":
    main()
