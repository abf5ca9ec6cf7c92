"""State and observation of every adapter.

Shapes: N agents, A actions, O features of an agent's view, S features of the global state.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float32, Int32, Num, PRNGKeyArray


class State(NamedTuple):
    """What an adapter remembers beside the wrapped environment.

    Attributes:
        env_state: the wrapped environment's own state.
        key: for the wrapped environment's draws in the steps to come.
        step_count: steps taken, which the time limit is counted by.
        episode_return: the sum of the team's rewards so far.
    """

    env_state: Any
    key: PRNGKeyArray
    step_count: Int32[Array, ""]
    episode_return: Float32[Array, ""]


class Observation(NamedTuple):
    """What the agents, and the mixer, are given; grids and counts as int8, to replay cheaply.

    Attributes:
        agents_view: what each agent sees.
        action_mask: which actions are legal.
        global_state: the whole state as features.
    """

    agents_view: Num[Array, "N O"]
    action_mask: Bool[Array, "N A"]
    global_state: Num[Array, "S"]
