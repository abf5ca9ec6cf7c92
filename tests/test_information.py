from collections import Counter

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from maven_jax.information import action_information, entropy, mutual_information, same_sequence


def test_entropy_of_known_tables(variant):
    tables = jnp.array([[0.25] * 4, [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.125, 0.125]])
    expected = np.log(2) * np.array([2, 0, 1, 1.75])
    np.testing.assert_allclose(variant(entropy)(tables), expected, rtol=1e-6, atol=1e-7)


P = np.array([0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("joint", "expected"),
    [
        pytest.param(np.outer(P, P[::-1]), 0.0, id="independent"),
        pytest.param(np.diag(P), -(P * np.log(P)).sum(), id="identical"),
        pytest.param(
            [[0.45, 0.05, 0], [0.05, 0.45, 0], [0, 0, 0]],
            np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9),
            id="binary symmetric channel",
        ),
        pytest.param([[0.5, 0, 0], [0, 0.25, 0.25], [0, 0, 0]], np.log(2), id="noiseless channel"),
    ],
)
def test_mutual_information_of_known_tables(variant, joint, expected):
    actual = variant(mutual_information)(jnp.asarray(joint, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


jitted_mutual_information = jax.jit(mutual_information)
jitted_action_information = jax.jit(action_information)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (3, 4), elements=st.integers(0, 9)).filter(np.any))
def test_mutual_information_is_the_divergence_from_independence(counts):
    joint = counts / counts.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    expected = (joint[seen] * np.log(joint[seen] / product[seen])).sum()
    np.testing.assert_allclose(jitted_mutual_information(joint), expected, atol=1e-5)


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        joint = jnp.array([[0.1, 0.3, 0.2], [0.15, 0.05, 0.2]])
        check_grads(jax.jit(entropy), (joint,), order=1)
        check_grads(jax.jit(mutual_information), (joint,), order=1)


def episodes(*sequences, length=3):
    """Actions `T K 1` and mask `T K` of the given action sequences."""
    actions = np.full((length, len(sequences), 1), 0, np.int32)
    mask = np.zeros((length, len(sequences)), bool)
    for k, sequence in enumerate(sequences):
        actions[: len(sequence), k, 0] = sequence
        mask[: len(sequence), k] = True
    return actions, mask


def test_same_sequence():
    same = jax.jit(same_sequence)(*episodes([1, 0], [1], [1, 0], [1, 0, 0]))
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(same, np.array(expected, bool))


LATENT_PROBS = jnp.array([0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("sequences", "expected_bits"),
    [
        pytest.param([[0, 0], [0, 0], [0], [0], [1, 1], [1, 1]], 1.5, id="all differ"),
        pytest.param([[0, 1]] * 6, 0.0, id="all alike"),
        pytest.param([[0], [0], [1], [1], [1], [1]], 1.0, id="two alike"),
        pytest.param([[0], [1], [0], [1], [0], [1]], 0.0, id="the same mixture for each"),
        pytest.param(
            [[0], [0], [1], [1], [2], [1]],
            0.5 + 3 / 8 * np.log2(8 / 3) + 3 / 8 - 0.25,  # H(sequence) - H(sequence | z)
            id="mixtures",
        ),
    ],
)
def test_action_information_of_known_episodes(variant, sequences, expected_bits):
    actual = variant(action_information)(LATENT_PROBS, *map(jnp.asarray, episodes(*sequences)))
    np.testing.assert_allclose(actual, expected_bits * np.log(2), rtol=1e-5, atol=1e-6)


def counted_information(latent_probs, sequences):
    """I(z; sequence) by counting; `sequences[z]` lists the K episodes of z."""
    given_z = [Counter(of_z) for of_z in sequences]
    marginal = Counter()
    for p, counts in zip(latent_probs, given_z, strict=True):
        for sequence, count in counts.items():
            marginal[sequence] += p * count / counts.total()
    return sum(
        p * count / counts.total() * np.log(count / counts.total() / marginal[sequence])
        for p, counts in zip(latent_probs, given_z, strict=True)
        for sequence, count in counts.items()
        if p > 0
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.sampled_from([(3, 1), (2, 3)]))
def test_action_information_agrees_with_counting(data, size):
    num_latents, per_latent = size
    num_episodes, length, num_agents = num_latents * per_latent, 2, 2
    weights = data.draw(arrays(np.float32, num_latents, elements=st.integers(0, 4)).filter(np.any))
    latent_probs = weights / weights.sum()
    actions = data.draw(
        arrays(np.int32, (length, num_episodes, num_agents), elements=st.integers(0, 1))
    )
    lengths = data.draw(arrays(np.int32, num_episodes, elements=st.integers(1, length)))
    mask = np.arange(length)[:, None] < lengths
    played = [tuple(map(tuple, actions[:n, k].tolist())) for k, n in enumerate(lengths)]
    by_latent = [played[z * per_latent : (z + 1) * per_latent] for z in range(num_latents)]
    actual = jitted_action_information(latent_probs, actions, mask)
    np.testing.assert_allclose(actual, counted_information(latent_probs, by_latent), atol=1e-5)


def test_padded_actions_are_ignored():
    actions, mask = episodes([0, 1], [0, 1], [0])
    garbled = np.where(mask[..., None], actions, np.arange(9).reshape(3, 3, 1))
    np.testing.assert_array_equal(
        jitted_action_information(LATENT_PROBS, garbled, mask),
        jitted_action_information(LATENT_PROBS, actions, mask),
    )
