import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from maven_jax.functional.exploration import (
    act_greedily,
    boltzmann_actions,
    boltzmann_policy,
    epsilon_greedy,
    greedy_actions,
    greedy_policy,
    linear_schedule,
    team_epsilon_greedy,
)

NUM_AGENTS, NUM_ACTIONS = 3, 4

jitted_epsilon_greedy = jax.jit(epsilon_greedy)
jitted_greedy = jax.jit(greedy_actions)
jitted_boltzmann = jax.jit(boltzmann_policy)
jitted_team_epsilon_greedy = jax.jit(team_epsilon_greedy)
jitted_boltzmann_actions = jax.jit(boltzmann_actions)

q_arrays = arrays(
    np.float32,
    (NUM_AGENTS, NUM_ACTIONS),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)
masks = arrays(bool, (NUM_AGENTS, NUM_ACTIONS)).filter(lambda mask: mask.any(-1).all())
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=50, deadline=None)


@few
@given(seed=seeds, q_values=q_arrays, mask=masks, epsilon=st.floats(0, 1, width=32))
def test_illegal_actions_are_never_chosen(seed, q_values, mask, epsilon):
    agents = np.arange(NUM_AGENTS)
    explored = jitted_epsilon_greedy(jax.random.key(seed), q_values, mask, epsilon)
    assert mask[agents, explored].all()
    assert mask[agents, jitted_greedy(q_values, mask)].all()
    key, temperature = jax.random.key(seed), 0.01 + epsilon
    assert mask[agents, jitted_team_epsilon_greedy(key, q_values, mask, epsilon)].all()
    assert mask[agents, jitted_boltzmann_actions(key, q_values, mask, temperature)].all()


@few
@given(seed=seeds, q_values=q_arrays, mask=masks)
def test_epsilon_zero_takes_the_best_legal_action(seed, q_values, mask):
    expected = np.where(mask, q_values, -np.inf).argmax(-1)
    explored = jitted_epsilon_greedy(jax.random.key(seed), q_values, mask, 0.0)
    np.testing.assert_array_equal(explored, expected)
    np.testing.assert_array_equal(jitted_greedy(q_values, mask), expected)


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [(1.0, [1 / 3, 1 / 3, 0, 1 / 3]), (0.3, [0.1, 0.8, 0, 0.1])],
)
def test_frequency_of_explored_actions(epsilon, expected):
    assert_frequencies(explore(epsilon), expected)


def test_frequency_of_boltzmann_actions():
    q_values = np.tile(np.log(np.float32([1, 3, 100, 4])), (20_000, 1))
    mask = np.tile([True, True, False, True], (20_000, 1))
    drawn = np.asarray(jitted_boltzmann_actions(jax.random.key(0), q_values, mask, 0.5))
    assert_frequencies(drawn, np.array([1, 9, 0, 16]) / 26)


def test_a_team_explores_at_once():
    """Two agents, greedy action 1 of three, epsilon 0.3: alike but for the agents' own draws."""
    q_values = np.tile(np.float32([1, 2, 9, -5]), (20_000, 2, 1))
    mask = np.tile([True, True, False, True], (20_000, 2, 1))
    first, second = np.asarray(jitted_team_epsilon_greedy(jax.random.key(0), q_values, mask, 0.3)).T
    assert_frequencies(first, [0.1, 0.8, 0, 0.1])
    joint = 0.3 * np.outer([1, 1, 0, 1], [1, 1, 0, 1]) / 9
    joint[1, 1] += 0.7
    assert_frequencies(4 * first + second, joint.ravel())


def test_greedy_behaviour_reads_no_key():
    q_values, mask = jnp.eye(3, 4), jnp.ones((3, 4), bool)
    for seed in range(3):
        actions = act_greedily(jax.random.key(seed), q_values, mask)
        np.testing.assert_array_equal(actions, [0, 1, 2])


def test_agents_explore_independently():
    first, second = explore(1.0).reshape(2, -1)
    legal = np.array([1, 1, 0, 1])
    assert_frequencies(4 * first + second, np.outer(legal, legal).ravel() / 9)


def explore(epsilon, num_agents=20_000):
    """Actions of many agents with the same utilities, of which the best is illegal."""
    q_values = np.tile(np.float32([1, 2, 9, -5]), (num_agents, 1))
    mask = np.tile([True, True, False, True], (num_agents, 1))
    return np.asarray(jitted_epsilon_greedy(jax.random.key(0), q_values, mask, epsilon))


def assert_frequencies(drawn, expected):
    """Within four standard errors."""
    expected = np.asarray(expected)
    frequency = np.bincount(drawn, minlength=expected.size) / drawn.size
    assert (np.abs(frequency - expected) <= 4 * np.sqrt(expected / drawn.size)).all()


any_q_arrays = arrays(
    np.float32,
    (NUM_AGENTS, NUM_ACTIONS),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.sampled_from([np.finfo(np.float32).min, np.finfo(np.float32).max, -1e38, 0.0]),
)
any_temperatures = st.floats(0, width=32, exclude_min=True, allow_infinity=False)
boltzmann_gradients = jax.jit(jax.jacrev(boltzmann_policy))


@settings(max_examples=100, deadline=None)
@given(seed=seeds, q_values=any_q_arrays, mask=masks, temperature=any_temperatures)
def test_no_finite_utility_makes_an_illegal_action_possible(seed, q_values, mask, temperature):
    agents, key = np.arange(NUM_AGENTS), jax.random.key(seed)
    for actions in (
        jitted_greedy(q_values, mask),
        jitted_boltzmann_actions(key, q_values, mask, temperature),
        jitted_epsilon_greedy(key, q_values, mask, 0.5),
        jitted_team_epsilon_greedy(key, q_values, mask, 0.5),
    ):
        assert mask[agents, actions].all()
    policy = np.asarray(jitted_boltzmann(q_values, mask, temperature))
    assert not policy[~mask].any()
    alpha = max(temperature, np.finfo(np.float32).smallest_normal)
    logits = np.where(mask, np.float64(q_values), -np.inf)
    expected = np.exp((logits - logits.max(-1, keepdims=True)) / alpha)
    if 1e-30 < alpha < 1e37:  # XLA takes numbers below 1e-38 for 0, reciprocals included
        np.testing.assert_allclose(policy, expected / expected.sum(-1, keepdims=True), atol=1e-5)
    assert np.isfinite(boltzmann_gradients(q_values, mask, temperature)).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_illegal_actions_are_impossible_in_half_precision(dtype):
    """The smallest and the largest utility beside each other, legal and not."""
    smallest, largest = jnp.finfo(dtype).min, jnp.finfo(dtype).max
    q_values = jnp.array([[largest, smallest, smallest, largest]] * 3, dtype)
    mask = np.array([[False, True, True, False], [False, False, True, True], [True] * 4])
    expected = [[0, 0.5, 0.5, 0], [0, 0, 0, 1], [0.5, 0, 0, 0.5]]
    for temperature in (1e-6, 0.1, 1.0):
        policy = jitted_boltzmann(q_values, mask, temperature)
        np.testing.assert_array_equal(np.float32(policy), expected)
        for seed in range(20):
            key = jax.random.key(seed)
            actions = jitted_boltzmann_actions(key, q_values, mask, temperature)
            assert mask[np.arange(3), actions].all()
            actions = jitted_epsilon_greedy(key, q_values, mask, 0.5)
            assert mask[np.arange(3), actions].all()
    np.testing.assert_array_equal(jitted_greedy(q_values, mask), [1, 3, 0])


def test_half_precision_explores_uniformly():
    """Draws of 8 bits would tie among 64 actions, and the first would win."""
    q_values = np.zeros((20_000, 64), jnp.bfloat16)
    drawn = np.asarray(
        jitted_epsilon_greedy(jax.random.key(0), q_values, np.ones_like(q_values, bool), 1.0)
    )
    assert_frequencies(drawn >= 32, [0.5, 0.5])


def test_greedy_policy_is_the_one_hot_of_the_first_best_legal_action():
    q_values = jnp.array([[1.0, 3.0, 9.0], [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    mask = jnp.array([[True, True, False], [False, True, True], [False, False, False]])
    expected = [[0, 1, 0], [0, 1, 0], [1, 0, 0]]  # the last is padding: action 0
    np.testing.assert_array_equal(greedy_policy(q_values, mask), expected)


def test_boltzmann_policy_by_hand():
    q_values = np.log(np.float32([1, 3, 100, 4]))
    mask = np.array([True, True, False, True])
    policy = jitted_boltzmann(q_values, mask, 1.0)
    np.testing.assert_allclose(policy, [1 / 8, 3 / 8, 0, 4 / 8], rtol=1e-5)
    policy = jitted_boltzmann(q_values, mask, 0.5)
    np.testing.assert_allclose(policy, np.array([1, 9, 0, 16]) / 26, rtol=1e-5)


@few
@given(q_values=q_arrays, mask=masks, temperature=st.floats(2**-10, 2**10))
def test_boltzmann_policy_is_a_distribution_over_legal_actions(q_values, mask, temperature):
    policy = np.asarray(jitted_boltzmann(q_values, mask, temperature))
    np.testing.assert_allclose(policy.sum(-1), 1, rtol=1e-5)
    assert (policy >= 0).all()
    assert not policy[~mask].any()


def test_boltzmann_policy_at_extreme_temperatures():
    q_values = np.float32([1, 3, 9, 2.5])
    mask = np.array([True, True, False, True])
    cold = jitted_boltzmann(q_values, mask, 1e-4)
    np.testing.assert_array_equal(cold, [0, 1, 0, 0])
    hot = jitted_boltzmann(q_values, mask, 1e6)
    np.testing.assert_allclose(hot, [1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-4)


def test_boltzmann_policy_is_uniform_where_no_action_is_legal():
    q_values = jnp.array([[1.0, 3.0, 9.0, 2.5]] * 2)
    mask = jnp.array([[True] * 4, [False] * 4])
    policy = jitted_boltzmann(q_values, mask, 0.1)
    np.testing.assert_allclose(policy[1], [0.25] * 4)

    @jax.jit
    def log_likelihood(q_values):
        return jnp.log(boltzmann_policy(q_values, mask, 0.1)[:, 3]).sum()

    grad = np.asarray(jax.grad(log_likelihood)(q_values))
    np.testing.assert_array_equal(grad[1], 0)
    assert np.isfinite(grad[0]).all()
    assert (grad[0] != 0).any()


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (25, 0.775), (50, 0.55), (100, 0.1), (100_000, 0.1)]
)
def test_linear_schedule(step, expected):
    value = linear_schedule(jnp.int32(step), 1.0, 0.1, 100.0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_linear_schedule_upwards_never_leaves_its_range():
    steps = np.arange(-50, 300, 10, dtype=np.int32)
    values = jax.jit(jax.vmap(lambda step: linear_schedule(step, 0.2, 0.8, 200.0)))(steps)
    assert (np.diff(values) >= 0).all()
    np.testing.assert_allclose([values[0], values[-1]], [0.2, 0.8], rtol=1e-6)
