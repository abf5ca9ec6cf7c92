"""JaxMARL's Overcooked."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from matplotlib.figure import Figure

from maven_jax.envs.adapters.adapter import Advance, number, one_of, whole_number
from maven_jax.envs.adapters.jaxmarl_adapter import JaxMarlAdapter, import_jaxmarl
from maven_jax.envs.adapters.types import Observation, State

COOKING_TIME = 20
"""The layer of JaxMARL's views that holds the time until a soup is done, in steps."""


class Kitchen(NamedTuple):
    """JaxMARL's state, and what was served.

    Attributes:
        state: JaxMARL's.
        soups: how many were served.
    """

    state: Any
    soups: Float[Array, ""]


class Overcooked(JaxMarlAdapter):
    """Two cooks who fill pots with onions, wait, and serve the soup on plates.

    - agents_view: JaxMARL's 26 layers of the kitchen, each agent's own first, and a 27th: a pot's
      remaining cooking time, 0 to 19 steps, is 5 times its layer plus the last one. int8
      [2, 27 H W].
    - global_state: the first agent's view, which is of the whole kitchen, int8.
    - action: up, down, right, left, stay, interact.
    - reward: 20 for a soup that is served, once for both, and `shaping` times JaxMARL's reward of
      each agent for what leads there: 3 for an onion in a pot, 3 for a plate, 5 for a soup taken.
    - termination: none.
    - extras: "soups", how many were served.
    """

    num_agents = 2
    num_actions = 6

    def __init__(
        self,
        layout: str = "cramped_room",
        random_reset: bool = False,
        shaping: float = 0.0,
        time_limit: int = 400,
    ) -> None:
        """Makes the kitchen.

        Args:
            layout: one of JaxMARL's, such as cramped_room or coord_ring.
            random_reset: whether a start draws where cooks are, what they hold and what pots hold.
            shaping: weight of the reward for what leads to a soup, 0 to 1.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work, or JaxMARL is not installed.
        """
        environments = import_jaxmarl()
        from jaxmarl.environments.overcooked import overcooked, overcooked_layouts

        kitchen = one_of("layout", layout, overcooked_layouts)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        self._shaping = number("shaping", shaping, 0.0, 1.0)
        self._of_a_soup = overcooked.DELIVERY_REWARD
        with warnings.catch_warnings():  # it recommends its successor
            warnings.simplefilter("ignore", DeprecationWarning)
            self.env = environments.Overcooked(kitchen, random_reset, time_limit)

    def _start(self, key: PRNGKeyArray) -> Kitchen:
        return Kitchen(super()._start(key), jnp.float32(0))

    def _advance(self, key: PRNGKeyArray, env_state: Kitchen, action: Int[Array, "N"]) -> Advance:
        step_key, _ = jax.random.split(key)
        _, after, rewards, _, info = self.env.step_env(
            step_key, env_state.state, self._actions(action)
        )
        served = rewards[self.env.agents[0]]
        reward = served + self._shaping * self._stack(info["shaped_reward"]).sum()
        soups = env_state.soups + served / self._of_a_soup
        return Advance(Kitchen(after, soups), reward, jnp.array(False))

    def _observe(self, env_state: Kitchen) -> Observation:
        layers = self._stack(self.env.get_obs(env_state.state)).astype(jnp.int8)
        fives, ones = jnp.divmod(layers[..., COOKING_TIME], 5)
        layers = layers.at[..., COOKING_TIME].set(fives)
        views = jnp.concatenate([layers, ones[..., None]], -1).reshape(self.num_agents, -1)
        return Observation(
            agents_view=views,
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            global_state=views[0],
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"soups": state.env_state.soups}

    def _viewer(self, states: Sequence[State]) -> tuple[Figure, Callable[[int], Any]]:
        import matplotlib.pyplot as plt
        from jaxmarl.viz.overcooked_visualizer import OvercookedVisualizer

        border = self.env.agent_view_size - 2

        def draw(frame: int) -> np.ndarray:
            kitchen = states[frame].env_state.state
            return OvercookedVisualizer._render_grid(
                np.asarray(kitchen.maze_map[border:-border, border:-border]),
                highlight_mask=None,
                agent_dir_idx=kitchen.agent_dir_idx,
                agent_inv=kitchen.agent_inv,
            )

        figure, axes = plt.subplots(figsize=(4, 4))
        axes.axis("off")
        image = axes.imshow(draw(0))
        return figure, lambda frame: image.set_data(draw(frame))
