"""The documentation's examples run, and show what they say."""

import importlib.util
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from small_experiments import SMALL

from maven_jax import (
    check_env,
    from_dict,
    load_example,
    make_train,
    override,
    to_dict,
)
from maven_jax.cli.main import run as command_line
from maven_jax.envs import MStepMatrixGame
from maven_jax.experiments.weights import read_weights

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_inside_another_pipeline():
    """One trace of the search; the weights are those of the best candidate."""
    make_search = load("embed_training").make_search
    search = jax.jit(chex.assert_max_traces(make_search(num_candidates=2, num_seeds=2), 1))
    for seed in range(2):
        rates, scores, params = search(jax.random.key(seed))
        assert ((rates > 1e-4) & (rates < 1e-2)).all()
        assert (np.isfinite(scores) & (scores >= 0) & (scores <= 6)).all()
        assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(params))
        chex.assert_tree_all_finite(params)


def test_an_environment_of_ones_own():
    """Nothing is wrong with it, and agents learn to meet, which random ones often do not."""
    env = load("own_environment").Rendezvous()
    assert check_env(env) == []
    training = {"total_env_steps": 8000, "batch_size": 16, "replay_size": 512, "num_envs": 8}
    training |= {"updates_per_round": 8, "updates_per_evaluation": 160}
    config = from_dict(
        {
            "algorithm": "vdn",
            "network": {"hidden_size": 16, "mixer_embed_size": 8},
            "training": training | {"target_update_interval": 40},
            "hyperparameters": {"learning_rate": 2e-3, "gamma": 0.9, "epsilon_steps": 4000},
            "evaluation": {"episodes": 64},
        }
    )
    state, metrics = jax.jit(make_train(config, env))(jax.random.key(0))
    assert metrics["extras/met"][-1] > 0.95
    assert state.replay.experience.agents_view.dtype == np.int8


def test_a_wrapped_environment():
    """Unequal agents are padded, rewards summed; learning works on it as on any."""
    jaxmarl = pytest.importorskip("jaxmarl", reason="its environments are what is wrapped")
    wrapped = jaxmarl.make("MPE_simple_speaker_listener_v4")
    env = load("wrapped_environment").Wrapped(wrapped, time_limit=25)
    assert check_env(env) == []
    state, first = jax.jit(env.reset)(jax.random.key(0))
    speaker, listener = wrapped.get_obs(state.env_state).values()
    view, mask, _ = first.observation
    np.testing.assert_array_equal(view, [jnp.pad(speaker, (0, 8)), listener])
    np.testing.assert_array_equal(mask, [[True] * 3 + [False] * 2, [True] * 5])
    after, second = jax.jit(env.step)(state, jnp.array([2, 1]))
    listener = after.env_state.p_pos[1]
    goal = after.env_state.p_pos[2 + after.env_state.goal]
    np.testing.assert_allclose(second.reward, -2 * ((listener - goal) ** 2).sum(), rtol=1e-5)
    config = from_dict({"algorithm": "qmix", "training": {"total_env_steps": 1000}})
    jax.eval_shape(make_train(config, env), jax.random.key(0))


def test_legal_actions_of_a_wrapped_environment():
    """Of Hanabi, whose agents play in turn: one has a single legal action, which does nothing."""
    jaxmarl = pytest.importorskip("jaxmarl", reason="its environments are what is wrapped")
    hanabi = jaxmarl.make("hanabi")
    env = load("wrapped_environment").Wrapped(hanabi, 60, hanabi.get_legal_moves)
    mask = jax.jit(env.reset)(jax.random.key(0))[1].observation.action_mask
    assert mask.shape == (2, 21)
    waits, plays = sorted(mask.sum(-1).tolist())
    assert waits == 1 < plays


def test_an_update_in_a_loop_of_ones_own():
    """The loss falls; an equal configuration is the same program, another one is not."""
    example = load("one_update")
    found = example.losses(jax.random.key(0), 20)
    assert found[-1] < found[0]
    assert example.jitted_update._cache_size() == 1
    same = from_dict(to_dict(example.CONFIG))
    assert example.losses(jax.random.key(1), 2, same)[0] > 0
    assert example.jitted_update._cache_size() == 1
    other = override(same, {"training": {"double_q": False}})
    assert example.losses(jax.random.key(1), 2, other)[0] > 0
    assert example.jitted_update._cache_size() == 2


def test_losses_with_networks_of_ones_own():
    """With the bound all z differ, without it about half do; both play well."""
    example = load("own_networks")
    keys = jax.random.split(jax.random.key(1), 32)
    train = jax.jit(jax.vmap(example.train, in_axes=(0, None)))
    differ, paid = {}, {}
    for weight in (0.0, 2.0):
        actions = jax.vmap(example.joint_actions)(train(keys, weight))
        differ[weight] = float((actions[:, 0] != actions[:, 1]).any(-1).mean())
        paid[weight] = float(example.PAYOFF[actions[..., 0], actions[..., 1]].mean())
    assert differ[2.0] == 1.0
    assert 0.2 < differ[0.0] < 0.8
    assert min(paid.values()) > 0.8


def test_a_callback_of_ones_own(tmp_path, monkeypatch):
    """It saves the weights of an evaluation, by the names that the run's own have."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "qmix.yaml").write_text(SMALL.format(algorithm="qmix"))
    named = ["--callback", "own_callback:BestWeights", "--no-tensorboard", "--seeds", "2"]
    out = ["--out", str(tmp_path / "run")]
    assert command_line(["train", str(tmp_path / "qmix.yaml"), *named, *out]) == 0
    sys.modules.pop("own_callback")
    final = read_weights(tmp_path / "run").arrays
    with np.load(tmp_path / "run" / "best.npz") as best:
        shapes = {f"params/{name}": best[name].shape for name in best}
    assert shapes == {
        name: x.shape for name, x in final.items() if not name.startswith("latent_params/")
    }


def test_a_search_by_optuna():
    """Every point is told; the best is the best of all lanes' means."""
    optuna = pytest.importorskip("optuna", reason="an extra that only `dev` installs")
    study = load("optuna_search").search(num_batches=2, num_points=3, num_seeds=2)
    states = {trial.state for trial in study.trials}
    assert states == {optuna.trial.TrialState.COMPLETE}
    assert len(study.trials) == 6
    assert study.best_value == max(trial.value for trial in study.trials)
    assert 0 <= study.best_value <= 6
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 6


def test_trained_agents_in_a_loop_of_ones_own():
    """The packaged agents play the 10-step game to the best return with the best z."""
    policy = load_example("maven_team").policy(seed=1)
    keys = jax.random.split(jax.random.key(0), 4)
    assert {load("trained_agents").play(policy, MStepMatrixGame(m=10), k) for k in keys} == {
        (13.0, 10)
    }


def test_the_picture_of_the_tree():
    """It shows the paths that the agents take, and what these return."""
    spec = importlib.util.spec_from_file_location(
        "draw_tree", EXAMPLES.parent / "pictures" / "draw_tree.py"
    )
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    env_steps, joint_actions, returns = next(example.train())
    assert env_steps >= 32
    env = MStepMatrixGame(m=10)
    for path, shown in zip(joint_actions, returns, strict=True):
        state, timestep = env.reset(jax.random.key(0))
        total = 0.0
        for joint_action in path[path >= 0]:
            state, timestep = env.step(state, jnp.array(divmod(joint_action, 2)))
            total += float(timestep.reward)
        assert timestep.last()
        assert total == shown
    axes = Figure().add_subplot()
    example.draw(axes, env_steps, joint_actions, returns)
    texts = {text.get_text() for text in axes.texts}
    assert {f"z = {z}: {shown:g}" for z, shown in enumerate(returns)} <= texts
