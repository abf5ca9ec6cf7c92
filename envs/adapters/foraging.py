"""jumanji's level-based foraging."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from maven_jax.envs.adapters.adapter import LARGEST_REWARD, number, whole_number
from maven_jax.envs.adapters.jumanji_adapter import (
    JumanjiAdapter,
    checked,
    one_hot_places,
    side_by_side,
)
from maven_jax.envs.adapters.types import Observation, State


class LevelBasedForaging(JumanjiAdapter):
    """Agents of different levels gather food that one of them alone may be too weak for.

    - agents_view: jumanji's vector of relative positions and levels, int8 [N, 3 * (food + N)].
    - global_state: position, level and whether eaten of each food; position, level and whether
      loading of each agent; int8, rows and columns one-hot. With a `max_agent_level` above 3 a
      level is two numbers, its tens and ones, so that none is above 9.
    - reward: a piece of level f pays f / F when it is eaten, with F the level of all food: 1 in
      total. A load of level s < f, summed over its agents, pays -N * `penalty` / (s * F): jumanji
      takes the penalty from each of the N agents and normalises it too. Without `normalize_reward`
      these are s * f and -N * `penalty`.
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
        normalize_reward: bool = True,
        penalty: float = 0.0,
        grid_observation: bool = False,
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
            normalize_reward: whether rewards are divided by s * F; see the class.
            penalty: for each piece that its loaders are too weak for; see the class.
            grid_observation: jumanji's grids as views, int8 [N, 3 * (2 * fov + 1)**2]: levels of
                agents, levels of food, and which cells are free, of the cells within `fov`.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work.
        """
        from jumanji.environments.routing.lbf import env, generator

        whole_number("grid_size", grid_size, 5, 100)
        whole_number("fov", fov, 1, grid_size)
        whole_number("num_food", num_food, 1, grid_size**2)
        whole_number("max_agent_level", max_agent_level, 2, 33)  # three have two digits
        self.num_agents = whole_number("num_agents", num_agents, 1, 50)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        make = checked(generator.RandomGenerator)
        self.env = env.LevelBasedForaging(
            make(grid_size, num_agents, num_food, fov, max_agent_level, force_coop),
            time_limit=time_limit + 1,
            grid_observation=grid_observation,
            normalize_reward=normalize_reward,
            penalty=number("penalty", penalty, 0.0, LARGEST_REWARD),
        )
        self.num_food = num_food
        self.digits = 1 if 3 * max_agent_level < 10 else 2  # food has three agents' levels

    def _observe(self, env_state: Any) -> Observation:
        view = self.env._observer.state_to_observation(env_state)
        food, agents = env_state.food_items, env_state.agents
        features = [
            one_hot_places(food.position, self.env.grid_size),
            *self._levels(food.level),
            food.eaten,
            one_hot_places(agents.position, self.env.grid_size),
            *self._levels(agents.level),
            agents.loading,
        ]
        return Observation(
            agents_view=view.agents_view.reshape(self.num_agents, -1).astype(jnp.int8),
            action_mask=view.action_mask,
            global_state=side_by_side(features, jnp.int8),
        )

    def _levels(self, level: Array) -> list[Array]:
        """Levels as features: as they are, or as tens and ones."""
        return [level] if self.digits == 1 else [level // 10, level % 10]

    def _extras(self, state: State) -> dict[str, Array]:
        return {"food_share": state.env_state.food_items.eaten.mean(dtype=jnp.float32)}
