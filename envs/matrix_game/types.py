"""State and observation of one-step matrix games.

Shapes: N agents, A actions.
"""

from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

if TYPE_CHECKING:  # https://github.com/python/mypy/issues/6239
    from dataclasses import dataclass
else:
    from chex import dataclass


@dataclass
class State:
    """Everything the game remembers.

    Attributes:
        key: the key given to `reset`; the game itself draws nothing.
        step_count: number of joint actions taken, 0 or 1.
        joint_action: the action that each agent took, -1 before.
    """

    key: PRNGKeyArray
    step_count: Int32[Array, ""]
    joint_action: Int32[Array, "N"]


class Observation(NamedTuple):
    """What the agents, and the mixer, are given: nothing to tell, so a constant.

    Attributes:
        agents_view: one 1 for each agent.
        action_mask: which actions are available: always all of them.
        global_state: one 1.
    """

    agents_view: Float32[Array, "N 1"]
    action_mask: Bool[Array, "N A"]
    global_state: Float32[Array, "1"]
