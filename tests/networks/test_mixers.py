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


SKIPPING, UNCONSTRAINED = QMixer(8, skip_connections=True), QMixer(8, monotonic=False)
PLAIN, DEEP = QMixer(8), QMixer(8, hypernet_size=5)


def random_weights(mixer, *leading, latent_size=LATENT_SIZE):
    """Of one network, or of a stack of them."""

    def init(key):
        params = mixer.init_params(key, SPEC, latent_size)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*leading, *x.shape)), params)

    return random_params(init)


def random_inputs(*leading):
    random = np.random.default_rng(0)
    sizes = SPEC.num_agents, SPEC.state_size, LATENT_SIZE
    return [random.normal(size=(*leading, n)).astype(np.float32) for n in sizes]


@pytest.mark.parametrize("mixer", [PLAIN, SKIPPING, DEEP])
def test_raising_any_utility_never_lowers_the_joint_value(mixer):
    """Of 1,000 networks, each at inputs of its own."""
    utilities, *condition = (3 * x for x in random_inputs(1000))
    rises = np.random.default_rng(1).uniform(0, 10, (SPEC.num_agents, 1000, 1)).astype(np.float32)
    q_tot = jax.jit(jax.vmap(mixer.apply))
    weights = random_weights(mixer, 1000)
    before = np.asarray(q_tot(weights, utilities, *condition))
    for agent, rise in zip(np.eye(SPEC.num_agents, dtype=np.float32), rises, strict=True):
        after = np.asarray(q_tot(weights, utilities + rise * agent, *condition))
        assert (after >= before - 1e-5 * (1 + np.abs(before))).all()
        assert (after > before).mean() > 0.9


def test_without_abs_some_utility_lowers_the_joint_value():
    """Of each of 20 networks, at some of 64 random inputs."""

    def slopes(weights, utilities, *condition):
        return jax.grad(lambda q: UNCONSTRAINED.apply(weights, q, *condition).sum())(utilities)

    of_networks = jax.jit(jax.vmap(slopes, in_axes=(0, None, None, None)))
    found = of_networks(random_weights(UNCONSTRAINED, 20), *random_inputs(64))
    assert (found.min((1, 2)) < 0).all()
    assert (found.max((1, 2)) > 0).all()


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


def test_any_leading_axes():
    q_tot, weights, inputs = jax.jit(SKIPPING.apply), random_weights(SKIPPING), random_inputs(2, 3)
    together = q_tot(weights, *inputs)
    assert together.shape == (2, 3)
    for index in np.ndindex(2, 3):
        alone = q_tot(weights, *(x[index] for x in inputs))
        np.testing.assert_allclose(together[index], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("latent_size", [0, LATENT_SIZE])
def test_state_and_latent_both_condition_the_mixer(latent_size):
    """Rows of the same utilities, with other states and then with other z, where there is one."""
    weights = random_weights(SKIPPING, latent_size=latent_size)
    utilities, states, latents = random_inputs(5)
    utilities, latents = utilities[[0] * 5], latents[:, :latent_size]
    q_tot = jax.jit(SKIPPING.apply)
    assert np.unique(q_tot(weights, utilities, states, latents[[0] * 5])).size == 5
    of_latents = q_tot(weights, utilities, states[[0] * 5], latents)
    assert np.unique(of_latents).size == (5 if latent_size else 1)
