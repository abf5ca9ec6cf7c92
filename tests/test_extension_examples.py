"""The templates for parts of your own do what they say, and each runs as a program."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.algorithms.objectives import Networks, q_learning_loss
from maven_jax.algorithms.table import ALGORITHMS, LATENTS, MIXERS
from maven_jax.config import Config, override
from maven_jax.functional.exploration import EXPLORATIONS
from maven_jax.networks.mixers import SumMixer
from maven_jax.types import EnvSpec, Episodes

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
TEMPLATES = (
    "own_algorithm",
    "own_environment",
    "own_exploration",
    "own_latent",
    "own_mixer",
)
SPEC = EnvSpec(num_agents=2, num_actions=3, view_size=4, state_size=5, time_limit=6)


@pytest.fixture(scope="module")
def load():
    """Loads an example as a module; what it registers is known until the module's end."""
    tables = ALGORITHMS, EXPLORATIONS, LATENTS, MIXERS
    before = [dict(table) for table in tables]

    def load_example(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load_example
    for table, rows in zip(tables, before, strict=True):
        for name in set(table) - set(rows):
            del table[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_runs_as_a_program(name):
    """It prints returns, which are finite."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    assert "NaN" not in ended.stdout


def test_the_mixer_is_monotonic_and_linear_in_the_utilities(load):
    load("own_mixer")
    mixer = ALGORITHMS.find("weighted").mixer(Config(), SPEC)
    params = mixer.init_params(jax.random.key(0), SPEC, 2)
    state, z = jnp.arange(5.0), jnp.array([0.0, 1.0])

    def q_tot(utilities):
        return mixer.apply(params, utilities, state, z)

    slopes = jax.vmap(jax.grad(q_tot))(jax.random.normal(jax.random.key(1), (8, 2)))
    np.testing.assert_allclose(slopes, jnp.broadcast_to(slopes[0], slopes.shape), rtol=1e-6)
    assert (slopes > 0).all()


def test_the_latent_rules_no_value_out(load):
    """However sure the learnt distribution is."""
    example = load("own_latent")
    latent = example.FlooredLatent(size=4, hidden_size=8)
    params = jax.tree.map(lambda x: 100 * x, latent.init_params(jax.random.key(0), 5))
    probs = latent.distribution(params, jnp.ones(5)).probs
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(probs.min(), 0.2 / 4, rtol=1e-5)
    assert LATENTS.find("floored")(Config().latent).size == Config().latent.size


def test_one_agent_explores_at_a_time(load):
    """Half of the draws are the greedy action itself, as there are two legal ones."""
    load("own_exploration")
    q_values = jnp.broadcast_to(jnp.array([1.0, 0.0, 2.0]), (4000, 3, 3))
    legal = jnp.broadcast_to(jnp.array([True, True, False]), q_values.shape)
    for epsilon, share in ((0.0, 0.0), (1.0, 0.5), (0.5, 0.25)):
        act = EXPLORATIONS.find("one_at_a_time")(epsilon, 1.0)
        explored = jax.jit(act)(jax.random.key(0), q_values, legal) != 0
        assert explored.sum(-1).max() <= 1
        np.testing.assert_allclose(explored.any(-1).mean(), share, atol=0.03)
        np.testing.assert_allclose(explored.mean(0), share / 3, atol=0.03)


def test_the_loss_weighs_bad_news_less(load):
    """With weight 1 it is VDN's loss; a target below the value counts for a tenth."""
    example = load("own_algorithm")
    rng = np.random.default_rng(0)
    q_values = jnp.array(rng.normal(size=(4, 1, 2, 3)), jnp.float32)
    batch = Episodes(
        agents_view=jnp.zeros((4, 1, 2, 4)),
        action_mask=jnp.ones((4, 1, 2, 3), bool),
        global_state=jnp.zeros((4, 1, 5)),
        actions=jnp.array(rng.integers(0, 3, (3, 1, 2))),
        reward=jnp.zeros((3, 1)),
        discount=jnp.array([[1.0], [0.0], [0.0]]),
        mask=jnp.array([[True], [True], [False]]),
        latent=jnp.zeros((1, 0)),
    )
    networks, config = Networks(q_values, {}), override(Config(), {"training": {"double_q": False}})

    def of(loss, reward):
        rewards = jnp.full((3, 1), reward)
        arguments = SumMixer(), networks, networks, rewards, batch, config.hyperparameters, config
        return loss(*arguments)[0]

    good, bad = (float(of(q_learning_loss, reward)) for reward in (50.0, -50.0))
    assert float(of(example.hysteretic_loss, 50.0)) == pytest.approx(good, rel=1e-5)
    assert float(of(example.hysteretic_loss, -50.0)) == pytest.approx(0.1 * bad, rel=1e-5)
