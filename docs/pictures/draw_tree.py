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

STEPS, NUM_Z, SEED, ROW_GAP = 10_000, 8, 0, 1.3
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#444444"]
NOTES = "1 a step, and 4 at the end for one joint action", "0", "0", "1 a step"
ENV = MStepMatrixGame(m=10)


def train():
    """Environment steps, joint actions `[Z m]` (-1: none) and returns `[Z]` at each evaluation."""
    training = {"total_env_steps": STEPS, "updates_per_evaluation": 20}
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
    ax.set(xlim=(-0.3, 12.2), ylim=(-0.8, 3 * ROW_GAP + 0.8))
    ax.set_axis_off()
    for branch, (end, note) in enumerate(zip((10, 1, 1, 10), NOTES, strict=True)):
        y = (3 - branch) * ROW_GAP
        line = {"color": "#e4e7eb", "lw": 14, "solid_capstyle": "round"}
        ax.plot([0, 1, end], [1.5 * ROW_GAP, y, y], **line)
        ax.text(1.6, y + 0.56 * (end > 1), f"branch {branch}: pays {note}", va="center", size=9)
    for z, path in enumerate(joint_actions):
        taken = path[path >= 0]
        y = (3 - taken[0]) * ROW_GAP + 0.115 * (3.5 - z)
        ax.plot([0, *range(1, len(taken) + 1)], [1.5 * ROW_GAP] + [y] * len(taken), color=COLORS[z])
        label = f"z = {z}: {returns[z]:g}"
        ax.text(len(taken) + 0.15, y, label, color=COLORS[z], va="center", size=7.5)
    ax.set_title(f"{env_steps:,} environment steps: the path and return of each z", size=11)


if __name__ == "__main__":
    frames = list(train())
    figure, axes = plt.subplots(figsize=(8, 4.2), dpi=90, layout="tight")
    frames += frames[-1:] * 12
    animation = FuncAnimation(figure, lambda frame: draw(axes, *frame), frames=frames)
    animation.save(Path(__file__).with_name("z_tree.gif"), writer=PillowWriter(fps=5))
