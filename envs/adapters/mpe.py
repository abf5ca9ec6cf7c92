"""JaxMARL's cooperative particle games."""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from matplotlib.figure import Figure

from maven_jax.envs.adapters.adapter import Advance, number, whole_number
from maven_jax.envs.adapters.jaxmarl_adapter import JaxMarlAdapter, import_jaxmarl
from maven_jax.envs.adapters.types import Observation, State

MOVES = 5
"""Nothing, left, right, down, up."""
FARTHEST = 10.0
"""Of positions in the global state; an agent that flies on goes farther in a long episode."""


class Mpe(JaxMarlAdapter):
    """A particle game: nothing but the limit ends its episodes.

    JaxMARL's own have one step more than its `max_steps`.
    """

    num_actions = MOVES

    def _observe(self, env_state: Any) -> Observation:
        views = self._stack(self.env.get_obs(env_state))
        return Observation(
            agents_view=views,
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            global_state=views.ravel().clip(-FARTHEST, FARTHEST),
        )

    def _advance(self, key: PRNGKeyArray, env_state: Any, action: Int[Array, "N"]) -> Advance:
        step_key, _ = jax.random.split(key)
        _, env_state, rewards, _, _ = self.env.step_env(step_key, env_state, self._actions(action))
        return Advance(env_state, self._reward(rewards), jnp.array(False))

    def _reward(self, rewards: dict[str, Array]) -> Float[Array, "*N"]:
        """Of each agent, or of the team."""
        return self._stack(rewards)

    def _viewer(self, states: Sequence[State]) -> tuple[Figure, Callable[[int], Any]]:
        from jaxmarl.environments.mpe.mpe_visualizer import MPEVisualizer

        with contextlib.redirect_stdout(io.StringIO()):  # it says whether agents can talk
            visualizer = MPEVisualizer(self.env, [state.env_state for state in states])
        return visualizer.fig, visualizer.update


class MpeSpread(Mpe):
    """Particles that share the landmarks among them without colliding.

    - agents_view: JaxMARL's, float32 [N, O].
    - global_state: the views of all agents side by side, float32.
    - action: nothing, left, right, down, up.
    - reward: the sum of the agents' rewards, each between the team's distances to the landmarks and
      its own collisions.
    - termination: none.
    - extras: "distance", the sum over landmarks of the distance to the nearest agent.
    """

    def __init__(
        self,
        num_agents: int = 3,
        num_landmarks: int = 0,
        local_ratio: float = 0.5,
        time_limit: int = 25,
    ) -> None:
        """Makes the agents and landmarks.

        Args:
            num_agents: `N`.
            num_landmarks: 0, the default, for as many as agents.
            local_ratio: weight of an agent's own collisions, 0 to 1.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work, or JaxMARL is not installed.
        """
        environments = import_jaxmarl()
        self.num_agents = whole_number("num_agents", num_agents, 2, 50)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        self.env = environments.SimpleSpreadMPE(
            num_agents=num_agents,
            num_landmarks=whole_number("num_landmarks", num_landmarks, 0, 50) or num_agents,
            local_ratio=number("local_ratio", local_ratio, 0.0, 1.0),
            max_steps=time_limit,
        )

    def _extras(self, state: State) -> dict[str, Array]:
        agents, landmarks = jnp.split(state.env_state.p_pos, [self.num_agents])
        distances = jnp.linalg.norm(landmarks[:, None] - agents, axis=-1)
        return {"distance": distances.min(-1).sum()}


class MpeOfTwo(Mpe):
    """A game of two agents; nothing of it can be chosen but its length.

    Attributes:
        game: its name in JaxMARL.
    """

    num_agents = 2
    game: str

    def __init__(self, time_limit: int = 25) -> None:
        """Makes the game.

        Args:
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work, or JaxMARL is not installed.
        """
        environments = import_jaxmarl()
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        self.env = getattr(environments, self.game)(max_steps=time_limit)


class MpeSpeakerListener(MpeOfTwo):
    """One agent sees which of three landmarks to go to and can only say it; the other walks.

    Agents of unequal sizes, padded: the speaker's view by zeros, its actions by illegal ones.

    - agents_view: JaxMARL's, float32 [2, 11]: the speaker's 3 numbers are the goal's colour.
    - global_state: both views without padding, float32 [14].
    - action: of the speaker one of 3 words, of the listener nothing, left, right, down, up.
    - reward: minus the squared distance from the listener to its goal, once for both.
    - termination: none.
    - extras: "goal_distance", from the listener to its goal.
    """

    game = "SimpleSpeakerListenerMPE"

    def _reward(self, rewards: dict[str, Array]) -> Float[Array, ""]:
        return rewards[self.env.agents[0]]

    def _observe(self, env_state: Any) -> Observation:
        views = self.env.get_obs(env_state)
        speaker, listener = (views[agent] for agent in self.env.agents)
        padded = jnp.pad(speaker, (0, listener.size - speaker.size))
        words = self.env.action_spaces[self.env.agents[0]].n
        return Observation(
            agents_view=jnp.stack([padded, listener]),
            action_mask=jnp.arange(MOVES) < jnp.array([[words], [MOVES]]),
            global_state=jnp.concatenate([speaker, listener]),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        env_state = state.env_state
        goal = env_state.p_pos[self.num_agents + env_state.goal]
        return {"goal_distance": jnp.linalg.norm(env_state.p_pos[1] - goal)}


class MpeReference(MpeOfTwo):
    """Two agents walk and talk; to which of three landmarks each is to go, only the other sees.

    - agents_view: JaxMARL's, float32 [2, 21]: its own speed, the landmarks, the colour of the
      other's goal and the word that the other said last.
    - global_state: both views side by side, float32 [42].
    - action: a move and one of ten words at once: the move (nothing, left, right, down, up) plus 5
      times the word.
    - reward: minus the sum over agents of the distance to their goal.
    - termination: none.
    - extras: "goal_distance", from an agent to its goal, the mean of both.
    """

    game = "SimpleReferenceMPE"
    num_actions = MOVES * 10

    def _extras(self, state: State) -> dict[str, Array]:
        agents, landmarks = jnp.split(state.env_state.p_pos, [self.num_agents])
        distances = jnp.linalg.norm(landmarks[state.env_state.goal] - agents, axis=-1)
        return {"goal_distance": distances.mean()}
