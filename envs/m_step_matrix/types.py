"""State and observation of the m-step matrix game.

Shapes: m steps, N = 2 agents, A = 2 actions, F features (2 if m = 1, else m + 5).
A joint action (u0, u1) is counted as 2 * u0 + u1, which is also the branch it opens.
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
        step_count: number of joint actions taken, at most m.
        branch: the first joint action, -1 before it.
        joint_actions: the joint action of each step, -1 where none was taken.
        done: whether the episode has ended.
    """

    key: PRNGKeyArray
    step_count: Int32[Array, ""]
    branch: Int32[Array, ""]
    joint_actions: Int32[Array, "m"]
    done: Bool[Array, ""]


class Observation(NamedTuple):
    """What the agents, and the mixer, are given.

    Attributes:
        agents_view: what each agent sees: the global state itself.
        action_mask: which actions are available: always all of them.
        global_state: one-hot step (m + 1), then one-hot branch (4; branch 0 before the
            first move). With m = 1 there is no branch.
        step_count: number of joint actions taken.
    """

    agents_view: Float32[Array, "N F"]
    action_mask: Bool[Array, "N A"]
    global_state: Float32[Array, "F"]
    step_count: Int32[Array, ""]
