"""Information measures by hand and by their definitions, and estimates from counts."""

from collections import Counter

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

import maven_jax.functional.information as info
from maven_jax.functional.losses import mi_lower_bound

LOG2 = np.log(2)
P = np.array([0.5, 0.3, 0.2])
H_P = -(P * np.log(P)).sum()
H_TENTH = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))

properties = settings(max_examples=60, deadline=None)
close = {"rtol": 1e-5, "atol": 2e-6}


def test_entropy_and_divergence_of_known_tables(variant):
    tables = jnp.array([[0.25] * 4, [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.125, 0.125]])
    expected = LOG2 * np.array([2, 0, 1, 1.75])
    np.testing.assert_allclose(variant(info.entropy)(tables), expected, rtol=1e-6, atol=1e-7)
    p = jnp.array([[0.5, 0.5, 0], [0, 1, 0], [0.5, 0.25, 0.25], [0.5, 0.5, 0]])
    q = jnp.array([[0.25, 0.25, 0.5], [0, 1, 0], [0.25, 0.25, 0.5], [1, 0, 0]])
    expected = [LOG2, 0, 0.25 * LOG2, np.inf]
    np.testing.assert_allclose(variant(info.kl_divergence)(p, q), expected, rtol=1e-6, atol=1e-7)


BINARY = [[0.45, 0.05, 0], [0.05, 0.45, 0], [0, 0, 0]]
NOISELESS = [[0.5, 0, 0], [0, 0.25, 0.25], [0, 0, 0]]


@pytest.mark.parametrize(
    ("joint", "of_x_given_y", "information"),
    [
        pytest.param(np.outer(P, P[::-1]), H_P, 0, id="independent"),
        pytest.param(np.diag(P), 0, H_P, id="identical"),
        pytest.param(BINARY, H_TENTH, LOG2 - H_TENTH, id="binary symmetric channel"),
        pytest.param(NOISELESS, 0, LOG2, id="noiseless channel"),
        pytest.param(np.transpose(NOISELESS), LOG2 / 2, LOG2, id="y a function of x"),
    ],
)
def test_information_of_known_tables(variant, joint, of_x_given_y, information):
    @variant
    def measures(joint):
        return (
            info.conditional_entropy(joint),
            info.mutual_information(joint),
            info.joint_entropy(joint),
        )

    of_y = -sum(p * np.log(p) for p in np.sum(joint, 0) if p > 0)
    expected = of_x_given_y, information, of_y + of_x_given_y
    actual = measures(jnp.asarray(joint, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_variational_bound_of_known_posteriors(variant):
    joint = jnp.array([[0.5, 0.0], [0.25, 0.25]])
    q = jnp.array([[0.5, 0.0], [0.5, 1.0]])
    bound = variant(lambda joint, q: info.variational_bound(joint, jnp.log(q)))
    np.testing.assert_allclose(bound(joint, q), LOG2 - 0.75 * LOG2, rtol=1e-5)
    assert bound(joint, 1 - q) == -np.inf  # what it rules out does occur


def distributions(*shape, positive=False):
    """Tables of probabilities in float32, many of them 0 unless `positive`."""
    counts = arrays(np.float32, shape, elements=st.integers(int(positive), 9)).filter(np.any)
    return counts.map(lambda x: x / x.sum())


def xlogy(x, y):
    """Elementwise x log y, and 0 where x is 0."""
    with np.errstate(divide="ignore"):
        return np.where(x > 0, x * np.log(np.where(x > 0, y, 1.0)), 0.0)


@jax.jit
def measures_of(joint, q, other):
    posterior = jnp.where(joint.sum(0) > 0, joint / jnp.maximum(joint.sum(0), 1e-9), 1 / len(joint))
    return {
        "H(X)": info.entropy(joint.sum(1)),
        "H(X,Y)": info.joint_entropy(joint),
        "H(X|Y)": info.conditional_entropy(joint),
        "I(X;Y)": info.mutual_information(joint),
        "KL": info.kl_divergence(joint, other),
        "KL to itself": info.kl_divergence(joint, joint),
        "J_V": info.variational_bound(joint, jnp.log(q)),
        "J_V of the loss": mi_lower_bound(jnp.log(q), joint, info.entropy(joint.sum(1))),
        "J_V of the posterior": info.variational_bound(joint, jnp.log(posterior)),
    }


@properties
@given(distributions(3, 4), distributions(3, 4, positive=True), distributions(3, 4))
def test_measures_agree_with_their_definitions_in_double_precision(joint, weights, other):
    q = weights / weights.sum(0)
    p, r = np.float64(joint), np.float64(other)
    p_x, p_y = p.sum(1, keepdims=True), p.sum(0, keepdims=True)
    of_x, information = -xlogy(p_x, p_x).sum(), xlogy(p, p / np.maximum(p_x * p_y, 1e-9)).sum()
    bound = of_x + xlogy(p, np.float64(q)).sum()
    expected = {
        "H(X)": of_x,
        "H(X,Y)": -xlogy(p, p).sum(),
        "H(X|Y)": -xlogy(p, p / np.maximum(p_y, 1e-9)).sum(),
        "I(X;Y)": information,
        "KL": (xlogy(p, p) - xlogy(p, r)).sum(1),
        "J_V": bound,
        "J_V of the loss": bound,
        "J_V of the posterior": information,
    }
    actual = measures_of(joint, q, other)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, err_msg=name, **close)
    assert actual["J_V"] <= information + 2e-6
    assert actual["H(X|Y)"] >= 0
    assert not actual["KL to itself"].any()


def test_terms_of_probability_zero_are_constant_to_the_gradient(variant):
    p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.5, 0.25])
    slope = LOG2 - 1
    np.testing.assert_allclose(variant(jax.grad(info.entropy))(p), [slope, slope, 0], rtol=1e-5)
    of_p, of_q = variant(jax.grad(info.kl_divergence, argnums=(0, 1)))(p, q)
    np.testing.assert_allclose(of_p, [LOG2 + 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(of_q, [-2, -1, 0], rtol=1e-5)


LOGITS = np.array([[0.3, -300.0], [1.0, -0.5], [-300.0, 0.2]], np.float32)
POSSIBLE = LOGITS > -300
GUESS = POSSIBLE / POSSIBLE.sum(0)
SOFTMAX = np.where(POSSIBLE, np.exp(np.float64(LOGITS)), 0)
SOFTMAX /= SOFTMAX.sum()
OF_X, OF_Y = SOFTMAX.sum(1, keepdims=True), SOFTMAX.sum(0, keepdims=True)


@pytest.mark.parametrize(
    ("measure", "ratio"),
    [
        (info.joint_entropy, 1 / np.where(POSSIBLE, SOFTMAX, 1)),
        (info.conditional_entropy, OF_Y / np.where(POSSIBLE, SOFTMAX, 1)),
        (info.mutual_information, SOFTMAX / (OF_X * OF_Y)),
        (lambda joint: info.variational_bound(joint, jnp.log(GUESS)), GUESS / OF_X),
    ],
    ids=["joint entropy", "conditional entropy", "information", "bound"],
)
def test_gradients_of_a_saturated_softmax(measure, ratio):
    """A measure is the mean of f = log ratio over the pairs that are possible at all, and the mean
    of f's own gradient is 0: d E[f] / d logit = p (f - E[f])."""
    actual = jax.jit(jax.grad(lambda x: measure(jax.nn.softmax(x, axis=(0, 1)))))(LOGITS)
    term = np.log(ratio, where=POSSIBLE, out=np.zeros_like(SOFTMAX))
    expected = SOFTMAX * (term - (SOFTMAX * term).sum())
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(actual).max() > 0.01


def test_count_table(variant):
    """Of 2 values and 3: what is out of their range is not counted, nor what is masked."""
    x, y = jnp.array([0, 1, 1, 1, 0, -1, 2, 1, 0]), jnp.array([2, 0, 0, 1, 2, 0, 0, -1, 3])
    counts = variant(lambda x, y: info.count_table(x, y, 2, 3))(x, y)
    np.testing.assert_array_equal(counts, [[0, 0, 2], [2, 1, 0]])
    mask = jnp.array([True, True, False, False] + [True] * 5)
    counts = variant(lambda *args: info.count_table(*args[:2], 2, 3, args[2]))(x, y, mask)
    np.testing.assert_array_equal(counts, [[0, 0, 2], [1, 0, 0]])


def test_entropy_of_known_counts(variant):
    counts = jnp.array([[4, 2, 1, 1], [8, 0, 0, 0], [4, 0, 4, 0], [0, 0, 0, 0]])
    plug_in = np.array([1.75, 0, 1, np.nan]) * LOG2
    np.testing.assert_allclose(variant(info.plug_in_entropy)(counts), plug_in, rtol=1e-6)
    corrected = plug_in + np.array([3, 0, 1, np.nan]) / 16
    np.testing.assert_allclose(variant(info.miller_madow_entropy)(counts), corrected, rtol=1e-6)


@pytest.mark.parametrize(
    ("counts", "plug_in", "correction"),
    [
        pytest.param([[9, 1], [1, 9]], LOG2 - H_TENTH, 1 / 40, id="all four pairs"),
        pytest.param([[2, 2], [2, 2]], 0, 1 / 16, id="independent"),
        pytest.param([[4, 0], [0, 4]], LOG2, -1 / 16, id="identical"),
        pytest.param([[4, 0, 0], [0, 2, 2]], LOG2, -1 / 16, id="noiseless channel"),
        pytest.param([[5, 0], [0, 0]], 0, 0, id="one pair"),
        pytest.param([[0, 0], [0, 0]], np.nan, np.nan, id="no observation"),
    ],
)
def test_information_of_known_counts(variant, counts, plug_in, correction):
    counts = jnp.array(counts)
    actual = variant(info.plug_in_mutual_information)(counts)
    np.testing.assert_allclose(actual, plug_in, rtol=1e-5, atol=1e-6)
    actual = variant(info.corrected_mutual_information)(counts)
    np.testing.assert_allclose(actual, plug_in - correction, rtol=1e-5, atol=1e-6)


def episodes(*sequences, length=3):
    """Actions `T K 1` and mask `T K` of the given action sequences."""
    actions = np.full((length, len(sequences), 1), 0, np.int32)
    mask = np.zeros((length, len(sequences)), bool)
    for k, sequence in enumerate(sequences):
        actions[: len(sequence), k, 0] = sequence
        mask[: len(sequence), k] = True
    return jnp.asarray(actions), jnp.asarray(mask)


def test_same_sequence_and_its_first_episode(variant):
    same = jax.jit(info.same_sequence)(*episodes([1, 0], [1], [1, 0], [1, 0, 0]))
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(same, np.array(expected, bool))
    ids = variant(info.sequence_ids)(*episodes([1, 0], [1], [1, 0], [1, 0, 0], [1], [1, 0]))
    np.testing.assert_array_equal(ids, [0, 1, 0, 3, 1, 0])
    of_two_agents = jnp.array([[[0, 1], [1, 0], [0, 1], [0, 0]]])
    ids = variant(info.sequence_ids)(of_two_agents, jnp.ones((1, 4), bool))
    np.testing.assert_array_equal(ids, [0, 1, 0, 3])


SAME = np.array([[0.5, 0.5], [0.25, 0.25], [0.25, 0.25]])
OTHER = np.array([[0.5, 1.0], [0.25, 0.0], [0.25, 0.0]])
ALIKE = [[k % 2, k // 2] for _ in range(8) for k in range(4)]


@pytest.mark.parametrize(
    ("probs", "sequences", "expected_bits"),
    [
        pytest.param(SAME, [[0, 0], [0, 0], [0], [0], [1, 1], [1, 1]], 1.5, id="all differ"),
        pytest.param(SAME, [[0, 1]] * 6, 0.0, id="all alike"),
        pytest.param(SAME, [[0], [0], [1], [1], [1], [1]], 1.0, id="two alike"),
        pytest.param(SAME, [[0], [1], [0], [1], [0], [1]], 0.0, id="starts alone"),
        pytest.param(SAME, [[0], [0], [1], [1], [2], [1]], 1.25, id="one start tells more"),
        pytest.param(SAME, [[0], [1], [1], [0], [1], [0]], 1.0, id="z means another thing"),
        pytest.param(OTHER, [[0], [0], [1], [1], [2], [2]], 0.75, id="one start knows z"),
        # counted over all four starts together, the eight z would seem to differ
        pytest.param(np.full((8, 4), 1 / 8), ALIKE, 0.0, id="starts differ, z do not"),
    ],
)
def test_action_information_of_known_episodes(variant, probs, sequences, expected_bits):
    """The first of each pair of episodes from one start, the second from another."""
    actual = variant(info.action_information)(jnp.float32(probs), *episodes(*sequences))
    np.testing.assert_allclose(actual, expected_bits * LOG2, rtol=1e-5, atol=1e-6)
    assert expected_bits or actual == 0


def sampled(*args, corrected=False):
    return info.sampled_action_information(*args, 3, corrected=corrected)


@pytest.mark.parametrize(
    ("sequences", "plug_in_bits", "correction"),
    [
        pytest.param(  # counts [[3, 0], [0, 3], [2, 0]]: H(sequence) of 5 and 3
            [[0], [1], [0], [1], [0], [0], [0], [1]],
            -(5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(3 / 8)),
            -1 / 16,
            id="deterministic",
        ),
        pytest.param([[0, 1]] * 8, 0, 0, id="all alike"),
        pytest.param(  # nobody could say that there was anything to learn: H(z), corrected
            [[0], [1], [2], [3], [4], [5], [6], [7]],
            -(6 / 8 * np.log2(3 / 8) + 2 / 8 * np.log2(2 / 8)),
            -2 / 16,
            id="none repeats",
        ),
        pytest.param(  # counts [[2, 1], [2, 1], [0, 0]]: the last two took no step
            [[0], [0], [0], [0], [], [1], [], [1]], 0, 1 / 12, id="episodes of no step"
        ),
    ],
)
def test_sampled_action_information_of_known_episodes(variant, sequences, plug_in_bits, correction):
    arguments = jnp.array([0, 1, 0, 1, 2, 0, 2, 1]), *episodes(*sequences)
    for corrected in (False, True):
        estimate = variant(lambda *args, c=corrected: sampled(*args, corrected=c))
        expected = plug_in_bits * LOG2 - corrected * correction
        np.testing.assert_allclose(estimate(*arguments), expected, rtol=1e-5, atol=1e-6)


compiled_ids = jax.jit(info.sequence_ids)
compiled_by_start = jax.jit(info.action_information)
compiled_sampled = jax.jit(lambda *args: (sampled(*args), sampled(*args, corrected=True)))


def counted_information(weights, episodes):
    """I(z; sequence) by definition, from the weight and the pair (z, sequence) of each episode."""
    pairs, of_z, of_sequence = Counter(), Counter(), Counter()
    for weight, (z, sequence) in zip(weights, episodes, strict=True):
        pairs[z, sequence] += weight
        of_z[z] += weight
        of_sequence[sequence] += weight
    return sum(
        p * np.log(p / (of_z[z] * of_sequence[sequence]))
        for (z, sequence), p in pairs.items()
        if p > 0
    )


@st.composite
def played_episodes(draw, num_episodes, length=2, num_agents=2):
    """Actions with any padding, mask, and the sequences as tuples, of random short episodes."""
    shape = (length, num_episodes, num_agents)
    actions = draw(arrays(np.int32, shape, elements=st.integers(0, 1)))
    lengths = draw(arrays(np.int32, num_episodes, elements=st.integers(1, length)))
    mask = np.arange(length)[:, None] < lengths
    sequences = [tuple(map(tuple, actions[:n, k].tolist())) for k, n in enumerate(lengths)]
    padding = draw(st.sampled_from([actions, np.arange(actions.size).reshape(shape)]))
    return np.where(mask[..., None], actions, padding), mask, sequences


NUM_LATENTS, NUM_STARTS = 3, 2
all_weights = arrays(np.float32, (NUM_LATENTS, NUM_STARTS), elements=st.integers(0, 4))
all_ids = arrays(np.int32, NUM_LATENTS * NUM_STARTS, elements=st.integers(0, NUM_LATENTS - 1))
some_weights = all_weights.filter(lambda weights: weights.any(0).all())


@properties
@given(played_episodes(NUM_LATENTS * NUM_STARTS), all_ids, some_weights)
def test_informations_agree_with_counting(played, latent_ids, weights):
    """Sampled z counted over all episodes, and every z by its probability at each start."""
    actions, mask, sequences = played
    firsts = [sequences.index(sequence) for sequence in sequences]
    np.testing.assert_array_equal(compiled_ids(actions, mask), firsts)
    pairs = list(zip(latent_ids.tolist(), sequences, strict=True))
    plug_in = counted_information([1 / len(pairs)] * len(pairs), pairs)
    of_pairs, of_z, of_sequences = (len(set(x)) for x in (pairs, latent_ids.tolist(), sequences))
    correction = (of_pairs - of_z - of_sequences + 1) / (2 * len(pairs))
    actual = compiled_sampled(latent_ids, actions, mask)
    np.testing.assert_allclose(actual, [plug_in, plug_in - correction], atol=1e-5)
    probs = weights / weights.sum(0)
    by_start = [
        counted_information(probs[:, k], enumerate(sequences[k::NUM_STARTS]))
        for k in range(NUM_STARTS)
    ]
    actual = compiled_by_start(probs, actions, mask)
    np.testing.assert_allclose(actual, np.mean(by_start), atol=1e-5)


def test_unequal_numbers_of_episodes_are_refused():
    with pytest.raises(ValueError, match=r"^7 episodes .* 3 z from each of 2 starts$"):
        info.action_information(jnp.float32(SAME), *episodes(*[[0]] * 7))
