"""Information measures on hand-computed tables, their identities, and estimates from counts."""

from collections import Counter

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads
from jaxtyping import TypeCheckError

from maven_jax.functional.information import (
    action_information,
    conditional_entropy,
    corrected_mutual_information,
    count_table,
    entropy,
    joint_entropy,
    kl_divergence,
    miller_madow_entropy,
    mutual_information,
    plug_in_entropy,
    plug_in_mutual_information,
    same_sequence,
    sampled_action_information,
    sequence_ids,
    variational_bound,
)
from maven_jax.functional.losses import mi_lower_bound

LOG2 = np.log(2)


def test_entropy_of_known_tables(variant):
    tables = jnp.array([[0.25] * 4, [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.125, 0.125]])
    expected = LOG2 * np.array([2, 0, 1, 1.75])
    np.testing.assert_allclose(variant(entropy)(tables), expected, rtol=1e-6, atol=1e-7)


def test_divergence_of_known_tables(variant):
    p = jnp.array([[0.5, 0.5, 0], [0, 1, 0], [0.5, 0.25, 0.25], [0.5, 0.5, 0]])
    q = jnp.array([[0.25, 0.25, 0.5], [0, 1, 0], [0.25, 0.25, 0.5], [1, 0, 0]])
    expected = [LOG2, 0, 0.25 * LOG2, np.inf]
    np.testing.assert_allclose(variant(kl_divergence)(p, q), expected, rtol=1e-6, atol=1e-7)


P = np.array([0.5, 0.3, 0.2])
H_P = -(P * np.log(P)).sum()
H_TENTH = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))

known_joints = pytest.mark.parametrize(
    ("joint", "of_x_given_y", "information"),
    [
        pytest.param(np.outer(P, P[::-1]), H_P, 0, id="independent"),
        pytest.param(np.diag(P), 0, H_P, id="identical"),
        pytest.param(
            [[0.45, 0.05, 0], [0.05, 0.45, 0], [0, 0, 0]],
            H_TENTH,
            LOG2 - H_TENTH,
            id="binary symmetric channel",
        ),
        pytest.param([[0.5, 0, 0], [0, 0.25, 0.25], [0, 0, 0]], 0, LOG2, id="noiseless channel"),
        pytest.param(
            [[0.5, 0, 0], [0, 0.25, 0], [0, 0.25, 0]], LOG2 / 2, LOG2, id="y a function of x"
        ),
    ],
)


@known_joints
def test_information_of_known_tables(variant, joint, of_x_given_y, information):
    @variant
    def measures(joint):
        return conditional_entropy(joint), mutual_information(joint), joint_entropy(joint)

    actual = measures(jnp.asarray(joint, jnp.float32))
    of_y = -sum(p * np.log(p) for p in np.sum(joint, 0) if p > 0)
    expected = of_x_given_y, information, of_y + of_x_given_y
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def distributions(*shape, positive=False):
    """Tables of probabilities in float32, many of them 0 unless `positive`."""
    counts = arrays(np.float32, shape, elements=st.integers(int(positive), 9)).filter(np.any)
    return counts.map(lambda x: x / x.sum())


properties = settings(max_examples=60, deadline=None)
close = {"rtol": 1e-5, "atol": 2e-6}


def tables_in_numpy(joint):
    """H(X), H(X|Y) and I(X;Y) by their definitions, in double precision."""
    p = np.float64(joint)
    px, py, some = p.sum(1, keepdims=True), p.sum(0, keepdims=True), p > 0
    h_x = -sum(x * np.log(x) for x in px.ravel() if x > 0)
    h_x_given_y = -(p[some] * np.log((p / np.where(py > 0, py, 1))[some])).sum()
    information = (p[some] * np.log(p[some] / (px * py)[some])).sum()
    return h_x, h_x_given_y, information


@jax.jit
def all_measures(joint):
    x, y = joint.sum(1), joint.sum(0)
    return {
        "H(X)": entropy(x),
        "H(Y)": entropy(y),
        "H(X,Y)": joint_entropy(joint),
        "H(X|Y)": conditional_entropy(joint),
        "H(Y|X)": conditional_entropy(joint.T),
        "I(X;Y)": mutual_information(joint),
        "I(Y;X)": mutual_information(joint.T),
        "KL": kl_divergence(joint.ravel(), jnp.outer(x, y).ravel()),
    }


@properties
@given(distributions(3, 4))
def test_identities_of_a_table(joint):
    h = all_measures(joint)
    information = h["I(X;Y)"]
    for name, expected in zip(("H(X)", "H(X|Y)", "I(X;Y)"), tables_in_numpy(joint), strict=True):
        np.testing.assert_allclose(h[name], expected, **close)
    assert information >= -2e-6
    assert h["H(X|Y)"] >= 0
    assert h["H(Y|X)"] >= 0
    for same in (
        h["H(X)"] - h["H(X|Y)"],
        h["H(Y)"] - h["H(Y|X)"],
        h["H(X)"] + h["H(Y)"] - h["H(X,Y)"],
        h["KL"],
        h["I(Y;X)"],
    ):
        np.testing.assert_allclose(information, same, **close)


@jax.jit
def chain_of_entropies(joint):
    x, x_y, z_and_others = joint.sum((1, 2)), joint.sum(2), joint.reshape(-1, joint.shape[2]).T
    return entropy(x) + conditional_entropy(x_y.T) + conditional_entropy(z_and_others)


@properties
@given(distributions(2, 3, 2))
def test_chain_rule(joint):
    """H(X, Y, Z) = H(X) + H(Y | X) + H(Z | X, Y)."""
    expected = -sum(p * np.log(p) for p in joint.ravel() if p > 0)
    np.testing.assert_allclose(chain_of_entropies(joint), expected, **close)


jitted_entropy = jax.jit(entropy)
jitted_kl_divergence = jax.jit(kl_divergence)
jitted_mutual_information = jax.jit(mutual_information)


@properties
@given(distributions(5))
def test_the_uniform_distribution_has_the_greatest_entropy(p):
    """H = log K - KL(p || uniform), which is less than log K for all others."""
    uniform = np.full(5, 0.2, np.float32)
    expected = -sum(x * np.log(x) for x in np.float64(p) if x > 0)
    np.testing.assert_allclose(jitted_entropy(p), expected, **close)
    np.testing.assert_allclose(jitted_kl_divergence(p, uniform), np.log(5) - expected, **close)
    assert jitted_entropy(p) <= np.log(5) + 2e-6
    np.testing.assert_allclose(jitted_entropy(uniform), np.log(5), rtol=1e-6)


@properties
@given(distributions(5), distributions(5))
def test_divergence_is_zero_between_equals_alone(p, q):
    """Pinsker: KL(p || q) >= |p - q|^2 / 2, the norm being the sum of absolute values."""
    assert jitted_kl_divergence(p, p) == 0
    assert jitted_kl_divergence(p, q) >= np.abs(p - q).sum() ** 2 / 2 - 2e-6
    assert np.isinf(jitted_kl_divergence(p, q)) == ((p > 0) & (q == 0)).any()


@properties
@given(distributions(3, 4), arrays(np.int32, 4, elements=st.integers(0, 3)))
def test_merging_columns_tells_no_more(joint, merged):
    """Data processing: I(X; f(Y)) <= I(X; Y)."""
    processed = joint @ np.eye(4, dtype=np.float32)[merged]
    assert jitted_mutual_information(processed) <= jitted_mutual_information(joint) + 2e-6


@jax.jit
def bound_and_gap(joint, q):
    """J_V under q, J_V under the posterior, and E_y KL(p(x | y) || q(x | y))."""
    y = joint.sum(0)
    posterior = jnp.where(y > 0, joint / jnp.where(y > 0, y, 1), 1 / joint.shape[0])
    gap = (y * kl_divergence(posterior.T, q.T)).sum()
    bounds = (variational_bound(joint, jnp.log(guess)) for guess in (q, posterior))
    return *bounds, gap, mi_lower_bound(jnp.log(q), joint, entropy(joint.sum(1)))


@properties
@given(distributions(3, 4), distributions(3, 4, positive=True))
def test_variational_bound(joint, weights):
    bound, best, gap, of_losses = bound_and_gap(joint, weights / weights.sum(0))
    h_x, _, information = tables_in_numpy(joint)
    p, q = np.float64(joint), np.float64(weights / weights.sum(0))
    expected = h_x + (p * np.log(q)).sum()
    assert bound <= information + 2e-6
    np.testing.assert_allclose(bound, expected, **close)
    np.testing.assert_allclose(best, information, **close)
    np.testing.assert_allclose(gap, information - expected, **close)
    np.testing.assert_allclose(of_losses, expected, **close)


def test_variational_bound_of_known_posteriors(variant):
    joint = jnp.array([[0.5, 0.0], [0.25, 0.25]])
    q = jnp.array([[0.5, 0.0], [0.5, 1.0]])
    bound = variant(lambda joint, q: variational_bound(joint, jnp.log(q)))
    np.testing.assert_allclose(bound(joint, q), LOG2 - 0.75 * LOG2, rtol=1e-5)
    assert bound(joint, 1 - q) == -np.inf  # what it rules out does occur


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        joint = jnp.array([[0.1, 0.3, 0.2], [0.15, 0.05, 0.2]])
        q = jnp.array([[0.3, 0.2, 0.1], [0.1, 0.2, 0.1]])
        actions, mask = episodes([0], [0], [0], [1], [0], [1])

        @jax.jit
        def measures(joint, q):
            return (
                entropy(joint),
                joint_entropy(joint),
                conditional_entropy(joint),
                kl_divergence(joint, q),
                mutual_information(joint),
                variational_bound(joint, jnp.log(q)),
                action_information(joint / joint.sum(0), actions, mask),
            )

        check_grads(measures, (joint, q), order=1)


def test_terms_of_probability_zero_are_constant_to_the_gradient(variant):
    p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.5, 0.25])
    slope = LOG2 - 1
    np.testing.assert_allclose(variant(jax.grad(entropy))(p), [slope, slope, 0], rtol=1e-5)
    of_p, of_q = variant(jax.grad(kl_divergence, argnums=(0, 1)))(p, q)
    np.testing.assert_allclose(of_p, [LOG2 + 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(of_q, [-2, -1, 0], rtol=1e-5)


LOGITS = np.array([[0.3, -300.0], [1.0, -0.5], [-300.0, 0.2]], np.float32)
POSSIBLE = LOGITS > -300


with np.errstate(divide="ignore"):
    SOFTMAX = np.where(POSSIBLE, np.exp(np.float64(LOGITS)), 0)
    SOFTMAX /= SOFTMAX.sum()
    OF_X, OF_Y = SOFTMAX.sum(1, keepdims=True), SOFTMAX.sum(0, keepdims=True)
    GUESS = POSSIBLE / POSSIBLE.sum(0)
    TERMS = {
        "joint entropy": -np.log(SOFTMAX),
        "conditional entropy": -np.log(SOFTMAX / OF_Y),
        "information": np.log(SOFTMAX / (OF_X * OF_Y)),
        "bound": np.log(GUESS) - np.log(OF_X),
    }
"""Each measure is the mean of such a term over the pairs, whose own gradient has the mean 0."""


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("joint entropy", joint_entropy),
        ("conditional entropy", conditional_entropy),
        ("information", mutual_information),
        ("bound", lambda joint: variational_bound(joint, jnp.log(GUESS))),
    ],
)
def test_gradients_of_a_saturated_softmax(name, measure):
    """d E[f] / d logit = p (f - E[f]), over the pairs that are possible at all."""
    actual = jax.jit(jax.grad(lambda x: measure(jax.nn.softmax(x, axis=(0, 1)))))(LOGITS)
    term = np.where(POSSIBLE, TERMS[name], 0)
    expected = SOFTMAX * (term - (SOFTMAX * term).sum())
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(actual).max() > 0.01


def test_count_table(variant):
    x, y = jnp.array([0, 1, 1, 1, 0]), jnp.array([2, 0, 0, 1, 2])
    counts = variant(lambda x, y: count_table(x, y, 2, 3))(x, y)
    np.testing.assert_array_equal(counts, [[0, 0, 2], [2, 1, 0]])
    mask = jnp.array([True, True, False, False, True])
    counts = variant(lambda *args: count_table(*args[:2], 2, 3, args[2]))(x, y, mask)
    np.testing.assert_array_equal(counts, [[0, 0, 2], [1, 0, 0]])


def test_what_is_out_of_range_is_not_counted():
    x, y = jnp.array([0, -1, 2, 1, 1, 0]), jnp.array([0, 0, 0, -1, 2, 1])
    np.testing.assert_array_equal(count_table(x, y, 2, 2), [[1, 1], [0, 0]])


def test_entropy_of_known_counts(variant):
    counts = jnp.array([[4, 2, 1, 1], [8, 0, 0, 0], [4, 0, 4, 0]])
    plug_in = np.array([1.75, 0, 1]) * LOG2
    np.testing.assert_allclose(variant(plug_in_entropy)(counts), plug_in, rtol=1e-6)
    corrected = plug_in + np.array([3, 0, 1]) / 16
    np.testing.assert_allclose(variant(miller_madow_entropy)(counts), corrected, rtol=1e-6)


@pytest.mark.parametrize(
    ("counts", "plug_in", "correction"),
    [
        pytest.param([[9, 1], [1, 9]], LOG2 - H_TENTH, 1 / 40, id="all four pairs"),
        pytest.param([[2, 2], [2, 2]], 0, 1 / 16, id="independent"),
        pytest.param([[4, 0], [0, 4]], LOG2, -1 / 16, id="identical"),
        pytest.param([[4, 0, 0], [0, 2, 2]], LOG2, -1 / 16, id="noiseless channel"),
        pytest.param([[5, 0], [0, 0]], 0, 0, id="one pair"),
    ],
)
def test_information_of_known_counts(variant, counts, plug_in, correction):
    counts = jnp.array(counts)
    actual = variant(plug_in_mutual_information)(counts)
    np.testing.assert_allclose(actual, plug_in, rtol=1e-5, atol=1e-6)
    actual = variant(corrected_mutual_information)(counts)
    np.testing.assert_allclose(actual, plug_in - correction, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "estimate",
    [
        plug_in_entropy,
        miller_madow_entropy,
        plug_in_mutual_information,
        corrected_mutual_information,
    ],
)
def test_no_observation_is_not_a_number(variant, estimate):
    actual = variant(estimate)(jnp.zeros((2, 3), int))
    assert np.isnan(actual).all()


@pytest.mark.parametrize("num_observations", [40, 80])
def test_correction_halves_the_bias_at_least(num_observations):
    """Means over 4000 samples of independent observations, so standard errors below 0.002."""
    joint = np.array([[0.3, 0.1, 0.1], [0.05, 0.15, 0.3]])
    entropy_of_joint = -(joint * np.log(joint)).sum()
    *_, information = tables_in_numpy(joint)

    @jax.jit
    @jax.vmap
    def estimates(key):
        cell = jax.random.categorical(key, jnp.log(joint.ravel()), shape=(num_observations,))
        x, y = jnp.divmod(cell, joint.shape[1])
        counts = count_table(x, y, *joint.shape)
        cells = counts.ravel()
        return (
            (plug_in_entropy(cells), miller_madow_entropy(cells)),
            (plug_in_mutual_information(counts), corrected_mutual_information(counts)),
        )

    of_entropy, of_information = estimates(jax.random.split(jax.random.key(0), 4000))
    plug_in, corrected = np.mean(of_entropy, axis=1) - entropy_of_joint
    assert plug_in < 0
    assert abs(corrected) < abs(plug_in) / 2
    plug_in, corrected = np.mean(of_information, axis=1) - information
    assert plug_in > 0
    assert abs(corrected) < plug_in / 2


def episodes(*sequences, length=3):
    """Actions `T K 1` and mask `T K` of the given action sequences."""
    actions = np.full((length, len(sequences), 1), 0, np.int32)
    mask = np.zeros((length, len(sequences)), bool)
    for k, sequence in enumerate(sequences):
        actions[: len(sequence), k, 0] = sequence
        mask[: len(sequence), k] = True
    return jnp.asarray(actions), jnp.asarray(mask)


def garbled(actions, mask):
    """The same episodes with other padding."""
    return np.where(mask[..., None], actions, np.arange(actions.size).reshape(actions.shape))


def test_same_sequence():
    same = jax.jit(same_sequence)(*episodes([1, 0], [1], [1, 0], [1, 0, 0]))
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(same, np.array(expected, bool))


def test_sequence_ids(variant):
    actions, mask = episodes([1, 0], [1], [1, 0], [1, 0, 0], [1], [1, 0])
    ids = variant(sequence_ids)(actions, mask)
    np.testing.assert_array_equal(ids, [0, 1, 0, 3, 1, 0])


def test_every_agent_counts_in_a_sequence():
    actions = jnp.array([[[0, 1], [1, 0], [0, 1], [0, 0]]])
    ids = sequence_ids(actions, jnp.ones((1, 4), bool))
    np.testing.assert_array_equal(ids, [0, 1, 0, 3])


LATENT_PROBS = jnp.array([0.5, 0.25, 0.25])


def at_each_start(num_starts, probs=LATENT_PROBS):
    """The same p(z) whatever the start."""
    return jnp.broadcast_to(jnp.asarray(probs)[:, None], (len(probs), num_starts))


@pytest.mark.parametrize(
    ("sequences", "expected_bits"),
    [
        pytest.param([[0, 0], [0, 0], [0], [0], [1, 1], [1, 1]], 1.5, id="all differ"),
        pytest.param([[0, 1]] * 6, 0.0, id="all alike"),
        pytest.param([[0], [0], [1], [1], [1], [1]], 1.0, id="two alike"),
        pytest.param([[0], [1], [0], [1], [0], [1]], 0.0, id="starts alone"),
        pytest.param([[0], [0], [1], [1], [2], [1]], (1.5 + 1) / 2, id="one start tells more"),
        pytest.param([[0], [1], [1], [0], [1], [0]], 1.0, id="z means another thing each time"),
    ],
)
def test_action_information_of_known_episodes(variant, sequences, expected_bits):
    """The first of each pair of episodes from one start, the second from another."""
    actual = variant(action_information)(at_each_start(2), *episodes(*sequences))
    np.testing.assert_allclose(actual, expected_bits * LOG2, rtol=1e-5, atol=1e-6)


def test_action_information_weighs_z_by_its_probability_at_each_start():
    probs = jnp.array([[0.5, 1.0], [0.25, 0.0], [0.25, 0.0]])
    actual = action_information(probs, *episodes([0], [0], [1], [1], [2], [2]))
    np.testing.assert_allclose(actual, 1.5 * LOG2 / 2, rtol=1e-5)


def test_starts_that_all_differ_tell_nothing_of_z():
    """Four starts, eight z that play alike: counted over all together they would seem to differ."""
    sequences = [[k % 2, k // 2] for _ in range(8) for k in range(4)]
    assert action_information(jnp.full((8, 4), 1 / 8), *episodes(*sequences)) == 0


LATENT_IDS = jnp.array([0, 1, 0, 1, 2, 0, 2, 1])


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
    arguments = LATENT_IDS, *episodes(*sequences)
    for corrected in (False, True):
        estimate = variant(lambda *args, c=corrected: _sampled(*args, corrected=c))
        expected = plug_in_bits * LOG2 - corrected * correction
        np.testing.assert_allclose(estimate(*arguments), expected, rtol=1e-5, atol=1e-6)


def _sampled(*args, corrected=False):
    return sampled_action_information(*args, 3, corrected=corrected)


jitted_sequence_ids = jax.jit(sequence_ids)
jitted_action_information = jax.jit(action_information)
jitted_sampled = jax.jit(_sampled, static_argnames="corrected")


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
    """Actions and mask of random short episodes, and each one's sequence as a tuple."""
    shape = (length, num_episodes, num_agents)
    actions = draw(arrays(np.int32, shape, elements=st.integers(0, 1)))
    lengths = draw(arrays(np.int32, num_episodes, elements=st.integers(1, length)))
    mask = np.arange(length)[:, None] < lengths
    return (
        actions,
        mask,
        [tuple(map(tuple, actions[:n, k].tolist())) for k, n in enumerate(lengths)],
    )


@properties
@given(played_episodes(8))
def test_sequence_ids_name_the_first_alike(played):
    actions, mask, sequences = played
    expected = [sequences.index(sequence) for sequence in sequences]
    np.testing.assert_array_equal(jitted_sequence_ids(actions, mask), expected)
    np.testing.assert_array_equal(jitted_sequence_ids(garbled(actions, mask), mask), expected)


@properties
@given(data=st.data(), size=st.sampled_from([(3, 1), (2, 3)]))
def test_action_information_agrees_with_counting_start_by_start(data, size):
    num_latents, num_starts = size
    weights = data.draw(
        arrays(np.float32, size, elements=st.integers(0, 4)).filter(lambda w: w.any(0).all())
    )
    latent_probs = weights / weights.sum(0)
    actions, mask, sequences = data.draw(played_episodes(num_latents * num_starts))
    expected = [
        counted_information(latent_probs[:, k], enumerate(sequences[k::num_starts]))
        for k in range(num_starts)
    ]
    actual = jitted_action_information(latent_probs, actions, mask)
    np.testing.assert_allclose(actual, np.mean(expected), atol=1e-5)


@properties
@given(arrays(np.int32, 8, elements=st.integers(0, 2)), played_episodes(8))
def test_sampled_action_information_agrees_with_counting(latent_ids, played):
    actions, mask, sequences = played
    pairs = list(zip(latent_ids.tolist(), sequences, strict=True))
    plug_in = counted_information([1 / 8] * 8, pairs)
    seen = [len(set(values)) for values in (pairs, latent_ids.tolist(), sequences)]
    correction = (seen[0] - seen[1] - seen[2] + 1) / 16
    actual = jitted_sampled(latent_ids, actions, mask)
    np.testing.assert_allclose(actual, plug_in, atol=1e-5)
    actual = jitted_sampled(latent_ids, actions, mask, corrected=True)
    np.testing.assert_allclose(actual, plug_in - correction, atol=1e-5)


@properties
@given(played_episodes(3))
def test_both_informations_agree_where_starts_are_alike(played):
    actions, mask = (jnp.repeat(x, 2, axis=1) for x in played[:2])
    by_latent = jitted_action_information(jnp.full((3, 2), 1 / 3), actions, mask)
    sampled = jitted_sampled(jnp.repeat(jnp.arange(3), 2), actions, mask)
    np.testing.assert_allclose(by_latent, sampled, **close)


def test_padded_actions_are_ignored():
    actions, mask = episodes([0, 1], [0, 1], [0])
    np.testing.assert_array_equal(
        jitted_action_information(at_each_start(1), garbled(actions, mask), mask),
        jitted_action_information(at_each_start(1), actions, mask),
    )


def test_unequal_numbers_of_episodes_are_refused():
    with pytest.raises(ValueError, match=r"^7 episodes .* 3 z from each of 2 starts$"):
        action_information(at_each_start(2), *episodes(*[[0]] * 7))


JOINT = jnp.full((2, 3), 1 / 6)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (joint_entropy, [JOINT[0]]),
        (conditional_entropy, [JOINT[None]]),
        (kl_divergence, [JOINT, JOINT[0]]),
        (mutual_information, [JOINT[0]]),
        (variational_bound, [JOINT, JOINT.T]),
        (plug_in_entropy, [JOINT]),
        (miller_madow_entropy, [JOINT]),
        (plug_in_mutual_information, [JOINT]),
        (corrected_mutual_information, [JOINT]),
        (count_table, [jnp.arange(2), jnp.arange(3), 2, 3]),
        (sequence_ids, [jnp.zeros((2, 3, 1), int), jnp.ones((3, 2), bool)]),
        (_sampled, [jnp.arange(2), *episodes([0], [1], [1])]),
    ],
)
def test_wrong_shapes_and_types_are_refused(function, arguments):
    with pytest.raises(TypeCheckError):
        function(*arguments)
