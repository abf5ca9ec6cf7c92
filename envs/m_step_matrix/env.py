"""The m-step matrix game: a coordination game that punishes uncommitted exploration.

Source: MAVEN, Mahajan et al. 2019, section on m-step matrix games. Details that the text leaves
open (what is observed, m = 1, four good branches) follow the authors' published implementation.
"""

from collections.abc import Sequence
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, PRNGKeyArray
from jumanji import specs
from jumanji.env import Environment
from jumanji.types import TimeStep, restart, termination, transition
from jumanji.viewer import Viewer
from matplotlib.animation import FuncAnimation
from numpy.typing import NDArray

from maven_jax.envs.m_step_matrix.types import Observation, State

NUM_BRANCHES = 4
GOOD_BRANCHES = (2, 4)
FINAL_BONUS = 3.0
MAX_STEPS = 10_000


def payoff(
    step_count: Int[Array, "*#batch"],
    branch: Int[Array, "*#batch"],
    joint_action: Int[Array, "*#batch"],
    *,
    m: int,
    good_branches: int,
) -> Float32[Array, "*batch"]:
    """Team reward of a joint action, the whole rule of the game.

    Repeating a good branch's own joint action pays 1, anything else 0. At the last of m >= 2 steps
    branch 0 pays [[1, 1], [1, 4]] instead.

    Args:
        step_count: number of joint actions taken before this one.
        branch: branch of the episode (the joint action itself, if it is the first).
        joint_action: the joint action, 2 * u0 + u1.
        m: length of the game.
        good_branches: 2 (branches 0 and 3 pay) or 4 (all pay).

    Returns:
        The reward, in the shape that the arguments broadcast to.
    """
    pays = joint_action == branch
    if good_branches == 2:
        pays &= (branch == 0) | (branch == 3)
    reward = pays.astype(jnp.float32)
    if m == 1:
        return reward
    final = jnp.where(joint_action == 3, 1.0 + FINAL_BONUS, 1.0)
    return jnp.where((step_count == m - 1) & (branch == 0), final, reward)


class MStepMatrixGame(Environment[State, specs.MultiDiscreteArray, Observation]):
    """Two agents and two actions; the first joint action opens one of four branches.

    - observation: `Observation`; both agents see the global state.
    - action: int32 [2], one action (0 or 1) for each agent.
    - reward: float32 [], one for the team; see `payoff`.
    - termination: when a step pays 0, and at step m. There is no truncation.
    - extras: "branch_0" to "branch_3", float32 [], a one-hot of the branch that the first joint
      action opened, all zeros before it.

    An ended episode is absorbing: stepping on leaves the state alone and pays 0 at discount 0.

    Source: MAVEN, Mahajan et al. 2019, section on m-step matrix games.

    Example:
        >>> env = MStepMatrixGame(m=10)
        >>> state, timestep = jax.jit(env.reset)(jax.random.key(0))
        >>> state, timestep = jax.jit(env.step)(state, env.action_spec.generate_value())
    """

    num_agents = 2
    num_actions = 2

    def __init__(
        self, m: int = 10, good_branches: int = 2, viewer: Viewer[State] | None = None
    ) -> None:
        """Checks and fixes the size of the game.

        Args:
            m: length of the game in steps, 1 to 10,000.
            good_branches: how many branches pay: 2 (branches 0 and 3) or 4.
            viewer: draws the game; `MStepMatrixViewer` on screen if None.

        Raises:
            ValueError: if `m` or `good_branches` is not one of the values above.
        """
        if isinstance(m, bool) or not isinstance(m, int) or not 1 <= m <= MAX_STEPS:
            raise ValueError(f"m must be an integer from 1 to {MAX_STEPS}, got {m!r}")
        if isinstance(good_branches, bool) or good_branches not in GOOD_BRANCHES:
            raise ValueError(f"good_branches must be one of {GOOD_BRANCHES}, got {good_branches!r}")
        self.m = m
        self.good_branches = good_branches
        self.time_limit = m
        self._viewer = viewer
        super().__init__()

    def __repr__(self) -> str:
        return f"MStepMatrixGame(m={self.m}, good_branches={self.good_branches})"

    @property
    def optimal_return(self) -> float:
        """Best undiscounted return: m + 3 on branch 0, or 1 if m = 1."""
        return 1.0 if self.m == 1 else self.m + FINAL_BONUS

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode; every episode starts alike.

        Args:
            key: kept in the state, as jumanji asks; nothing is drawn from it.

        Returns:
            The initial state and its time step.
        """
        state = State(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            branch=jnp.full((), -1, jnp.int32),
            joint_actions=jnp.full((self.m,), -1, jnp.int32),
            done=jnp.zeros((), bool),
        )
        return state, restart(self._observe(state), self._extras(state))

    def step(self, state: State, action: Int[Array, "N"]) -> tuple[State, TimeStep[Observation]]:
        """Plays one joint action; harmless once the episode has ended.

        Args:
            state: the state to act in.
            action: action of each agent, 0 or 1.

        Returns:
            The next state and its time step.
        """
        joint_action = (2 * action[0] + action[1]).astype(jnp.int32)
        branch = jnp.where(state.step_count == 0, joint_action, state.branch)
        paid = payoff(
            state.step_count, branch, joint_action, m=self.m, good_branches=self.good_branches
        )
        reward = jnp.where(state.done, 0.0, paid)
        now = (jnp.arange(self.m) == state.step_count) & ~state.done
        step_count = jnp.where(state.done, state.step_count, state.step_count + 1)
        done = (reward == 0) | (step_count == self.m)
        state = State(
            key=state.key,
            step_count=step_count,
            branch=branch,
            joint_actions=jnp.where(now, joint_action, state.joint_actions),
            done=done,
        )
        observation, extras = self._observe(state), self._extras(state)
        timestep = jax.lax.cond(
            done,
            lambda: termination(reward, observation, extras),
            lambda: transition(reward, observation, extras=extras),
        )
        return state, timestep

    def _observe(self, state: State) -> Observation:
        global_state = jax.nn.one_hot(state.step_count, self.m + 1, dtype=jnp.float32)
        if self.m > 1:
            branch = jnp.maximum(state.branch, 0)
            branch = jax.nn.one_hot(branch, NUM_BRANCHES, dtype=jnp.float32)
            global_state = jnp.concatenate([global_state, branch])
        return Observation(
            agents_view=jnp.broadcast_to(global_state, (self.num_agents, *global_state.shape)),
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            global_state=global_state,
            step_count=state.step_count,
        )

    def _extras(self, state: State) -> dict[str, Float32[Array, ""]]:
        return {f"branch_{i}": (state.branch == i).astype(jnp.float32) for i in range(NUM_BRANCHES)}

    @cached_property
    def observation_spec(self) -> specs.Spec[Observation]:
        """Spec of `Observation`: its shapes, dtypes and bounds."""
        num_features = 2 if self.m == 1 else self.m + 1 + NUM_BRANCHES
        return specs.Spec(
            Observation,
            "ObservationSpec",
            agents_view=specs.BoundedArray(
                (self.num_agents, num_features), jnp.float32, 0.0, 1.0, "agents_view"
            ),
            action_mask=specs.BoundedArray(
                (self.num_agents, self.num_actions), bool, False, True, "action_mask"
            ),
            global_state=specs.BoundedArray((num_features,), jnp.float32, 0.0, 1.0, "global_state"),
            step_count=specs.BoundedArray((), jnp.int32, 0, self.m, "step_count"),
        )

    @cached_property
    def action_spec(self) -> specs.MultiDiscreteArray:
        """Spec of the joint action: one of two actions for each of two agents, int32 [2]."""
        return specs.MultiDiscreteArray(
            jnp.full((self.num_agents,), self.num_actions, jnp.int32), jnp.int32, "action"
        )

    def render(self, state: State) -> NDArray[np.uint8] | None:
        """Draws the game tree and the path taken.

        Args:
            state: the state to draw.

        Returns:
            The image [height, width, 4] if the viewer's mode is "rgb_array", else None.
        """
        return self._get_viewer().render(state)

    def animate(
        self, states: Sequence[State], interval: int = 200, save_path: str | None = None
    ) -> FuncAnimation:
        """Animates an episode.

        Args:
            states: its states, one a frame.
            interval: milliseconds between frames.
            save_path: file to write the animation to, if any.

        Returns:
            The animation.
        """
        return self._get_viewer().animate(states, interval, save_path)

    def close(self) -> None:
        """Closes the viewer's figure, if there is one."""
        if self._viewer is not None:
            self._viewer.close()

    def _get_viewer(self) -> Viewer[State]:
        if self._viewer is None:
            from maven_jax.envs.m_step_matrix.viewer import MStepMatrixViewer

            self._viewer = MStepMatrixViewer(self.m, self.good_branches)
        return self._viewer
