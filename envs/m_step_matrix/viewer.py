"""Drawing of the m-step matrix game as a tree."""

from collections.abc import Sequence

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jumanji.viewer import MatplotlibViewer
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from maven_jax.envs.m_step_matrix.env import NUM_BRANCHES, payoff
from maven_jax.envs.m_step_matrix.types import State

Point = tuple[float, float]

INCHES = 0.8  # per unit of the drawing, which is one step
ROW_GAP = 1.5
CELL = 0.62
ROOT: Point = (0.0, ROW_GAP * (NUM_BRANCHES - 1) / 2)

IDLE, TAKEN, DEAD, TEXT = "#c3c9d0", "#0072b2", "#d55e00", "#3a4149"


class MStepMatrixViewer(MatplotlibViewer[State]):
    """Draws the root, a row of m nodes for each branch, and the path of an episode.

    The joint action that opens a branch, and that must be repeated on it, stands on the edge from
    the root. A cross marks an end that pays 0. At the last step of branch 0 stands its payoff
    table. Each step on the path shows its reward.
    """

    def __init__(
        self,
        m: int,
        good_branches: int,
        name: str = "MStepMatrixGame",
        render_mode: str = "human",
    ) -> None:
        """Lays out the tree.

        Args:
            m: length of the game in steps.
            good_branches: how many branches pay, 2 or 4.
            name: name of the figure.
            render_mode: "human" (on screen) or "rgb_array".

        Raises:
            ValueError: if `render_mode` is neither of these.
        """
        self.m = m
        steps, branches, joint_actions = jnp.indices((m, NUM_BRANCHES, NUM_BRANCHES))
        self._payoffs = np.asarray(
            payoff(steps, branches, joint_actions, m=m, good_branches=good_branches)
        )
        self._xlim = (-0.5, m + 2.6)
        self._ylim = (-1.9, ROW_GAP * (NUM_BRANCHES - 1) + 1.1)
        width, height = np.ptp(self._xlim), np.ptp(self._ylim)
        super().__init__(name, render_mode, (INCHES * width, INCHES * height))

    def render(self, state: State, save_path: str | None = None) -> NDArray[np.uint8] | None:
        """Draws a state.

        Args:
            state: the state to draw.
            save_path: file to write the image to, if any.

        Returns:
            The image [height, width, 4] if the mode is "rgb_array", else None.
        """
        self._clear_display()
        fig, ax = self._get_fig_ax(show=self._display == self._display_human, padding=0.01)
        self._draw(ax, state)
        if save_path is not None:
            fig.savefig(save_path)
        return self._display(fig)

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
        fig, ax = self._get_fig_ax("_animation", show=False, padding=0.01)
        plt.close(fig)
        self._animation = FuncAnimation(
            fig, lambda state: self._draw(ax, state), frames=states, interval=interval
        )
        if save_path is not None:
            self._animation.save(save_path)
        return self._animation

    def _draw(self, ax: Axes, state: State) -> tuple[Axes]:
        ax.clear()
        ax.set(xlim=self._xlim, ylim=self._ylim, aspect="equal")
        ax.set_axis_off()
        for branch in range(NUM_BRANCHES):
            self._draw_branch(ax, branch)
        self._draw_scale(ax)
        self._draw_path(ax, state)
        return (ax,)

    def _draw_branch(self, ax: Axes, branch: int) -> None:
        y = _row(branch)
        _edge(ax, ROOT, (1.0, y), IDLE)
        _write(ax, (0.55, ROOT[1] + 0.55 * (y - ROOT[1])), _actions(branch), background="white")
        if self._payoffs[0, branch, branch] == 0:
            _cross(ax, (1.0, y), IDLE)
            _write(ax, (1.4, y), f"branch {branch}: dead end", ha="left")
            return
        has_table = self._has_table(branch)
        num_nodes = self.m - has_table
        _edge(ax, (1.0, y), (float(self.m), y), IDLE)
        ax.plot(range(1, num_nodes + 1), [y] * num_nodes, "o", color=IDLE, ms=11, zorder=3)
        if has_table:
            self._draw_table(ax)
        _write(ax, (self.m + (0.8 if has_table else 0.4), y), f"branch {branch}", ha="left")

    def _draw_table(self, ax: Axes) -> None:
        for joint_action in range(NUM_BRANCHES):
            x, y = self._cell(joint_action)
            self._draw_cell(ax, joint_action, "white", IDLE)
            _write(ax, (x, y + 0.14 * CELL), f"{self._payoffs[-1, 0, joint_action]:g}")
            _write(ax, (x, y - 0.28 * CELL), _actions(joint_action), size=6.5)

    def _draw_cell(self, ax: Axes, joint_action: int, face: str, edge: str) -> None:
        x, y = self._cell(joint_action)
        corner = (x - CELL / 2, y - CELL / 2)
        ax.add_patch(Rectangle(corner, CELL, CELL, facecolor=face, edgecolor=edge, lw=2, zorder=3))

    def _draw_scale(self, ax: Axes) -> None:
        for step in range(self.m + 1):
            _write(ax, (float(step), -1.3), str(step), size=8.0)
        _write(ax, (self.m + 0.4, -1.3), "steps taken", ha="left", size=8.0)
        if self.m > 1:
            rule = "Leaving the branch pays 0 and ends the episode."
            _write(ax, (-0.1, -1.7), rule, ha="left", size=8.0)

    def _draw_path(self, ax: Axes, state: State) -> None:
        taken = np.asarray(state.joint_actions)[: int(state.step_count)]
        branch = int(state.branch)
        ax.plot(*ROOT, "o", color=TAKEN, ms=13, zorder=4)
        here = ROOT
        for step, joint_action in enumerate(taken.tolist()):
            here = self._draw_step(ax, here, step, branch, joint_action)
        total = self._payoffs[np.arange(len(taken)), branch, taken].sum()
        title = f"step {len(taken)} of {self.m}, return {total:g}"
        ax.set_title(title + ", ended" * bool(state.done), color=TEXT, loc="left")

    def _draw_step(self, ax: Axes, here: Point, step: int, branch: int, joint_action: int) -> Point:
        reward = self._payoffs[step, branch, joint_action]
        colour = TAKEN if reward else DEAD
        there = (step + 1.0, _row(branch))
        label, offset = f"+{reward:g}", (0.15 if step == 0 else 0.0, 0.35)
        if step == self.m - 1 and self._has_table(branch):
            self._draw_cell(ax, joint_action, "#d6e9f5", colour)
            _edge(ax, here, (self.m - CELL, there[1]), colour)
            offset = (0.0, CELL + 0.25)
        elif reward:
            _edge(ax, here, there, colour)
            ax.plot(*there, "o", color=colour, ms=11, zorder=4)
        else:
            if step > 0:
                there = (here[0] + 0.5, here[1] - 0.55)
                label, offset = f"{_actions(joint_action)}: {label}", (0.0, -0.35)
            _edge(ax, here, there, colour)
            _cross(ax, there, colour)
        _write(ax, (there[0] + offset[0], there[1] + offset[1]), label, colour)
        return there

    def _has_table(self, branch: int) -> bool:
        return self.m > 1 and branch == 0

    def _cell(self, joint_action: int) -> Point:
        """Centre of a joint action's cell in the payoff table of branch 0."""
        row, column = divmod(joint_action, 2)
        return self.m + CELL * (column - 0.5), _row(0) + CELL * (0.5 - row)


def _row(branch: int) -> float:
    return ROW_GAP * (NUM_BRANCHES - 1 - branch)


def _actions(joint_action: int) -> str:
    return f"({joint_action // 2}, {joint_action % 2})"


def _edge(ax: Axes, start: Point, end: Point, colour: str) -> None:
    ax.plot(*zip(start, end, strict=True), color=colour, lw=2, zorder=2)


def _cross(ax: Axes, at: Point, colour: str) -> None:
    ax.plot(*at, "X", color=colour, ms=13, zorder=4)


def _write(
    ax: Axes,
    at: Point,
    text: str,
    colour: str = TEXT,
    ha: str = "center",
    size: float = 10.0,
    background: str = "none",
) -> None:
    box = {"facecolor": background, "edgecolor": "none", "pad": 1.5}
    ax.text(*at, text, color=colour, ha=ha, va="center", size=size, bbox=box, zorder=5)
