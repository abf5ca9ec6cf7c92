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
from maven_jax.pymarl.arrays import WeightsError
from maven_jax.pymarl.weights import (
    StateDicts,
    agent_from_pymarl,
    agent_to_pymarl,
    discriminator_from_pymarl,
    discriminator_to_pymarl,
    expected_state_dicts,
    from_pymarl,
    latent_from_pymarl,
    latent_to_pymarl,
    mixer_from_pymarl,
    mixer_to_pymarl,
    to_pymarl,
)
from maven_jax.types import EnvSpec, Params

KINDS = ("iql", "vdn", "qmix", "qtran", "maven", "policy", "returns")
SPEC = EnvSpec(num_agents=3, num_actions=2, view_size=5, state_size=7, time_limit=4)
SIZES = {
    "network": {"hidden_size": 6, "mixer_embed_size": 4},
    "latent": {"size": 3, "hidden_size": 8},
    "discriminator": {"hidden_size": 5, "hidden_layers": 2, "recurrent_size": 9},
}
MAVEN = from_dict({"algorithm": "maven"} | SIZES)


def draw(part):
    return random_params(lambda key: part.init_params(key, SPEC, latent_size=3))


def draw_latent(latent):
    return random_params(lambda key: latent.init_params(key, SPEC.state_size))


def draw_all(config):
    """Weights of an algorithm: `Params` and those of its latent."""
    algorithm = make_algorithm(config, SPEC)

    def init(key):
        discriminator, size = algorithm.discriminator, algorithm.latent.size
        params = Params(
            algorithm.agent.init_params(key, SPEC, size),
            algorithm.mixer.init_params(key, SPEC, size),
            discriminator.init_params(key, SPEC, size) if discriminator else {},
        )
        return params, algorithm.latent.init_params(key, SPEC.state_size)

    return random_params(init)


def assert_same(actual, expected):
    """Bit for bit, names and structure included."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("latent_head", [None, "additive"])
def test_agent_round_trip(latent_head):
    params = draw(RecurrentAgent(6, SPEC.num_actions, latent_head))
    arrays = agent_to_pymarl(params)
    assert_same(agent_from_pymarl(arrays), params)
    assert_same(agent_to_pymarl(agent_from_pymarl(arrays)), arrays)


@pytest.mark.parametrize(
    "mixer",
    [
        QMixer(4),
        QMixer(4, skip_connections=True),
        QMixer(4, monotonic=False),
        QMixer(4, hypernet_size=5),
        QMixer(4, skip_connections=True, hypernet_size=4),
        JointCritic(4, 2),
    ],
)
def test_mixer_round_trip(mixer):
    params = draw(mixer)
    arrays = mixer_to_pymarl(params)
    assert_same(mixer_from_pymarl(arrays), params)
    assert_same(mixer_to_pymarl(mixer_from_pymarl(arrays)), arrays)


@pytest.mark.parametrize("mixer", [IndependentMixer(), SumMixer()])
def test_mixers_without_weights(mixer):
    assert mixer_to_pymarl(draw(mixer)) == {}
    assert mixer_from_pymarl({}) == draw(mixer) == {}


@pytest.mark.parametrize(
    "discriminator",
    [
        FeedForwardDiscriminator(5, 1),
        FeedForwardDiscriminator(5, 3),
        RecurrentDiscriminator(5, 2, 9),
    ],
)
def test_discriminator_round_trip(discriminator):
    params = draw(discriminator)
    arrays = discriminator_to_pymarl(params)
    assert_same(discriminator_from_pymarl(*arrays), params)
    assert_same(discriminator_to_pymarl(discriminator_from_pymarl(*arrays)), arrays)


@pytest.mark.parametrize(
    "latent",
    [CategoricalLatent(3, 8), BanditLatent(3, 8, 20.0, 1.0, 0.1), UniformLatent(3)],
)
def test_latent_round_trip(latent):
    params = draw_latent(latent)
    arrays = latent_to_pymarl(params)
    assert_same(latent_from_pymarl(arrays), params)
    assert_same(latent_to_pymarl(latent_from_pymarl(arrays)), arrays)


def test_written_arrays_are_in_torch_layout():
    params = draw(QMixer(4, skip_connections=True))
    arrays = mixer_to_pymarl(params)
    kernel = params["params"]["hyper"]["kernel"]
    np.testing.assert_array_equal(arrays["hyper_w_1.weight"], kernel[:, :12].T)
    np.testing.assert_array_equal(arrays["V.0.weight"], kernel[:, -4:].T)
    assert arrays["hyper_w_1.weight"].shape == (4 * 3, 7 + 3)
    assert arrays["V.2.weight"].shape == (1, 4)
    for array in arrays.values():
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_recorded_state_dicts_survive_both_directions(golden_path):
    with np.load(golden_path) as file:
        case = dict(file)
    kind = json.loads(str(case["config"]))["kind"]

    def part(name):
        start = f"params/{name}"
        return {k.removeprefix(start): x for k, x in case.items() if k.startswith(start)}

    if kind in ("policy", "returns"):
        assert_same(latent_to_pymarl(latent_from_pymarl(part(""))), part(""))
        return
    agent = part("agent/")
    if kind == "maven":
        dead = ("fc2.", "noise_fc")
        agent = {name: x for name, x in agent.items() if not name.startswith(dead)}
    assert_same(agent_to_pymarl(agent_from_pymarl(part("agent/"))), agent)
    assert_same(mixer_to_pymarl(mixer_from_pymarl(part("mixer/"))), part("mixer/"))
    pair = part("discrim/"), part("rnn_agg/")
    assert_same(discriminator_to_pymarl(discriminator_from_pymarl(*pair)), pair)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["categorical", "bandit", "uniform"])
def test_a_whole_algorithm_round_trip(algorithm, kind):
    sizes = SIZES | {"latent": SIZES["latent"] | {"kind": kind}}
    config = from_dict({"algorithm": algorithm} | sizes)
    params, latent_params = draw_all(config)
    arrays = to_pymarl(params, latent_params)
    assert_same(from_pymarl(arrays, config, SPEC), (params, latent_params))
    expected = expected_state_dicts(config, SPEC)
    assert jax.tree.map(np.shape, expected) == jax.tree.map(np.shape, arrays)
    assert [list(part) for part in expected] == [list(part) for part in arrays]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnn.bias_hh": None}, "array 'rnn.bias_hh' is missing"),
        ({"fc1.weight": np.zeros(6)}, "array 'fc1.weight' has shape (6,); expected (any, any)"),
        ({"fc1.bias": np.zeros(7)}, "array 'fc1.bias' has shape (7,); expected (6,)"),
        (
            {"rnn.weight_ih": np.zeros((18, 5)), "fc2.bias": None},
            "array 'rnn.weight_ih' has shape (18, 5); expected (18, 6)",
        ),
        (
            {"fc2.weight": np.zeros((2, 7))},
            "array 'fc2.weight' has shape (2, 7); expected (2, 6)",
        ),
        ({"fc3.weight": np.zeros((2, 6))}, "array 'fc3.weight' has no counterpart here"),
        ({"noise_fc1.bias": np.zeros(6)}, "array 'noise_fc1.bias' has no counterpart here"),
    ],
)
def test_the_first_wrong_array_is_named(changes, message):
    arrays = agent_to_pymarl(draw(RecurrentAgent(6, SPEC.num_actions))) | changes
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(WeightsError) as raised:
        agent_from_pymarl(arrays)
    assert str(raised.value) == message


def test_hypernetworks_that_do_not_stack_are_named():
    arrays = mixer_to_pymarl(draw(QMixer(4)))
    arrays["hyper_b_1.weight"] = np.zeros((4, 9))
    with pytest.raises(WeightsError, match=r"'hyper_b_1.weight' .* \(4, 9\); expected \(4, 10\)"):
        mixer_from_pymarl(arrays)


def test_discriminators_with_a_layer_missing():
    arrays, aggregator = discriminator_to_pymarl(draw(RecurrentDiscriminator(5, 2, 9)))
    with pytest.raises(WeightsError, match=r"array 'rnn\.bias_ih' is missing"):
        discriminator_from_pymarl(arrays, {k: x for k, x in aggregator.items() if "bias" not in k})
    with pytest.raises(WeightsError, match=r"'rnn.weight_hh' .* \(27, 8\); expected \(27, 9\)"):
        discriminator_from_pymarl(arrays, aggregator | {"rnn.weight_hh": np.zeros((27, 8))})
    del arrays["model.2.weight"]
    with pytest.raises(WeightsError, match=r"array 'model\.2\.weight' is missing"):
        discriminator_from_pymarl(arrays, aggregator)


def test_layers_that_the_published_code_lacks_are_named():
    discriminator = draw(FeedForwardDiscriminator(5, 1, discrete=False))
    with pytest.raises(WeightsError, match="layer 'head/location/bias' has no counterpart in the"):
        discriminator_to_pymarl(discriminator)


def test_weights_of_many_seeds_are_refused():
    seeds = jax.tree.map(lambda x: np.stack([x, x]), draw(QMixer(4)))
    with pytest.raises(WeightsError, match=r"\(2, 10, 24\); expected 2 axes, those of one seed"):
        mixer_to_pymarl(seeds)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("agent", {"fc1.weight": None}, "array 'fc1.weight' is missing; expected (6, 10)"),
        (
            "agent",
            {"fc1.weight": np.zeros((6, 11))},
            "array 'fc1.weight' has shape (6, 11); expected (6, 10)",
        ),
        (
            "agent",
            {"hyper_noise_fc1.weight": np.zeros((12, 7))},
            "array 'hyper_noise_fc1.weight' has shape (12, 7); expected (12, 6)",
        ),
        ("mixer", {"V.2.bias": np.zeros(2)}, "array 'V.2.bias' has shape (2,); expected (1,)"),
        (
            "mixer",
            {"skip_connections.weight": np.zeros((3, 10))},
            "array 'skip_connections.weight' has no counterpart here",
        ),
        (
            "discriminator",
            {"model.4.weight": np.zeros((4, 5))},
            "array 'model.4.weight' has shape (4, 5); expected (3, 5)",
        ),
        (
            "aggregator",
            {"rnn.weight_ih": np.zeros((27, 12))},
            "array 'rnn.weight_ih' has shape (27, 12); expected (27, 13)",
        ),
        (
            "latent",
            {"affine1.weight": np.zeros((128, 7))},
            "array 'affine1.weight' has shape (128, 7); expected (8, 7)",
        ),
    ],
)
def test_arrays_are_checked_against_the_configuration(part, changes, message):
    arrays = to_pymarl(*draw_all(MAVEN))
    changed = getattr(arrays, part) | changes
    changed = {name: array for name, array in changed.items() if array is not None}
    with pytest.raises(WeightsError) as raised:
        from_pymarl(arrays._replace(**{part: changed}), MAVEN, SPEC)
    assert str(raised.value) == f"{part}: {message}"


def test_dead_layers_of_the_published_agent_are_ignored():
    params, latent_params = draw_all(MAVEN)
    arrays = to_pymarl(params, latent_params)
    dead = {"fc2.weight": np.zeros((2, 6)), "noise_fc3.bias": np.zeros(2)}
    assert_same(
        from_pymarl(arrays._replace(agent={**arrays.agent, **dead}), MAVEN, SPEC),
        (params, latent_params),
    )


def test_weights_of_another_algorithm_are_refused():
    qmix = from_dict({"algorithm": "qmix"} | SIZES)
    agent, mixer, *_ = to_pymarl(*draw_all(MAVEN))
    with pytest.raises(WeightsError, match=r"agent: array 'fc2\.weight' is missing"):
        from_pymarl(StateDicts(agent, mixer), qmix, SPEC)
    agent, mixer, *_ = to_pymarl(*draw_all(qmix))
    with pytest.raises(WeightsError, match=r"mixer: array 'hyper_w_1.weight' has no counterpart"):
        from_pymarl(StateDicts(agent, mixer), from_dict({"algorithm": "vdn"} | SIZES), SPEC)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"latent": {"kind": "gaussian"}}, "latent.kind is 'gaussian'; allowed: categorical"),
        ({"network": {"layer_norm": True}}, "network.layer_norm is True; allowed: False"),
        ({"network": {"hidden_layers": 2}}, "network.hidden_layers is 2; allowed: 1"),
        ({"network": {"latent_head": "paired"}}, "network.latent_head is 'paired'; allowed: add"),
        ({"network": {"latent_head_scale": 2}}, "network.latent_head_scale is 2.0; allowed: 1, as"),
        ({"network": {"latent_head": "residual"}}, "network.latent_head is 'residual'; allowed: a"),
    ],
)
def test_what_the_published_code_does_not_have(section, message):
    with pytest.raises(ConfigError, match=message):
        from_pymarl(StateDicts({}), from_dict({"algorithm": "maven"} | section), SPEC)
