"""Draws z_tree.gif: the branch of the 10-step game that each z of MAVEN team chooses.

    python docs/pictures/draw_tree.py        # some minutes on two CPU cores

One seed is trained. After each evaluation every z plays one greedy episode, which is one frame.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

from maven_jax import load_config, make_trainer, override
from maven_jax.acting.rollout import env_spec, rollout, start_episodes
from maven_jax.algorithms.table import make_algorithm
from maven_jax.envs import MStepMatrixGame
from maven_jax.functional.exploration import act_greedily

STEPS, NUM_Z, SEED = 10_000, 8, 0
ROWS, NOTE_ROWS = (3.9, 2.4, 1.6, 0.1), (5.1, 2.4, 1.6, -1.1)
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#444444"]
NOTES = "pays 1 a step, and 4 at the end for one joint action", "pays 0", "pays 0", "pays 1 a step"
ENV = MStepMatrixGame(m=10)


def train():
    """Environment steps, joint actions `[Z m]` (-1: none) and returns `[Z]` at each evaluation."""
    training = {"total_env_steps": STEPS, "updates_per_evaluation": 40}
    evaluation = {"episodes": 1, "episodes_per_latent": 1}
    changes = {"training": training, "evaluation": evaluation}
    config = override(load_config("maven_team"), changes)
    agent, trainer = make_algorithm(config, env_spec(ENV)).agent, make_trainer(config, ENV)

    @jax.jit
    def play(params):
        key = jax.random.key(0)
        start = start_episodes(ENV, key, NUM_Z)
        played = rollout(ENV, agent, params, key, start, jnp.eye(NUM_Z), act_greedily)
        return played.env_states.joint_actions[-1], played.episodes.reward.sum(0)

    state = trainer.init(jax.random.key(SEED), config.hyperparameters)
    chunk = jax.jit(trainer.chunk)
    yield int(state.env_steps), *map(np.asarray, play(state.params.agent))
    while not trainer.finished(state):
        state, _ = chunk(state, config.hyperparameters)
        yield int(state.env_steps), *map(np.asarray, play(state.params.agent))


def draw(ax, env_steps, joint_actions, returns):
    """The tree in grey, and the path of each z up to where its episode ends."""
    ax.clear()
    ax.set(xlim=(-0.2, 11.6), ylim=(-1.3, 5.3))
    ax.set_axis_off()
    for branch, (y, note_y, note) in enumerate(zip(ROWS, NOTE_ROWS, NOTES, strict=True)):
        ax.plot([0, 1, 10 if branch in (0, 3) else 1], [2, y, y], color="#d5dae0", lw=5)
        ax.text(2.2, note_y, f"branch {branch} {note}", va="center", size=10, color="#555555")
    for z, path in enumerate(joint_actions):
        taken, same = path[path >= 0], np.flatnonzero(joint_actions[:, 0] == path[0])
        y = ROWS[taken[0]] + 0.23 * ((len(same) - 1) / 2 - np.searchsorted(same, z))
        ax.plot([0, *range(1, len(taken) + 1)], [2] + [y] * len(taken), color=COLORS[z], lw=1.6)
        style = {"color": COLORS[z], "va": "center", "size": 9}
        style["weight"] = "bold" if returns[z] == 13 else "normal"
        ax.text(len(taken) + 0.15, y, f"z = {z}: {returns[z]:g}", **style)
    ax.set_title(f"{env_steps:,} environment steps: the path and the return of each z", size=12)


if __name__ == "__main__":
    frames = list(train())
    figure, axes = plt.subplots(figsize=(8, 4.4), dpi=90, layout="tight")
    frames += frames[-1:] * 12
    animation = FuncAnimation(figure, lambda frame: draw(axes, *frame), frames=frames)
    animation.save(Path(__file__).with_name("z_tree.gif"), writer=PillowWriter(fps=5))
