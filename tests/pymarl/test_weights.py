"""State dicts of the published code to parameters and back, and what is said of damaged ones."""

import json

import jax
import numpy as np
import pytest
from helpers import random_params

from maven_jax.algorithms.table import ALGORITHMS, make_algorithm
from maven_jax.config import from_dict
from maven_jax.errors import ConfigError
from maven_jax.latents import BanditLatent, CategoricalLatent, UniformLatent
from maven_jax.networks.agents import RecurrentAgent
from maven_jax.networks.discriminators import FeedForwardDiscriminator, RecurrentDiscriminator
from maven_jax.networks.mixers import IndependentMixer, JointCritic, QMixer, SumMixer
from maven_jax.pymarl import weights
from maven_jax.pymarl.arrays import WeightsError
from maven_jax.pymarl.weights import StateDicts, expected_state_dicts, from_pymarl, to_pymarl
from maven_jax.types import EnvSpec, Params

KINDS = ("iql", "vdn", "qmix", "qtran", "maven", "policy", "returns")
SPEC = EnvSpec(num_agents=3, num_actions=2, view_size=5, state_size=7, time_limit=4)
SIZES = {
    "network": {"hidden_size": 6, "mixer_embed_size": 4},
    "latent": {"size": 3, "hidden_size": 8},
    "discriminator": {"hidden_size": 5, "hidden_layers": 2, "recurrent_size": 9},
}
MAVEN, QMIX, VDN = (from_dict({"algorithm": name} | SIZES) for name in ("maven", "qmix", "vdn"))


def draw(part):
    return random_params(lambda key: part.init_params(key, SPEC, latent_size=3))


def draw_all(config):
    """Weights of an algorithm: `Params` and those of its latent."""
    algorithm = make_algorithm(config, SPEC)
    agent, mixer, discriminator = algorithm.agent, algorithm.mixer, algorithm.discriminator

    def init(key):
        size = algorithm.latent.size
        params = Params(
            agent.init_params(key, SPEC, size),
            mixer.init_params(key, SPEC, size),
            discriminator.init_params(key, SPEC, size) if discriminator else {},
        )
        return params, algorithm.latent.init_params(key, SPEC.state_size)

    return random_params(init)


def write(kind, params):
    """The arrays of a part: agent, mixer, discriminator (a pair) or latent."""
    return getattr(weights, f"{kind}_to_pymarl")(params)


def read(kind, arrays):
    function = getattr(weights, f"{kind}_from_pymarl")
    return function(*arrays) if kind == "discriminator" else function(arrays)


def assert_same(actual, expected):
    """Bit for bit, names and structure included."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


PARTS = [
    ("agent", RecurrentAgent(6, 2)),
    ("agent", RecurrentAgent(6, 2, "additive")),
    ("mixer", IndependentMixer()),
    ("mixer", SumMixer()),
    ("mixer", QMixer(4)),
    ("mixer", QMixer(4, skip_connections=True)),
    ("mixer", QMixer(4, monotonic=False)),
    ("mixer", QMixer(4, hypernet_size=5)),
    ("mixer", QMixer(4, skip_connections=True, hypernet_size=4)),
    ("mixer", JointCritic(4, 2)),
    ("discriminator", FeedForwardDiscriminator(5, 1)),
    ("discriminator", FeedForwardDiscriminator(5, 3)),
    ("discriminator", RecurrentDiscriminator(5, 2, 9)),
    ("latent", CategoricalLatent(3, 8)),
    ("latent", BanditLatent(3, 8, 20.0, 1.0, 0.1)),
    ("latent", UniformLatent(3)),
]


@pytest.mark.parametrize(("kind", "part"), PARTS, ids=lambda x: type(x).__name__)
def test_parameters_survive_both_directions(kind, part):
    if kind == "latent":
        params = random_params(lambda key: part.init_params(key, SPEC.state_size))
    else:
        params = draw(part)
    arrays = write(kind, params)
    assert_same(read(kind, arrays), params)
    assert_same(write(kind, read(kind, arrays)), arrays)


def test_written_arrays_are_in_torch_layout():
    params = draw(QMixer(4, skip_connections=True))
    arrays = write("mixer", params)
    kernel = params["params"]["hyper"]["kernel"]
    np.testing.assert_array_equal(arrays["hyper_w_1.weight"], kernel[:, :12].T)
    np.testing.assert_array_equal(arrays["V.0.weight"], kernel[:, -4:].T)
    assert arrays["hyper_w_1.weight"].shape == (4 * 3, 7 + 3)
    assert arrays["V.2.weight"].shape == (1, 4)
    assert all(x.flags.c_contiguous and x.flags.writeable for x in arrays.values())


def test_recorded_state_dicts_survive_both_directions(golden_path):
    with np.load(golden_path) as file:
        case = dict(file)
    kind = json.loads(str(case["config"]))["kind"]

    def part(name):
        start = f"params/{name}"
        return {k.removeprefix(start): x for k, x in case.items() if k.startswith(start)}

    if kind in ("policy", "returns"):
        parts = {"latent": part("")}
    else:
        pair = part("discrim/"), part("rnn_agg/")
        parts = {"agent": part("agent/"), "mixer": part("mixer/"), "discriminator": pair}
    for name, arrays in parts.items():
        written = write(name, read(name, arrays))
        if (name, kind) == ("agent", "maven"):
            dead = ("fc2.", "noise_fc")
            arrays = {k: x for k, x in arrays.items() if not k.startswith(dead)}
        assert_same(written, arrays)


ALGORITHMS_AND_LATENTS = [(name, "categorical") for name in ALGORITHMS]
ALGORITHMS_AND_LATENTS += [("maven", "bandit"), ("maven", "uniform")]


@pytest.mark.parametrize(("algorithm", "latent"), ALGORITHMS_AND_LATENTS)
def test_a_whole_algorithm_survives_both_directions(algorithm, latent):
    sizes = SIZES | {"latent": SIZES["latent"] | {"kind": latent}}
    config = from_dict({"algorithm": algorithm} | sizes)
    params = draw_all(config)
    arrays = to_pymarl(*params)
    assert_same(from_pymarl(arrays, config, SPEC), params)
    expected = expected_state_dicts(config, SPEC)
    assert jax.tree.map(np.shape, expected) == jax.tree.map(np.shape, arrays)
    assert [list(part) for part in expected] == [list(part) for part in arrays]


def changed(arrays, changes):
    """With arrays of other shapes, or, for None, without them."""
    kept = {name: x for name, x in arrays.items() if changes.get(name, ()) is not None}
    return kept | {name: np.zeros(shape) for name, shape in changes.items() if shape is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnn.bias_hh": None}, "'rnn.bias_hh' is missing"),
        ({"fc1.weight": (6,)}, "'fc1.weight' has shape (6,); expected (any, any)"),
        ({"fc1.bias": (7,)}, "'fc1.bias' has shape (7,); expected (6,)"),
        (  # the first of two
            {"rnn.weight_ih": (18, 5), "fc2.bias": None},
            "'rnn.weight_ih' has shape (18, 5); expected (18, 6)",
        ),
        ({"fc3.weight": (2, 6)}, "'fc3.weight' has no counterpart here"),
        ({"noise_fc1.bias": (6,)}, "'noise_fc1.bias' has no counterpart here"),
    ],
)
def test_the_first_wrong_array_of_an_agent_is_named(changes, message):
    arrays = changed(write("agent", draw(RecurrentAgent(6, 2))), changes)
    with pytest.raises(WeightsError) as error:
        read("agent", arrays)
    assert str(error.value) == f"array {message}"


def test_the_first_wrong_array_of_a_mixer_or_discriminator_is_named():
    mixer = changed(write("mixer", draw(QMixer(4))), {"hyper_b_1.weight": (4, 9)})
    with pytest.raises(WeightsError, match=r"'hyper_b_1.weight' .* \(4, 9\); expected \(4, 10\)"):
        read("mixer", mixer)
    arrays, gru = write("discriminator", draw(RecurrentDiscriminator(5, 2, 9)))
    for pair, message in (
        ((arrays, changed(gru, {"rnn.bias_ih": None})), r"array 'rnn\.bias_ih' is missing"),
        (
            (arrays, changed(gru, {"rnn.weight_hh": (27, 8)})),
            r"'rnn.weight_hh' .* \(27, 8\); expected \(27, 9\)",
        ),
        ((changed(arrays, {"model.2.weight": None}), gru), r"'model\.2\.weight' is missing"),
    ):
        with pytest.raises(WeightsError, match=message):
            read("discriminator", pair)


def test_parameters_that_the_published_code_cannot_hold_are_named():
    discriminator = draw(FeedForwardDiscriminator(5, 1, discrete=False))
    with pytest.raises(WeightsError, match="layer 'head/location/bias' has no counterpart in the"):
        write("discriminator", discriminator)
    seeds = jax.tree.map(lambda x: np.stack([x, x]), draw(QMixer(4)))
    with pytest.raises(WeightsError, match=r"\(2, 10, 24\); expected 2 axes, those of one seed"):
        write("mixer", seeds)


@pytest.fixture(scope="module")
def maven():
    return draw_all(MAVEN)


@pytest.mark.parametrize(
    ("part", "name", "shape", "message"),
    [
        ("agent", "fc1.weight", None, "is missing; expected (6, 10)"),
        ("agent", "fc1.weight", (6, 11), "has shape (6, 11); expected (6, 10)"),
        ("agent", "hyper_noise_fc1.weight", (12, 7), "has shape (12, 7); expected (12, 6)"),
        ("mixer", "V.2.bias", (2,), "has shape (2,); expected (1,)"),
        ("mixer", "skip_connections.weight", (3, 10), "has no counterpart here"),
        ("discriminator", "model.4.weight", (4, 5), "has shape (4, 5); expected (3, 5)"),
        ("aggregator", "rnn.weight_ih", (27, 12), "has shape (27, 12); expected (27, 13)"),
        ("latent", "affine1.weight", (128, 7), "has shape (128, 7); expected (8, 7)"),
    ],
)
def test_arrays_are_checked_against_the_configuration(maven, part, name, shape, message):
    arrays = to_pymarl(*maven)
    wrong = changed(getattr(arrays, part), {name: shape})
    with pytest.raises(WeightsError) as error:
        from_pymarl(arrays._replace(**{part: wrong}), MAVEN, SPEC)
    assert str(error.value) == f"{part}: array {name!r} {message}"


def test_dead_layers_of_the_published_agent_are_ignored(maven):
    arrays = to_pymarl(*maven)
    agent = changed(arrays.agent, {"fc2.weight": (2, 6), "noise_fc3.bias": (2,)})
    assert_same(from_pymarl(arrays._replace(agent=agent), MAVEN, SPEC), maven)


def test_weights_of_another_algorithm_are_refused(maven):
    agent, mixer, *_ = to_pymarl(*maven)
    with pytest.raises(WeightsError, match=r"agent: array 'fc2\.weight' is missing"):
        from_pymarl(StateDicts(agent, mixer), QMIX, SPEC)
    agent, mixer, *_ = to_pymarl(*draw_all(QMIX))
    with pytest.raises(WeightsError, match=r"mixer: array 'hyper_w_1.weight' has no counterpart"):
        from_pymarl(StateDicts(agent, mixer), VDN, SPEC)


@pytest.mark.parametrize(
    ("section", "option", "value", "allowed"),
    [
        ("latent", "kind", "gaussian", "categorical"),
        ("network", "layer_norm", True, "False"),
        ("network", "hidden_layers", 2, "1"),
        ("network", "latent_head", "paired", "additive"),
        ("network", "latent_head_scale", 2.0, "1, as"),
    ],
)
def test_what_the_published_code_does_not_have(section, option, value, allowed):
    config = from_dict({"algorithm": "maven", section: {option: value}})
    with pytest.raises(ConfigError, match=f"{section}.{option} is {value!r}; allowed: {allowed}"):
        from_pymarl(StateDicts({}), config, SPEC)
