"""jumanji's robot warehouse."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from maven_jax.envs.adapters.adapter import whole_number
from maven_jax.envs.adapters.jumanji_adapter import JumanjiAdapter, checked, side_by_side
from maven_jax.envs.adapters.types import Observation, State


class RobotWarehouse(JumanjiAdapter):
    """Robots carry the requested shelves to the goals and back.

    - agents_view: jumanji's vector of what each robot is and senses, int8 [N, O].
    - global_state: row, column and direction (all one-hot) and whether carrying of each robot, then
      which cells hold a shelf and which a requested one, int8.
    - reward: 1 for each requested shelf at a goal.
    - termination: robots collide.
    - extras: "deliveries" so far.
    """

    num_actions = 5

    def __init__(
        self,
        shelf_rows: int = 2,
        shelf_columns: int = 3,
        column_height: int = 8,
        num_agents: int = 4,
        sensor_range: int = 1,
        request_queue_size: int = 8,
        time_limit: int = 500,
    ) -> None:
        """Makes the warehouse.

        Args:
            shelf_rows: clusters of shelves from top to bottom.
            shelf_columns: clusters from left to right, an odd number from 3.
            column_height: shelves in a cluster's height.
            num_agents: `N`.
            sensor_range: how far a robot senses, in cells.
            request_queue_size: shelves requested at a time.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work.
        """
        from jumanji.environments.routing.robot_warehouse import env, generator

        for name, value in (
            ("shelf_rows", shelf_rows),
            ("shelf_columns", shelf_columns),
            ("column_height", column_height),
            ("sensor_range", sensor_range),
        ):
            whole_number(name, value, 1, 20)
        whole_number("request_queue_size", request_queue_size, 1, 10_000)
        self.num_agents = whole_number("num_agents", num_agents, 1, 50)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        warehouse = checked(generator.RandomGenerator)(
            shelf_rows, shelf_columns, column_height, num_agents, sensor_range, request_queue_size
        )
        if max(warehouse.grid_size) > 127:  # positions are seen as int8
            raise ValueError(
                f"shelf_rows and column_height make {max(warehouse.grid_size)} cells; allowed: 127"
            )
        whole_number("num_agents", num_agents, 1, math.prod(warehouse.grid_size))
        num_shelves = warehouse.shelf_ids.size
        if num_shelves < 2:
            raise ValueError(f"shelf_columns is {shelf_columns!r}; allowed: an odd number from 3")
        whole_number("request_queue_size", request_queue_size, 1, num_shelves - 1)
        self.env = env.RobotWarehouse(warehouse, time_limit=time_limit + 1)

    def _observe(self, env_state: Any) -> Observation:
        view = self.env._make_observations(env_state.grid, env_state.agents, env_state.shelves)
        agents, shelves, (shelf_ids, _) = env_state.agents, env_state.shelves, env_state.grid
        requested = jnp.zeros_like(shelf_ids, bool)
        requested = requested.at[shelves.position.x, shelves.position.y].max(
            shelves.is_requested.astype(bool)
        )
        rows, columns = shelf_ids.shape
        features = [
            jax.nn.one_hot(agents.position.x, rows),
            jax.nn.one_hot(agents.position.y, columns),
            jax.nn.one_hot(agents.direction, 4),
            agents.is_carrying,
            shelf_ids > 0,
            requested,
        ]
        return Observation(
            agents_view=view.astype(jnp.int8),
            action_mask=env_state.action_mask,
            global_state=side_by_side(features, jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"deliveries": state.episode_return}
