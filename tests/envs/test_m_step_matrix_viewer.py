from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.m_step_matrix.viewer import MStepMatrixViewer

matplotlib.use("Agg")


def episode(env, joint_action):
    """States of an episode that repeats one joint action to the end."""
    state, _ = env.reset(jax.random.key(0))
    states = [state]
    while not states[-1].done:
        states.append(env.step(states[-1], jnp.array(joint_action))[0])
    return states


@pytest.mark.slow
@pytest.mark.parametrize(("m", "good_branches"), [(1, 2), (3, 2), (3, 4)])
def test_each_state_has_its_own_image(m, good_branches, tmp_path):
    viewer = MStepMatrixViewer(m, good_branches, render_mode="rgb_array")
    with MStepMatrixGame(m, good_branches, viewer=viewer) as env:
        for joint_action in ((0, 0), (0, 1), (1, 1)):
            states = episode(env, joint_action)
            images = [env.render(state).copy() for state in states]
            assert {(image.ndim, image.dtype) for image in images} == {(3, np.dtype(np.uint8))}
            assert all((a != b).any() for a, b in pairwise(images))
        path = tmp_path / "episode.gif"
        env.animate(states, interval=100, save_path=str(path))
        with Image.open(path) as saved:
            assert saved.n_frames == len(states)


def test_title_tells_step_and_return():
    viewer = MStepMatrixViewer(3, 2, name="title", render_mode="rgb_array")
    env = MStepMatrixGame(3, viewer=viewer)
    state, _ = env.reset(jax.random.key(0))
    for action in [(0, 0), (0, 0), (1, 1)]:
        state, _ = env.step(state, jnp.array(action))
    env.render(state)
    ax = plt.figure("title").axes[0]
    assert ax.get_title(loc="left") == "step 3 of 3, return 6, ended"
    assert {"branch 1: dead end", "+4"} <= {text.get_text() for text in ax.texts}
    env.close()
    assert not plt.fignum_exists("title")


def test_image_is_saved(tmp_path):
    state, _ = MStepMatrixGame(3).reset(jax.random.key(0))
    path = tmp_path / "state.png"
    MStepMatrixViewer(3, 2, "saved", "rgb_array").render(state, str(path))
    assert path.stat().st_size > 0


def test_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        MStepMatrixViewer(3, 2, render_mode="nonsense")


def test_default_viewer_is_made_on_first_use(tmp_path):
    env = MStepMatrixGame(1)
    env.close()
    state, _ = env.reset(jax.random.key(0))
    path = tmp_path / "state.gif"
    env.animate([state], save_path=str(path))
    assert path.stat().st_size > 0
