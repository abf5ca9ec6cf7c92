import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params

from maven_jax.networks.mixers import IndependentMixer, JointCritic, QMixer, SumMixer
from maven_jax.types import EnvSpec

SPEC = EnvSpec(num_agents=3, num_actions=2, view_size=5, state_size=4, time_limit=6)
LATENT_SIZE = 2


# Two agents, one state feature, one latent feature, embedding 1. At state 1 and z 2 the hyper-
# networks give w_1 = [1, -2], w_final = -1.5, b_1 = -1, V = 2 relu(1) + 0.25, w_skip = [1, -2].
TINY_PARAMS = {
    "params": {
        "hyper": {
            "kernel": jnp.array([[1.0, -1.0, 0.5, 0.0, 1.0], [0.0, -0.5, -1.0, 1.0, 0.0]]),
            "bias": jnp.array([0.0, 0.0, 0.0, -3.0, 0.0]),
        },
        "value": {"kernel": jnp.array([[2.0]]), "bias": jnp.array([0.25])},
        "skip": {"kernel": jnp.array([[1.0, 0.0], [0.0, -1.0]]), "bias": jnp.zeros(2)},
    }
}


@pytest.mark.parametrize(
    ("monotonic", "skip_connections", "state", "utilities", "expected"),
    [
        (True, False, 1.0, [1.0, -2.0], 1.5 * np.expm1(-4) + 2.25),
        (True, False, 1.0, [2.0, -2.0], 1.5 * np.expm1(-3) + 2.25),
        (True, True, 1.0, [1.0, -2.0], 1.5 * np.expm1(-4) + 2.25 - 3),
        (False, False, 1.0, [1.0, -2.0], -1.5 * 4 + 2.25),
        (False, False, 1.0, [2.0, -2.0], -1.5 * 5 + 2.25),
        (False, True, 1.0, [1.0, -2.0], -1.5 * 4 + 2.25 + 5),
        # w_1 = [-1, 0], w_final = -2.5, V = 2 relu(-1) + 0.25
        (True, False, -1.0, [3.0, 7.0], 2.5 * 2 + 0.25),
    ],
)
def test_joint_value_by_hand(variant, monotonic, skip_connections, state, utilities, expected):
    mixer = QMixer(1, skip_connections, monotonic)
    q_tot = variant(lambda *args: mixer.apply(TINY_PARAMS, *args))
    actual = q_tot(jnp.array(utilities), jnp.array([state]), jnp.array([2.0]))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_hypernetworks_with_a_hidden_layer_by_hand(variant):
    """At state 1 and z 2 their hidden layers are relu([1, -1]) and relu([-2, 3]), so w_1 = [2, -3]
    and w_final = 3 - 5; b_1 = 1 and V = 0.5 relu(1)."""
    params = {
        "params": {
            "hyper": {
                "kernel": jnp.array([[1.0, 1, 0, 1, 1, 1], [0.0, -1, -1, 1, 0, 0]]),
                "bias": jnp.zeros(6),
            },
            "hyper_w_1": {"kernel": jnp.array([[2.0, -3.0], [7.0, 7.0]]), "bias": jnp.zeros(2)},
            "hyper_w_final": {"kernel": jnp.array([[7.0], [1.0]]), "bias": jnp.array([-5.0])},
            "value": {"kernel": jnp.array([[0.5]]), "bias": jnp.zeros(1)},
        }
    }
    for monotonic, expected in ((True, 2 * 9 + 0.5), (False, -2 * np.expm1(2 - 6 + 1) + 0.5)):
        mixer = QMixer(1, monotonic=monotonic, hypernet_size=2)
        q_tot = variant(lambda *args, mixer=mixer: mixer.apply(params, *args))
        actual = q_tot(jnp.array([1.0, 2.0]), jnp.array([1.0]), jnp.array([2.0]))
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


PLAIN, SKIPPING, DEEP = QMixer(8), QMixer(8, skip_connections=True), QMixer(8, hypernet_size=5)


@pytest.mark.parametrize("mixer", [PLAIN, SKIPPING, DEEP], ids=["plain", "skipping", "deep"])
def test_raising_any_utility_never_lowers_the_joint_value(mixer):
    """Of 1,000 networks, each at inputs of its own."""
    keys = jax.random.split(jax.random.key(0), 1000)
    weights = random_params(lambda _: jax.vmap(lambda key: mixer.init_params(key, SPEC, 2))(keys))
    random = np.random.default_rng(1)
    sizes = SPEC.num_agents, SPEC.state_size, LATENT_SIZE
    utilities, *condition = (3 * np.float32(random.normal(size=(1000, n))) for n in sizes)
    q_tot = jax.jit(jax.vmap(mixer.apply))
    before = np.asarray(q_tot(weights, utilities, *condition))
    for agent in range(SPEC.num_agents):
        raised = utilities.copy()
        raised[:, agent] += random.uniform(0, 10, 1000)
        after = np.asarray(q_tot(weights, raised, *condition))
        assert (after >= before - 1e-5 * (1 + np.abs(before))).all()
        assert (after > before).mean() > 0.9


def test_a_small_mixer_starts_with_every_weight_smaller():
    draw = jax.jit(lambda key, mixer: mixer.init_params(key, SPEC, LATENT_SIZE), static_argnums=1)
    usual, small = (
        draw(jax.random.key(0), QMixer(8, skip_connections=True, init_scale=scale))
        for scale in (1.0, 0.25)
    )
    assert jax.tree.structure(usual) == jax.tree.structure(small)
    for large, little in zip(*map(jax.tree.leaves, (usual, small)), strict=True):
        np.testing.assert_allclose(little, 0.25 * large, rtol=1e-6)


def test_fresh_skip_connections_begin_near_the_sum_of_utilities():
    """Their bias is 1 whatever the key; at state and z of 0 each utility counts once in them."""
    draw = jax.jit(lambda key: SKIPPING.init_params(key, SPEC, LATENT_SIZE))
    params = [draw(jax.random.key(seed)) for seed in range(3)]
    skips = [weights["params"]["skip"] for weights in params]
    for skip in skips:
        np.testing.assert_array_equal(skip["bias"], np.ones(3))
        assert np.abs(skip["kernel"]).max() <= (SPEC.state_size + LATENT_SIZE) ** -0.5
    assert (skips[0]["kernel"] != skips[1]["kernel"]).all()
    inputs = jnp.array([1.0, -2.0, 4.0]), jnp.zeros(SPEC.state_size), jnp.zeros(LATENT_SIZE)
    with_skip, without = (mixer.apply(params[0], *inputs) for mixer in (SKIPPING, PLAIN))
    np.testing.assert_allclose(with_skip - without, 3, rtol=1e-5)


def test_sum_and_independent_mixers(variant):
    inputs = jnp.array([[1.0, -2.0, 4.0]]), jnp.ones((1, 4)), jnp.ones((1, 2))
    total = variant(lambda *args: SumMixer().apply({}, *args))(*inputs)
    np.testing.assert_allclose(total, [3.0])
    alone = variant(lambda *args: IndependentMixer().apply({}, *args))(*inputs)
    np.testing.assert_array_equal(alone, inputs[0])
    assert not jax.tree.leaves(SumMixer().init_params(jax.random.key(0), SPEC, LATENT_SIZE))


CRITIC = JointCritic(hidden_size=1, num_actions=2)
# One state feature, two agents, no latent: the critic reads state, 2 x 2 actions and the id.
CRITIC_PARAMS = {
    "params": {
        "q_hidden_0": {
            "kernel": jnp.array([[1.0], [10.0], [20.0], [30.0], [40.0], [100.0], [200.0]]),
            "bias": jnp.zeros(1),
        },
        "q_hidden_1": {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)},
        "q": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.array([0.0, 0.5])},
        "value_hidden": {"kernel": jnp.full((1, 1), -2.0), "bias": jnp.zeros(1)},
        "value": {"kernel": jnp.full((1, 1), 3.0), "bias": jnp.ones(1)},
    }
}


def test_joint_critic_by_hand(variant):
    """Agent 0 took action 1 and agent 1 took action 0; a row reads the other's action alone."""
    actions = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    critic = variant(lambda u, s: CRITIC.apply(CRITIC_PARAMS, u, s, jnp.zeros(0)))
    q_joint, value = critic(actions, jnp.array([-4.0]))
    first, second = -4 + 30 + 100 + 1, -4 + 20 + 200 + 1
    np.testing.assert_allclose(q_joint, [[first, 0.5 - first], [second, 0.5 - second]])
    np.testing.assert_allclose(value, 3 * 8 + 1)
    sizes = EnvSpec(num_agents=2, num_actions=2, view_size=1, state_size=1, time_limit=1)
    fresh = CRITIC.init_params(jax.random.key(0), sizes, 0)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, CRITIC_PARAMS)
