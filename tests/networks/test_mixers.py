import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

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
TINY_STATE, TINY_LATENT = jnp.array([1.0]), jnp.array([2.0])


def tiny(monotonic=True, skip_connections=False):
    """Q_tot of the tiny mixer as a function of the two utilities, the state and z."""
    mixer = QMixer(1, skip_connections, monotonic)
    return lambda *args: mixer.apply(TINY_PARAMS, *args)


@pytest.mark.parametrize(
    ("monotonic", "skip_connections", "expected"),
    [
        (True, False, 1.5 * np.expm1(-4) + 2.25),
        (True, True, 1.5 * np.expm1(-4) + 2.25 - 3),
        (False, False, -1.5 * 4 + 2.25),
        (False, True, -1.5 * 4 + 2.25 + 5),
    ],
)
def test_hand_computed_joint_value(variant, monotonic, skip_connections, expected):
    q_tot = variant(tiny(monotonic, skip_connections))
    actual = q_tot(jnp.array([1.0, -2.0]), TINY_STATE, TINY_LATENT)
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
    utilities = jnp.array([1.0, 2.0])
    for monotonic, expected in ((True, 2 * 9 + 0.5), (False, -2 * np.expm1(2 - 6 + 1) + 0.5)):
        mixer = QMixer(1, monotonic=monotonic, hypernet_size=2)
        q_tot = variant(lambda *args, mixer=mixer: mixer.apply(params, *args))
        actual = q_tot(utilities, TINY_STATE, TINY_LATENT)
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_hidden_layer_of_the_state_value_is_rectified():
    # At state -1 and z 2: w_1 = [-1, 0], w_final = -2.5, b_1 = -1, V = 2 relu(-1) + 0.25.
    q_tot = tiny()(jnp.array([3.0, 7.0]), jnp.array([-1.0]), TINY_LATENT)
    np.testing.assert_allclose(q_tot, 2.5 * 2 + 0.25)


def test_raising_a_utility_lowers_the_joint_value_without_abs():
    before, after = jnp.array([1.0, -2.0]), jnp.array([2.0, -2.0])
    with_abs, without = tiny(), tiny(monotonic=False)
    assert without(after, TINY_STATE, TINY_LATENT) < without(before, TINY_STATE, TINY_LATENT)
    assert with_abs(after, TINY_STATE, TINY_LATENT) > with_abs(before, TINY_STATE, TINY_LATENT)


SKIPPING, DEEP = QMixer(8, skip_connections=True), QMixer(8, hypernet_size=5)
MIXERS = [QMixer(8), SKIPPING, DEEP]


def initialise(mixer, latent_size=LATENT_SIZE, seed=0):
    return random_params(lambda key: mixer.init_params(key, SPEC, latent_size), seed)


@jax.jit
def joint_values(params, *inputs):
    """Q_tot of every mixer, by its own of `params`."""
    return jnp.stack([m.apply(p, *inputs) for m, p in zip(MIXERS, params, strict=True)])


def vectors(size):
    return arrays(np.float32, size, elements=st.floats(-5, 5, width=32))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    utilities=vectors(SPEC.num_agents),
    global_state=vectors(SPEC.state_size),
    latent=vectors(LATENT_SIZE),
    agent=st.integers(0, SPEC.num_agents - 1),
    rise=st.floats(0, 10, width=32),
)
def test_raising_any_utility_never_lowers_the_joint_value(
    seed, utilities, global_state, latent, agent, rise
):
    raised = utilities.copy()
    raised[agent] += rise
    params = [initialise(mixer, seed=seed) for mixer in MIXERS]
    before = np.asarray(joint_values(params, utilities, global_state, latent))
    after = np.asarray(joint_values(params, raised, global_state, latent))
    rounding = 1e-5 * (1 + np.abs(before).max())
    assert (after >= before - rounding).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_without_abs_some_utility_lowers_the_joint_value(seed):
    """Among 64 random states and z, a counterexample to monotonicity is found."""
    mixer = QMixer(8, monotonic=False)
    params = initialise(mixer, seed=seed)
    slopes = unconstrained_slopes(params, *random_inputs(64))
    assert slopes.min() < 0 < slopes.max()


@jax.jit
def unconstrained_slopes(params, utilities, *condition):
    mixer = QMixer(8, monotonic=False)
    return jax.grad(lambda q: mixer.apply(params, q, *condition).sum())(utilities)


def test_a_small_mixer_starts_with_every_weight_smaller():
    draw = jax.jit(lambda key, mixer: mixer.init_params(key, SPEC, LATENT_SIZE), static_argnums=1)
    usual, small = (draw(jax.random.key(0), QMixer(8, init_scale=scale)) for scale in (1.0, 0.25))
    assert jax.tree.structure(usual) == jax.tree.structure(small)
    for large, little in zip(*map(jax.tree.leaves, (usual, small)), strict=True):
        np.testing.assert_allclose(little, 0.25 * large, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_fresh_skip_connections_begin_near_the_sum_of_utilities(scale):
    """Their bias is 1 whatever the key; at state and z of 0 each utility counts once in them."""
    mixer = QMixer(8, skip_connections=True, init_scale=scale)
    draw = jax.jit(lambda key: mixer.init_params(key, SPEC, LATENT_SIZE))
    params = [draw(jax.random.key(seed))["params"] for seed in range(3)]
    for weights in params:
        np.testing.assert_array_equal(weights["skip"]["bias"], np.full(3, scale, np.float32))
        bound = scale * (SPEC.state_size + LATENT_SIZE) ** -0.5
        assert np.abs(weights["skip"]["kernel"]).max() <= bound
        assert np.unique(weights["skip"]["kernel"]).size > 1
    assert (params[0]["skip"]["kernel"] != params[1]["skip"]["kernel"]).any()
    zeros, utilities = jnp.zeros(SPEC.state_size), jnp.array([1.0, -2.0, 4.0])
    with_skip = mixer.apply({"params": params[0]}, utilities, zeros, jnp.zeros(LATENT_SIZE))
    without = QMixer(8).apply({"params": params[0]}, utilities, zeros, jnp.zeros(LATENT_SIZE))
    np.testing.assert_allclose(with_skip - without, scale * 3, rtol=1e-5)


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


def test_joint_critic_gradients_agree_with_finite_differences():
    critic = JointCritic(4, SPEC.num_actions)
    params = initialise(critic)
    _, global_state, latent = random_inputs()
    with jax.enable_x64(True):
        arguments = jax.tree.map(
            jnp.float64, (params, np.eye(3, 2, dtype=np.float32), global_state, latent)
        )
        check_grads(jax.jit(critic.apply), arguments, order=1, modes=["rev"])


@pytest.fixture(scope="module")
def params():
    return initialise(SKIPPING)


def random_inputs(*leading):
    random = np.random.default_rng(0)
    sizes = SPEC.num_agents, SPEC.state_size, LATENT_SIZE
    return [random.normal(size=(*leading, n)).astype(np.float32) for n in sizes]


def test_any_leading_axes(params):
    q_value = jax.jit(SKIPPING.apply)
    inputs = random_inputs(2, 3)
    q_tot = q_value(params, *inputs)
    assert q_tot.shape == (2, 3)
    for index in np.ndindex(2, 3):
        alone = q_value(params, *(x[index] for x in inputs))
        np.testing.assert_allclose(q_tot[index], alone, rtol=1e-5, atol=1e-6)


def test_state_and_latent_both_condition_the_mixer(params):
    q_value = jax.jit(SKIPPING.apply)
    utilities, global_state, latent = random_inputs()
    q_tot = q_value(params, utilities, global_state, latent)
    assert q_value(params, utilities, global_state + 1, latent) != q_tot
    assert q_value(params, utilities, global_state, latent + 1) != q_tot


def test_without_a_latent_the_state_alone_conditions_the_mixer():
    params = initialise(SKIPPING, latent_size=0)
    utilities, global_state, _ = random_inputs(5)
    q_tot = jax.jit(SKIPPING.apply)(params, utilities[[0] * 5], global_state, np.zeros((5, 0)))
    assert q_tot.shape == (5,)
    assert np.unique(q_tot).size == 5


@pytest.mark.parametrize("mixer", [SKIPPING, QMixer(8, True, monotonic=False), DEEP])
def test_gradients_agree_with_finite_differences(mixer):
    params = initialise(mixer)
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.float64, (params, *random_inputs()))
        check_grads(jax.jit(mixer.apply), arguments, order=1, modes=["rev"])
