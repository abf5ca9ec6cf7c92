"""One-step cooperative games: all agents act once and share the payoff of their joint action.

Sources of the tables stand at `PAYOFFS`.
"""

import difflib
import reprlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, PRNGKeyArray
from jumanji import specs
from jumanji.env import Environment
from jumanji.types import TimeStep, restart, termination
from numpy.typing import NDArray

from maven_jax.envs.matrix_game.types import Observation, State

PAYOFFS: dict[str, list[list[float]]] = {
    "non_monotonic": [[10.4, 0.0, 10.0], [0.0, 10.0, 10.0], [10.0, 10.0, 10.0]],
    "qtran": [[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]],
    "penalty": [[-100.0, 0.0, 10.0], [0.0, 2.0, 0.0], [10.0, 0.0, -100.0]],
    "climbing": [[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]],
}
"""Payoffs of the named games, `[action of agent 0][action of agent 1]`.

- non_monotonic: MAVEN, Mahajan et al. 2019, table 1.
- qtran: QTRAN, Son et al. 2019, section on the matrix game.
- penalty, climbing: Claus and Boutilier 1998. The penalty is k = -100, the hardest of those that
  Papoudakis et al. 2021 compare algorithms on (0, -25, -50, -75 and -100).
"""


class MatrixGame(Environment[State, specs.MultiDiscreteArray, Observation]):
    """N agents choose one of A actions each, once.

    - observation: `Observation`, a constant.
    - action: int32 [N], one action (0 to A - 1) for each agent.
    - reward: float32 [], one for the team: `payoff[action[0], ..., action[N - 1]]`.
    - termination: after the first step. There is no truncation.
    - extras: "optimal", float32 [], 1 if the joint action taken has the best payoff, 0 if it has
      not or none was taken yet.

    An ended episode is absorbing: stepping on leaves the state alone and pays 0 at discount 0.

    Attributes:
        game: the name in `PAYOFFS`, None for a table given by its entries.
        payoff: the table, float64 with N axes of A entries; rewards are its float32 values.

    Example:
        >>> env = MatrixGame(payoff=[[1.0, 0.0], [0.0, 2.0]])
        >>> state, timestep = jax.jit(env.reset)(jax.random.key(0))
        >>> state, timestep = jax.jit(env.step)(state, env.action_spec.generate_value())
    """

    time_limit = 1

    def __init__(
        self,
        game: str = "non_monotonic",
        payoff: Sequence[object] | ArrayLike | None = None,
    ) -> None:
        """Checks and fixes the payoff table.

        Args:
            game: a name in `PAYOFFS`; left alone if `payoff` is given.
            payoff: a table of the game's own: an array with one axis for each agent, or lists
                nested as deep, all of the same size A >= 1.

        Raises:
            ValueError: no game of that name, a game named beside a table, or a `payoff` that is
                not such a table of numbers that are finite in single precision.
        """
        if not isinstance(game, str) or game not in PAYOFFS:
            near = difflib.get_close_matches(str(game), PAYOFFS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"game must be one of {', '.join(PAYOFFS)}, got {game!r}{hint}")
        if payoff is not None and game != "non_monotonic":
            raise ValueError(
                f"game must be left out where payoff is given, got {game!r} and a payoff table"
            )
        self.game = game if payoff is None else None
        self.payoff = _table(PAYOFFS[game] if payoff is None else payoff)
        self.num_agents = self.payoff.ndim
        self.num_actions = self.payoff.shape[0]
        super().__init__()

    def __repr__(self) -> str:
        if self.game is not None:
            return f"MatrixGame(game={self.game!r})"
        return f"MatrixGame(payoff={self.payoff.tolist()!r})"

    @property
    def options(self) -> dict[str, object]:
        """What the constructor takes to make the same game."""
        if self.game is not None:
            return {"game": self.game}
        return {"payoff": self.payoff.tolist()}

    @property
    def optimal_return(self) -> float:
        """The best payoff."""
        return float(self.payoff.max())

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
            joint_action=jnp.full((self.num_agents,), -1, jnp.int32),
        )
        return state, restart(self._observe(), {"optimal": jnp.zeros((), jnp.float32)})

    def step(self, state: State, action: Int[Array, "N"]) -> tuple[State, TimeStep[Observation]]:
        """Plays the joint action; harmless once the episode has ended.

        Args:
            state: the state to act in.
            action: action of each agent, 0 to A - 1.

        Returns:
            The next state and its time step.
        """
        first = state.step_count == 0
        joint_action = jnp.where(first, action, state.joint_action).astype(jnp.int32)
        table = self.payoff.astype(np.float32).ravel()
        entry = self._entry(joint_action)
        reward = jnp.asarray(table)[entry]
        # Compared on the host: compiled for a CPU, the smallest numbers there are all equal 0.
        optimal = jnp.asarray(table == table.max(), jnp.float32)[entry]
        state = State(key=state.key, step_count=jnp.ones((), jnp.int32), joint_action=joint_action)
        reward = jnp.where(first, reward, 0.0)
        return state, termination(reward, self._observe(), {"optimal": optimal})

    def _entry(self, joint_action: Int[Array, "N"]) -> Int[Array, ""]:
        """Where the table, raveled, has a joint action."""
        strides = self.num_actions ** np.arange(self.num_agents, dtype=np.int32)[::-1]
        return (joint_action * strides).sum()

    def _observe(self) -> Observation:
        return Observation(
            agents_view=jnp.ones((self.num_agents, 1), jnp.float32),
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            global_state=jnp.ones((1,), jnp.float32),
        )

    @cached_property
    def observation_spec(self) -> specs.Spec[Observation]:
        """Spec of `Observation`: its shapes, dtypes and bounds."""
        return specs.Spec(
            Observation,
            "ObservationSpec",
            agents_view=specs.BoundedArray(
                (self.num_agents, 1), jnp.float32, 1.0, 1.0, "agents_view"
            ),
            action_mask=specs.BoundedArray(
                (self.num_agents, self.num_actions), bool, False, True, "action_mask"
            ),
            global_state=specs.BoundedArray((1,), jnp.float32, 1.0, 1.0, "global_state"),
        )

    @cached_property
    def action_spec(self) -> specs.MultiDiscreteArray:
        """Spec of the joint action: one of A actions for each of N agents, int32 [N]."""
        return specs.MultiDiscreteArray(
            jnp.full((self.num_agents,), self.num_actions, jnp.int32), jnp.int32, "action"
        )


def _table(payoff: Sequence[object] | ArrayLike) -> NDArray[np.float64]:
    """The checked table, read-only; as elsewhere, a number may be a string (YAML's 1e3 is)."""
    try:
        cells = np.array(payoff, dtype=object)
    except ValueError:  # numpy's, for some nestings that do not line up
        cells = np.array(None)
    nested = any(isinstance(cell, list | tuple | np.ndarray) for cell in cells.ravel())
    if nested or cells.ndim == 0 or cells.size == 0 or len(set(cells.shape)) > 1:
        raise ValueError(
            "payoff must be lists of numbers nested one level for each agent, all of the same "
            f"length, the number of actions, got {_short(payoff)}"
        )
    for place, cell in zip(np.ndindex(cells.shape), cells.ravel(), strict=True):
        if not np.isfinite(_single(cell)):
            raise ValueError(
                "payoff must hold numbers that are finite in single precision, "
                f"got {_short(cell)} at {list(place)}"
            )
    table = cells.astype(np.float64)
    table.flags.writeable = False
    return table


def _single(cell: Any) -> np.float32:
    """An entry in single precision, nan if it is no number."""
    if isinstance(cell, bool | np.bool_):
        return np.float32(np.nan)
    try:
        with np.errstate(over="ignore"):
            return np.float32(float(cell))
    except (TypeError, ValueError, OverflowError):
        return np.float32(np.nan)


def _short(value: object) -> str:
    """A value in an error of one line, however large it is."""
    return reprlib.repr(value.tolist() if isinstance(value, np.ndarray | jax.Array) else value)
