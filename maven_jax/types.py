"""Every pytree that crosses a module, and the environment protocol the learner relies on.

Shape legend, used in the whole library: `B` batch, `T` time, `E` parallel environments, `N` agents,
`A` actions, `O` features of an agent's view, `S` features of the global state, `Z` latent size.
`T1` is `T + 1`. In the learner arrays are time-major (`T B ...`), an episode at rest is `T ...`.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, Key, Num, PyTree

ScalarKey: TypeAlias = Key[Array, ""]
Metrics: TypeAlias = dict[str, Array]
NetworkParams: TypeAlias = PyTree
"""A tree of weights: device or host arrays, or their shapes."""


@runtime_checkable
class Observation(Protocol):
    """What an environment shows in `timestep.observation`; a NamedTuple in practice."""

    @property
    def agents_view(self) -> Num[Array, "N O"]: ...

    @property
    def action_mask(self) -> Bool[Array, "N A"]: ...

    @property
    def global_state(self) -> Num[Array, "S"]: ...


@runtime_checkable
class TimeStep(Protocol):
    """jumanji's `TimeStep`: team `reward`, and `discount` 0 at a true end, 1 at a time limit.

    `extras` is a flat dict of scalars; evaluation reports each at the episode's last step.
    """

    @property
    def observation(self) -> Any: ...

    @property
    def reward(self) -> Float[Array, ""]: ...

    @property
    def discount(self) -> Float[Array, ""]: ...

    @property
    def extras(self) -> dict[str, Array] | None: ...

    def last(self) -> Bool[Array, ""]: ...


@runtime_checkable
class MarlEnv(Protocol):
    """A cooperative environment: jumanji's pure `reset` and `step`, one reward for the team."""

    @property
    def num_agents(self) -> int: ...

    @property
    def num_actions(self) -> int: ...

    @property
    def time_limit(self) -> int: ...

    def reset(self, key: ScalarKey, /) -> tuple[Any, Any]: ...

    def step(self, state: Any, action: Int[Array, "N"], /) -> tuple[Any, Any]: ...


class EnvSpec(NamedTuple):
    """The sizes that shape every network."""

    num_agents: int
    num_actions: int
    view_size: int
    state_size: int
    time_limit: int


class Episodes(NamedTuple):
    """A row of `T + 1` slots: one episode, padded, or several laid end to end.

    A slot holds what was seen and, but for the last of a row, the step that was then taken. An
    episode of n steps takes n + 1 slots: the last one shows what came after its last step, and no
    step is taken there. Steps that were not taken, and all that pads a row, are zeros. In a batch
    the axes are `B T ...` in the replay, `T B ...` in the learner. Views and states are in the
    environment's own dtype, as they are replayed; see `episodes.as_floats`.

    With one episode a row `T` is the time limit, `first` is None and z stands once. With several,
    an episode that its row's end cuts off is like one that its time limit cuts: it has a last slot
    and a `discount` of 1 before it.
    """

    agents_view: Num[Array, "T+1 N O"]
    action_mask: Bool[Array, "T+1 N A"]
    global_state: Num[Array, "T+1 S"]
    actions: Int[Array, "T N"]
    reward: Float[Array, "T"]
    discount: Float[Array, "T"]
    """0 where an episode truly ended, 1 at its other steps, one cut by a time limit included."""
    mask: Bool[Array, "T"]
    """Whether a step was really taken."""
    latent: Float[Array, "Z"] | Float[Array, "T+1 Z"] | Int[Array, "T+1"]
    """z: of the one episode; or at every slot, in a replay as the index of a one-hot z."""
    first: Bool[Array, "T+1"] | None = None
    """Where an episode's first slot is; None where the row is one episode."""


class LatentOutcome(NamedTuple):
    """What the latent policy learns from: where an episode began, its z, what it returned."""

    initial_state: Float[Array, "S"]
    latent: Float[Array, "Z"]
    episode_return: Float[Array, ""]


class Params(NamedTuple):
    """Weights trained on the Q-learning and mutual information losses (phi, eta, psi and v)."""

    agent: NetworkParams
    mixer: NetworkParams
    discriminator: NetworkParams


class Moments(NamedTuple):
    """Of TD targets, in units of the reward; networks output (value - mean) / sqrt(variance)."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]


class TrainState(NamedTuple):
    """The whole of a run: one seed, or many with a leading axis on every leaf."""

    params: Params
    target_params: Params
    opt_state: Any
    latent_params: NetworkParams
    latent_opt_state: Any
    replay: Any
    """flashbax item buffer of `Episodes`: a row an item."""
    latent_replay: Any
    """flashbax item buffer of `LatentOutcome`; None where no latent policy learns."""
    key: ScalarKey
    num_updates: Int[Array, ""]
    env_steps: Int[Array, ""]
    """Environment steps really taken: episodes end early, so seeds differ."""
    diverged: Bool[Array, ""]
    """The weights diverged: the run is frozen at its last finite state."""
    moments: Moments | None
    """Running mean and variance of the TD targets, by which the outputs of `params` are normalised.
    None: outputs are in units of the reward."""
    target_moments: Moments | None
    """The same for `target_params`: copied or averaged with them."""
