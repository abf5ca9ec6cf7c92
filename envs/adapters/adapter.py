"""What all adapters share: one team reward, and a time limit that is not an end."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from jumanji.types import TimeStep, restart, transition, truncation
from matplotlib.animation import FuncAnimation

from maven_jax.envs.adapters.types import Observation, State

T = TypeVar("T")

LARGEST_REWARD = 1e6
"""Of options that are rewards or penalties: sums over an episode keep their single precision."""


class Advance(NamedTuple):
    """One step of a wrapped environment.

    Attributes:
        env_state: its next state.
        rewards: of the team, or of each agent.
        ended: whether the episode truly ended; a time limit is no end.
    """

    env_state: Any
    rewards: Float[Array, "*N"]
    ended: Bool[Array, ""]


def _in_default_modes(method: Callable[..., T]) -> Callable[..., T]:
    """Few of the wrapped environments can be traced in JAX's 64-bit or strict modes."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> T:
        with (
            jax.enable_x64(False),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            return method(*args, **kwargs)

    return call


def _traced_once(method: Callable[..., T]) -> Callable[..., T]:
    """`_in_default_modes`, and traced once for all loops that step an environment.

    The wrapped environments take seconds to trace, and a training program plays in several loops.
    """
    return _in_default_modes(jax.jit(method, static_argnums=0))


def _records_options(init: Callable[..., None]) -> Callable[..., None]:
    """Sets `Adapter.options`; that of a subclass is set after its parent's."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *options = bound.arguments.items()
        self.options = dict(options)

    return call


class Adapter:
    """A wrapped environment as a `MarlEnv`: pure `reset` and `step`, team reward, discount.

    The wrapped environment is given a time limit that it never reaches, and the adapter counts the
    steps itself. So whatever it does at its limit, the truth is known: `discount` is 0 where the
    episode ended by itself, 1 at every other step, the last one before the time limit included.

    - reward: the sum of the agents' rewards where each has its own.
    - extras: scalars of the episode so far; see `_extras` of each adapter.

    Attributes:
        num_agents: `N`.
        num_actions: `A`.
        time_limit: steps after which an episode is cut.
        env: the wrapped environment.
        options: what the constructor was given, defaults included.
    """

    num_agents: int
    num_actions: int
    time_limit: int
    env: Any
    options: dict[str, Any]

    def __init_subclass__(cls) -> None:
        """Constants are made in the mode that `reset` and `step` are traced in."""
        init = _records_options(_in_default_modes(cls.__init__))
        # By `setattr`, since mypy refuses an assignment to a method.
        setattr(cls, "__init__", init)  # noqa: B010

    @_traced_once
    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: of all draws of the episode.
        """
        key, reset_key = jax.random.split(key)
        env_state = _strongly_typed(self._start(reset_key))
        state = State(env_state, key, jnp.int32(0), jnp.float32(0))
        return state, restart(self._observe(env_state), self._extras(state))

    @_traced_once
    def step(self, state: State, action: Int[Array, "N"]) -> tuple[State, TimeStep[Observation]]:
        """Plays one joint action.

        Args:
            state: the state to act in.
            action: of each agent, 0 to `num_actions - 1`.
        """
        key, step_key = jax.random.split(state.key)
        env_state, rewards, ended = self._advance(step_key, state.env_state, action)
        env_state = _strongly_typed(env_state)
        reward = rewards.sum().astype(jnp.float32)
        state = State(env_state, key, state.step_count + 1, state.episode_return + reward)
        last = ended | (state.step_count >= self.time_limit)
        discount = 1 - ended.astype(jnp.float32)
        observation, extras = self._observe(env_state), self._extras(state)
        timestep = jax.lax.cond(
            last,
            lambda: truncation(reward, observation, discount, extras),
            lambda: transition(reward, observation, discount, extras),
        )
        return state, timestep

    def animate(
        self, states: Sequence[State], interval: int = 200, save_path: str = ""
    ) -> FuncAnimation:
        """Draws an episode with the wrapped environment's own viewer.

        Args:
            states: its states, one a frame.
            interval: milliseconds between frames.
            save_path: file to write, if any.
        """
        env_states = [state.env_state for state in states]
        return self.env.animate(env_states, interval, save_path or None)

    def _start(self, key: PRNGKeyArray) -> Any:
        raise NotImplementedError

    def _advance(self, key: PRNGKeyArray, env_state: Any, action: Int[Array, "N"]) -> Advance:
        raise NotImplementedError

    def _observe(self, env_state: Any) -> Observation:
        raise NotImplementedError

    def _extras(self, state: State) -> dict[str, Array]:
        raise NotImplementedError


def number(name: str, value: Any, low: float, high: float) -> float:
    """The value.

    Raises:
        ValueError: it is not a number from `low` to `high`.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; allowed: a number from {low:g} to {high:g}")
    return float(value)


def one_of(name: str, value: str, known: Mapping[str, T]) -> T:
    """What is known by that name.

    Raises:
        ValueError: nothing is.
    """
    if value not in known:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(sorted(known))}")
    return known[value]


def _strongly_typed(tree: Any) -> Any:
    """Arrays that Python numbers gave a weak type would make JAX trace `step` twice."""

    def strong(x: Array) -> Array:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return x if is_key else jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(strong, tree)


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """The value.

    Raises:
        ValueError: it is not a whole number from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; allowed: a whole number from {low} to {high}")
    return value
