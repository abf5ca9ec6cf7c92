"""jumanji's connector."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from maven_jax.envs.adapters.adapter import LARGEST_REWARD, number, one_of, whole_number
from maven_jax.envs.adapters.jumanji_adapter import (
    JumanjiAdapter,
    checked,
    one_hot_places,
    side_by_side,
)
from maven_jax.envs.adapters.types import Observation, State


class Connector(JumanjiAdapter):
    """Agents grow paths over one grid, each to its own target, without crossing.

    - agents_view: whole grids of its own head, its own target, the others' heads, their targets,
      and all paths, int8 [N, 5 * cells].
    - global_state: whole grids of heads, targets and paths, then row and column (one-hot) of each
      agent's head and target, and whether it is connected, int8.
    - reward: jumanji's dense reward: `connected_reward` for each connection, less
      `penalty_per_timestep` for each agent without.
    - termination: every agent is connected or blocked.
    - extras: "connected_share", 0 to 1.
    """

    num_actions = 5

    def __init__(
        self,
        grid_size: int = 10,
        num_agents: int = 10,
        generator: str = "random_walk",
        connected_reward: float = 1.0,
        penalty_per_timestep: float = 0.03,
        time_limit: int = 50,
    ) -> None:
        """Makes the grid.

        Args:
            grid_size: height and width.
            num_agents: `N`.
            generator: random_walk, whose grids can be solved, or uniform, whose grids may not.
            connected_reward: for an agent that connects; jumanji's sparse reward is 1 without
                a penalty.
            penalty_per_timestep: taken for each agent that is not connected.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work.
        """
        from jumanji.environments.routing.connector import env, reward
        from jumanji.environments.routing.connector import generator as generators

        whole_number("grid_size", grid_size, 3, 100)
        self.num_agents = whole_number("num_agents", num_agents, 1, grid_size**2 // 2)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        kinds = {
            "random_walk": generators.RandomWalkGenerator,
            "uniform": generators.UniformRandomGenerator,
        }
        self.env = env.Connector(
            checked(one_of("generator", generator, kinds))(grid_size, num_agents),
            reward.DenseRewardFn(
                number("connected_reward", connected_reward, 0.0, LARGEST_REWARD),
                -number("penalty_per_timestep", penalty_per_timestep, 0.0, LARGEST_REWARD),
            ),
            time_limit=time_limit + 1,
        )

    def _observe(self, env_state: Any) -> Observation:
        grid, agents = env_state.grid, env_state.agents
        taken, (owner, kind) = grid > 0, jnp.divmod(grid - 1, 3)
        paths, heads, targets = (taken & (kind == index) for index in range(3))
        own = owner == jnp.arange(self.num_agents)[:, None, None]
        channels = [heads & own, targets & own, heads & ~own, targets & ~own]
        channels.append(jnp.broadcast_to(paths, own.shape[:1] + paths.shape))
        view = jnp.stack(channels, axis=1).reshape(self.num_agents, -1)
        places = [one_hot_places(x, len(grid)) for x in (agents.position, agents.target)]
        features = [heads, targets, paths, *places, agents.connected]
        return Observation(
            agents_view=view.astype(jnp.int8),
            action_mask=env_state.action_mask,
            global_state=side_by_side(features, jnp.int8),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"connected_share": state.env_state.agents.connected.mean(dtype=jnp.float32)}
