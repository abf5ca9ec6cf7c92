"""jumanji's multi-agent environments: foraging, warehouse, connector, cleaner."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from maven_jax.envs.adapters.adapter import Adapter, Advance, number, whole_number
from maven_jax.envs.adapters.types import Observation, State

LARGEST_PENALTY = 1e6
"""In units of reward, a step or agent: sums over an episode keep their single precision."""


class JumanjiAdapter(Adapter):
    """An environment of jumanji whose episodes end by themselves, or at the adapter's limit."""

    def _start(self, key: PRNGKeyArray) -> Any:
        return self.env.reset(key)[0]

    def _advance(self, key: PRNGKeyArray, env_state: Any, action: Int[Array, "N"]) -> Advance:
        env_state, timestep = self.env.step(env_state, action)
        return Advance(env_state, timestep.reward, timestep.last())


class LevelBasedForaging(JumanjiAdapter):
    """Agents of different levels gather food that one of them alone may be too weak for.

    - agents_view: jumanji's vector of relative positions and levels, int8 [N, 3 * (food + N)].
    - global_state: position, level and whether eaten of each food; position, level and whether
      loading of each agent; int8, rows and columns one-hot.
    - reward: each food's share of all levels, so 1 in total, without `penalty`.
    - termination: all food is eaten.
    - extras: "food_share", eaten so far, 0 to 1.
    """

    num_actions = 6

    def __init__(
        self,
        grid_size: int = 8,
        fov: int = 8,
        num_agents: int = 2,
        num_food: int = 2,
        max_agent_level: int = 2,
        force_coop: bool = True,
        penalty: float = 0.0,
        time_limit: int = 100,
    ) -> None:
        """Makes the grid.

        Args:
            grid_size: height and width, at least 5.
            fov: how far an agent sees, in cells.
            num_agents: `N`.
            num_food: pieces of food.
            max_agent_level: agents' levels are drawn from 1 to this.
            force_coop: every piece has the summed level of the three weakest agents, or of both.
            penalty: taken from the agents that fail to load.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work.
        """
        from jumanji.environments.routing.lbf import env, generator

        whole_number("grid_size", grid_size, 5, 100)
        whole_number("fov", fov, 1, grid_size)
        whole_number("num_food", num_food, 1, grid_size**2)
        whole_number("max_agent_level", max_agent_level, 2, 40)  # three levels fit into int8
        self.num_agents = whole_number("num_agents", num_agents, 1, 50)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        make = _checked(generator.RandomGenerator)
        self.env = env.LevelBasedForaging(
            make(grid_size, num_agents, num_food, fov, max_agent_level, force_coop),
            time_limit=time_limit + 1,
            penalty=number("penalty", penalty, 0.0, LARGEST_PENALTY),
        )
        self.num_food = num_food

    def _observe(self, env_state: Any) -> Observation:
        view = self.env._observer.state_to_observation(env_state)
        food, agents = env_state.food_items, env_state.agents
        features = [_places(food.position, self.env.grid_size), food.level, food.eaten]
        features += [_places(agents.position, self.env.grid_size), agents.level, agents.loading]
        return Observation(
            agents_view=view.agents_view.astype(jnp.int8),
            action_mask=view.action_mask,
            global_state=_flat(features, jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"food_share": state.env_state.food_items.eaten.mean(dtype=jnp.float32)}


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
        warehouse = _checked(generator.RandomGenerator)(
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
            global_state=_flat(features, jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"deliveries": state.episode_return}


class Connector(JumanjiAdapter):
    """Agents grow paths over one grid, each to its own target, without crossing.

    - agents_view: whole grids of its own head, its own target, the others' heads, their targets,
      and all paths, int8 [N, 5 * cells].
    - global_state: whole grids of heads, targets and paths, then row and column (one-hot) of each
      agent's head and target, and whether it is connected, int8.
    - reward: jumanji's dense reward: 1 for each connection, -0.03 a step for each agent without.
    - termination: every agent is connected or blocked.
    - extras: "connected_share", 0 to 1.
    """

    num_actions = 5

    def __init__(self, grid_size: int = 10, num_agents: int = 10, time_limit: int = 50) -> None:
        """Makes the grid.

        Args:
            grid_size: height and width.
            num_agents: `N`.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work.
        """
        from jumanji.environments.routing.connector import env, generator

        whole_number("grid_size", grid_size, 3, 100)
        self.num_agents = whole_number("num_agents", num_agents, 1, grid_size**2 // 2)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        make = _checked(generator.RandomWalkGenerator)
        self.env = env.Connector(make(grid_size, num_agents), time_limit=time_limit + 1)

    def _observe(self, env_state: Any) -> Observation:
        grid, agents = env_state.grid, env_state.agents
        taken, (owner, kind) = grid > 0, jnp.divmod(grid - 1, 3)
        paths, heads, targets = (taken & (kind == index) for index in range(3))
        own = owner == jnp.arange(self.num_agents)[:, None, None]
        channels = [heads & own, targets & own, heads & ~own, targets & ~own]
        channels.append(jnp.broadcast_to(paths, own.shape[:1] + paths.shape))
        view = jnp.stack(channels, axis=1).reshape(self.num_agents, -1)
        places = [_places(x, len(grid)) for x in (agents.position, agents.target)]
        features = [heads, targets, paths, *places, agents.connected]
        return Observation(
            agents_view=view.astype(jnp.int8),
            action_mask=env_state.action_mask,
            global_state=_flat(features, jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"connected_share": state.env_state.agents.connected.mean(dtype=jnp.float32)}


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
        make = _checked(generator.RandomGenerator)
        self.env = env.Cleaner(
            make(size, size, num_agents),
            time_limit=time_limit + 1,
            penalty_per_timestep=number(
                "penalty_per_timestep", penalty_per_timestep, 0.0, LARGEST_PENALTY
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
            global_state=_flat([dirty[0], wall[0], at], jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        from jumanji.environments.routing.cleaner.constants import DIRTY, WALL

        grid = state.env_state.grid
        dirty, floor = (grid == DIRTY).sum(), (grid != WALL).sum()
        return {"clean_share": 1 - dirty.astype(jnp.float32) / floor}


def _places(position: Int[Array, "K 2"], size: int) -> Float[Array, "K 2 size"]:
    """Rows and columns one-hot: numbers as large as a grid would swamp the mixer's features."""
    return jax.nn.one_hot(position, size)


def _flat(features: list[Array], dtype: Any) -> Array:
    """All features side by side."""
    return jnp.concatenate([feature.astype(dtype).ravel() for feature in features])


def _checked(make: Callable[..., Any]) -> Callable[..., Any]:
    """A constructor whose refusals are `ValueError`s of one line."""

    def checked(*arguments: Any) -> Any:
        try:
            return make(*arguments)
        except (AssertionError, TypeError) as error:
            raise ValueError(str(error)) from None

    return checked
