"""jumanji's cleaner."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from maven_jax.envs.adapters.adapter import LARGEST_REWARD, number, whole_number
from maven_jax.envs.adapters.jumanji_adapter import (
    JumanjiAdapter,
    checked,
    side_by_side,
)
from maven_jax.envs.adapters.types import Observation, State


class Cleaner(JumanjiAdapter):
    """Agents walk a maze until every tile of it has been visited.

    - agents_view: whole grids of dirty tiles, of walls, of where the agent is, and of how many
      others are where, int8 [N, 4 * cells].
    - global_state: whole grids of dirty tiles, of walls, and of where each agent is, int8.
    - reward: 1 for each tile cleaned, less `penalty_per_timestep`.
    - termination: all is clean, or an agent does what its mask forbids.
    - extras: "clean_share" of the tiles, 0 to 1.
    """

    num_actions = 4

    def __init__(
        self,
        size: int = 10,
        num_agents: int = 3,
        penalty_per_timestep: float = 0.5,
        time_limit: int = 100,
    ) -> None:
        """Makes the maze.

        Args:
            size: its height and width; jumanji's masks are wrong in mazes that are not square.
            num_agents: `N`.
            penalty_per_timestep: taken from the reward at every step.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work.
        """
        from jumanji.environments.routing.cleaner import env, generator

        whole_number("size", size, 3, 100)
        self.num_agents = whole_number("num_agents", num_agents, 1, 50)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        make = checked(generator.RandomGenerator)
        self.env = env.Cleaner(
            make(size, size, num_agents),
            time_limit=time_limit + 1,
            penalty_per_timestep=number(
                "penalty_per_timestep", penalty_per_timestep, 0.0, LARGEST_REWARD
            ),
        )

    def _observe(self, env_state: Any) -> Observation:
        from jumanji.environments.routing.cleaner.constants import DIRTY, WALL

        grid, places = env_state.grid, env_state.agents_locations
        at = jax.vmap(lambda place: jnp.zeros_like(grid).at[place[0], place[1]].set(1))(places)
        dirty, wall = (
            jnp.broadcast_to((grid == kind).astype(jnp.int8), at.shape) for kind in (DIRTY, WALL)
        )
        view = jnp.stack([dirty, wall, at, at.sum(0) - at], axis=1)
        return Observation(
            agents_view=view.reshape(self.num_agents, -1).astype(jnp.int8),
            action_mask=env_state.action_mask,
            global_state=side_by_side([dirty[0], wall[0], at], jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        from jumanji.environments.routing.cleaner.constants import DIRTY, WALL

        grid = state.env_state.grid
        dirty, floor = (grid == DIRTY).sum(), (grid != WALL).sum()
        return {"clean_share": 1 - dirty.astype(jnp.float32) / floor}
