"""What JaxMARL's environments have in common."""

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from maven_jax.envs.adapters.adapter import Adapter
from maven_jax.envs.adapters.types import State


def import_jaxmarl() -> Any:
    """JaxMARL's environments, without what it prints while it is imported.

    Raises:
        ValueError: it is not installed.
    """
    silent = io.StringIO()
    try:
        with (
            patch.object(sys, "__stdout__", silent),  # one of its modules goes back to this one
            contextlib.redirect_stdout(silent),
            contextlib.redirect_stderr(sys.stderr),
        ):
            from jaxmarl import environments
    except ImportError as error:
        raise ValueError(
            f"this environment needs JaxMARL ({error}); pip install 'maven-jax[smax]'"
        ) from None
    return environments


class JaxMarlAdapter(Adapter):
    """An environment of JaxMARL; its dictionaries of agents become arrays of a leading axis N."""

    def _start(self, key: PRNGKeyArray) -> Any:
        return self.env.reset(key)[1]

    def _actions(self, action: Int[Array, "N"]) -> dict[str, Array]:
        return {agent: action[index] for index, agent in enumerate(self.env.agents)}

    def _stack(self, of_agents: dict[str, Array]) -> Array:
        return jnp.stack([of_agents[agent] for agent in self.env.agents])

    def animate(
        self, states: Sequence[State], interval: int = 200, save_path: str = ""
    ) -> FuncAnimation:
        """Draws an episode with JaxMARL's viewer.

        Args:
            states: its states, one a frame.
            interval: milliseconds between frames.
            save_path: file to write, if any.
        """
        figure, update = self._viewer(states)
        animation = FuncAnimation(figure, update, frames=len(states), interval=interval, blit=False)
        if save_path:
            animation.save(save_path)
        return animation

    def _viewer(self, states: Sequence[State]) -> tuple[Figure, Callable[[int], Any]]:
        """A figure, and what draws a frame in it."""
        raise NotImplementedError
