"""Small environments, for several test modules."""

import jax
import jax.numpy as jnp
from jumanji.types import restart, termination, transition

from maven_jax.config import from_dict
from maven_jax.environments.registry import make_env
from maven_jax.envs.adapters.types import Observation
from maven_jax.types import MarlEnv

OPTIONS = {
    "level_based_foraging": {"grid_size": 5, "fov": 5, "num_food": 1, "time_limit": 40},
    "robot_warehouse": {
        "shelf_rows": 1,
        "shelf_columns": 3,
        "column_height": 1,
        "num_agents": 2,
        "request_queue_size": 2,
        "time_limit": 30,
    },
    "connector": {"grid_size": 5, "num_agents": 3, "time_limit": 12},
    "cleaner": {"size": 3, "num_agents": 2, "time_limit": 16},
    "smax": {"scenario": "3m", "time_limit": 16},
    "mpe_spread": {"num_agents": 2, "time_limit": 25},
    "mpe_speaker_listener": {"time_limit": 25},
    "mpe_reference": {"time_limit": 25},
    "hanabi": {"num_colors": 2, "num_ranks": 2, "hand_size": 2, "time_limit": 12},
    "overcooked": {"time_limit": 50},
}
"""Arguments of each; the time limits are such that random play ends before and at them."""


def small_env(name: str) -> MarlEnv:
    """The environment of that name, one for all tests: its steps are traced once."""
    return make_env(from_dict({"env": {"name": name, "options": OPTIONS[name]}}))


class Sides:
    """The state is one-hot of a random side, 0 or 1; a step pays 1 if agent 0 plays the side."""

    num_agents, num_actions, time_limit = 2, 2, 2

    def observe(self, side):
        one_hot = jax.nn.one_hot(side, 2)
        return Observation(jnp.stack([one_hot, one_hot]), jnp.ones((2, 2), bool), one_hot)

    def reset(self, key):
        side = jax.random.randint(key, (), 0, 2)
        return (side, jnp.int32(0)), restart(self.observe(side), extras={"side": jnp.float32(side)})

    def step(self, state, action):
        side, step = state[0], state[1] + 1
        args = jnp.float32(action[0] == side), self.observe(side), {"side": jnp.float32(side)}
        end = jax.lax.cond(
            step == self.time_limit,
            lambda *args: termination(*args[:2], extras=args[2]),
            lambda *args: transition(*args[:2], extras=args[2]),
            *args,
        )
        return (side, step), end
