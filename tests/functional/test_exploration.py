from functools import partial

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

SHAPE = NUM_AGENTS, NUM_ACTIONS = 3, 4
EXTREMES = np.finfo(np.float32).min, np.finfo(np.float32).max, -1e38, 0.0

compiled_greedy = jax.jit(greedy_actions)
compiled_policy = jax.jit(boltzmann_policy)
compiled_epsilon_greedy = jax.jit(epsilon_greedy)
compiled_team_epsilon_greedy = jax.jit(team_epsilon_greedy)
compiled_boltzmann = jax.jit(boltzmann_actions)
policy_gradients = jax.jit(jax.jacrev(boltzmann_policy))

moderate = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(EXTREMES)
masks = arrays(bool, SHAPE).filter(lambda mask: mask.any(-1).all())
keys = st.integers(0, 2**31 - 1).map(jax.random.key)


@settings(max_examples=50, deadline=None)
@given(key=keys, q_values=arrays(np.float32, SHAPE, elements=moderate), mask=masks)
def test_epsilon_zero_takes_the_best_legal_action(key, q_values, mask):
    expected = np.where(mask, q_values, -np.inf).argmax(-1)
    np.testing.assert_array_equal(compiled_greedy(q_values, mask), expected)
    np.testing.assert_array_equal(compiled_epsilon_greedy(key, q_values, mask, 0.0), expected)


@settings(max_examples=100, deadline=None)
@given(
    key=keys,
    q_values=arrays(np.float32, SHAPE, elements=finite),
    mask=masks,
    epsilon=st.floats(0, 1, width=32),
    temperature=st.floats(0, width=32, exclude_min=True, allow_infinity=False),
)
def test_no_finite_utility_makes_an_illegal_action_possible(
    key, q_values, mask, epsilon, temperature
):
    for actions in (
        compiled_greedy(q_values, mask),
        compiled_epsilon_greedy(key, q_values, mask, epsilon),
        compiled_team_epsilon_greedy(key, q_values, mask, epsilon),
        compiled_boltzmann(key, q_values, mask, temperature),
    ):
        assert mask[np.arange(NUM_AGENTS), actions].all()
    policy = np.asarray(compiled_policy(q_values, mask, temperature))
    np.testing.assert_allclose(policy.sum(-1), 1, rtol=1e-5)
    assert (policy >= 0).all()
    assert not policy[~mask].any()
    alpha = max(temperature, np.finfo(np.float32).smallest_normal)
    logits = np.where(mask, np.float64(q_values), -np.inf)
    expected = np.exp((logits - logits.max(-1, keepdims=True)) / alpha)
    if 1e-30 < alpha < 1e37:  # XLA takes numbers below 1e-38 for 0, reciprocals included
        np.testing.assert_allclose(policy, expected / expected.sum(-1, keepdims=True), atol=1e-5)
    assert np.isfinite(policy_gradients(q_values, mask, temperature)).all()


Q_VALUES, MASK = np.log(np.float32([1, 3, 100, 4])), np.array([True, True, False, True])
OWN, LEGAL, COLD = np.array([0.1, 0.1, 0, 0.8]), MASK / 3, np.array([1, 9, 0, 16]) / 26


@pytest.mark.parametrize(
    ("behaviour", "joint"),
    [
        (partial(epsilon_greedy, epsilon=1.0), np.outer(LEGAL, LEGAL)),
        (partial(epsilon_greedy, epsilon=0.3), np.outer(OWN, OWN)),
        (
            partial(team_epsilon_greedy, epsilon=0.3),
            0.3 * np.outer(LEGAL, LEGAL) + np.diag([0, 0, 0, 0.7]),
        ),
        (partial(boltzmann_actions, temperature=0.5), np.outer(COLD, COLD)),
    ],
    ids=["uniform", "epsilon_greedy", "team_epsilon_greedy", "boltzmann"],
)
def test_frequency_of_the_joint_actions_of_two_agents(behaviour, joint):
    """A team explores at once, other agents each on their own."""
    q_values, mask = (np.tile(x, (20_000, 2, 1)) for x in (Q_VALUES, MASK))
    first, second = np.asarray(jax.jit(behaviour)(jax.random.key(0), q_values, mask)).T
    assert_frequencies(first, joint.sum(1))
    assert_frequencies(second, joint.sum(0))
    assert_frequencies(NUM_ACTIONS * first + second, joint.ravel())


def assert_frequencies(drawn, expected):
    """Within four standard errors."""
    frequency = np.bincount(drawn, minlength=expected.size) / drawn.size
    assert (np.abs(frequency - expected) <= 4 * np.sqrt(expected / drawn.size)).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_illegal_actions_are_impossible_in_half_precision(dtype):
    """The smallest and the largest utility beside each other, legal and not."""
    smallest, largest = jnp.finfo(dtype).min, jnp.finfo(dtype).max
    q_values = jnp.array([[largest, smallest, smallest, largest]] * 3, dtype)
    mask = np.array([[False, True, True, False], [False, False, True, True], [True] * 4])
    expected = [[0, 0.5, 0.5, 0], [0, 0, 0, 1], [0.5, 0, 0, 0.5]]
    np.testing.assert_array_equal(compiled_greedy(q_values, mask), [1, 3, 0])
    for temperature in (1e-6, 0.1, 1.0):
        policy = compiled_policy(q_values, mask, temperature)
        np.testing.assert_array_equal(np.float32(policy), expected)
        for key in jax.random.split(jax.random.key(0), 20):
            drawn = compiled_boltzmann(key, q_values, mask, temperature)
            explored = compiled_epsilon_greedy(key, q_values, mask, 0.5)
            assert mask[np.arange(3), drawn].all()
            assert mask[np.arange(3), explored].all()


def test_half_precision_explores_uniformly():
    """Draws of 8 bits would tie among 64 actions, and the first would win."""
    q_values = np.zeros((20_000, 64), jnp.bfloat16)
    mask = np.ones_like(q_values, bool)
    drawn = np.asarray(compiled_epsilon_greedy(jax.random.key(0), q_values, mask, 1.0))
    assert_frequencies(drawn >= 32, np.array([0.5, 0.5]))


def test_greedy_policy_is_the_one_hot_of_the_first_best_legal_action():
    q_values = jnp.array([[1.0, 3.0, 9.0], [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    mask = jnp.array([[True, True, False], [False, True, True], [False, False, False]])
    expected = [1, 1, 0]  # the last is padding: action 0
    np.testing.assert_array_equal(greedy_policy(q_values, mask), np.eye(3)[expected])
    for seed in range(3):
        actions = act_greedily(jax.random.key(seed), q_values, mask)
        np.testing.assert_array_equal(actions, expected)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, [1 / 8, 3 / 8, 0, 4 / 8]),
        (0.5, COLD),
        (1e-4, [0, 0, 0, 1]),
        (1e6, [1 / 3, 1 / 3, 0, 1 / 3]),
    ],
)
def test_boltzmann_policy_by_hand(temperature, expected):
    policy = compiled_policy(Q_VALUES, MASK, temperature)
    np.testing.assert_allclose(policy, expected, rtol=1e-5 if temperature > 1e-4 else 0)


def test_boltzmann_policy_is_uniform_where_no_action_is_legal():
    q_values = jnp.array([[1.0, 3.0, 9.0, 2.5]] * 2)
    mask = jnp.array([[True] * 4, [False] * 4])
    np.testing.assert_allclose(compiled_policy(q_values, mask, 0.1)[1], [0.25] * 4)

    @jax.jit
    @jax.grad
    def score(q_values):
        return jnp.log(boltzmann_policy(q_values, mask, 0.1)[:, 3]).sum()

    grad = np.asarray(score(q_values))
    np.testing.assert_array_equal(grad[1], 0)
    assert np.isfinite(grad[0]).all()
    assert (grad[0] != 0).any()


@pytest.mark.parametrize(
    ("ends", "values"),
    [
        ((1.0, 0.1, 100.0), {-50: 1.0, 0: 1.0, 25: 0.775, 50: 0.55, 100: 0.1, 100_000: 0.1}),
        ((0.2, 0.8, 200.0), {-50: 0.2, 0: 0.2, 50: 0.35, 200: 0.8, 300: 0.8}),
    ],
    ids=["down", "up"],
)
def test_linear_schedule(ends, values):
    schedule = jax.jit(jax.vmap(lambda step: linear_schedule(step, *ends)))
    found = schedule(jnp.array(list(values)))
    np.testing.assert_allclose(found, list(values.values()), rtol=1e-6)
