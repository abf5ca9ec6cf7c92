import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments import FORMS, form_config
from jax.test_util import check_grads

from maven_jax import agents, discriminators, layers, mixers
from maven_jax.algorithms import make_algorithm
from maven_jax.latents import bandit, categorical, location_scale
from maven_jax.layers import (
    FULL_UNROLL,
    GRU,
    GRUParams,
    Linear,
    fresh_params,
    gru_project,
    gru_step,
    gru_unroll,
    normalised,
)
from maven_jax.types import EnvSpec

INPUTS, HIDDEN = 3, 40
SPEC = EnvSpec(num_agents=2, num_actions=3, view_size=5, state_size=4, time_limit=2)


@jax.jit
def linear_params(key):
    return Linear(100).init(key, jnp.zeros(6))["params"]


@jax.jit
def gru_params(key):
    return GRU(HIDDEN).init_with_output(key, INPUTS)[0]


@jax.jit
def params_of_one_draw(key):
    return fresh_params(Linear(100), key, jnp.zeros(6))["params"]


@pytest.fixture(scope="module")
def params():
    return gru_params(jax.random.key(0))


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_linear_by_hand():
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, -1.0]]), "bias": jnp.array([0.5, -0.5])}
    x = jnp.array([[[1.0, 1.0]], [[2.0, 0.0]]])
    y = Linear(2).apply({"params": params}, x)
    np.testing.assert_allclose(y, [[[4.5, 0.5]], [[2.5, 3.5]]])


def test_linear_without_bias():
    layer = Linear(2, use_bias=False)
    params = {"params": {"kernel": jnp.ones((3, 2))}}
    initialised = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones(3))
    assert jax.tree.structure(initialised) == jax.tree.structure(params)
    np.testing.assert_array_equal(layer.apply(params, jnp.zeros(3)), [0.0, 0.0])


@pytest.mark.parametrize(
    ("initialise", "fan_in"),
    [(linear_params, 6), (gru_params, HIDDEN), (params_of_one_draw, 6)],
    ids=["linear", "gru", "one_draw"],
)
def test_weights_and_biases_fill_their_range(initialise, fan_in):
    bound = fan_in**-0.5
    for weights in jax.tree.leaves(initialise(jax.random.key(0))):
        assert -bound <= weights.min() < -0.9 * bound
        assert 0.9 * bound < weights.max() <= bound
        assert abs(weights.mean()) < 0.2 * bound


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_one_draw_has_the_weights_and_the_ranges_that_the_layers_ask_for(form, monkeypatch):
    """Of every network; what the layers ask for is what they give where U(-b, b) is b."""
    algorithm = make_algorithm(form_config(form), SPEC)
    latent_key, *keys = jax.random.split(jax.random.key(0), 4)
    networks = [algorithm.agent, algorithm.mixer, *filter(None, [algorithm.discriminator])]

    def fresh():
        size = algorithm.latent.size
        weights = [
            net.init_params(key, SPEC, size) for net, key in zip(networks, keys, strict=False)
        ]
        return [*weights, algorithm.latent.init_params(latent_key, SPEC.state_size)]

    drawn = jax.jit(fresh)()
    for place in (agents, bandit, categorical, discriminators, location_scale, mixers):
        monkeypatch.setattr(place, "fresh_params", lambda net, *args: net.init(*args))
    monkeypatch.setattr(
        layers, "symmetric_uniform", lambda bound: lambda key, shape: jnp.full(shape, bound)
    )
    bounds = jax.jit(lambda: fresh())()  # traced anew
    shares = jax.tree.map(lambda weight, bound: np.asarray(weight / bound), drawn, bounds)
    together = np.concatenate([share.ravel() for share in jax.tree.leaves(shares)])
    assert (np.abs(together) <= 1.0001).all()
    assert len(np.unique(together)) > 0.99 * together.size
    for share in jax.tree.leaves(shares):
        assert np.abs(share).max() > 0.9 if share.size > 100 else share.size > 0


@pytest.mark.parametrize(
    "initialise",
    [linear_params, gru_params, params_of_one_draw],
    ids=["linear", "gru", "one_draw"],
)
def test_different_keys_draw_different_weights(initialise):
    drawn = [jax.tree.leaves(initialise(jax.random.key(seed))) for seed in (0, 1)]
    for first, second in zip(*drawn, strict=True):
        assert (first != second).mean() > 0.99


def test_weights_of_other_layers_are_not_made_up():
    with pytest.raises(ValueError, match=r"a weight is params\.scale; allowed: one of a L"):
        layers.fresh_params(nn.LayerNorm(use_bias=False), jax.random.key(0), jnp.ones(3))


def numpy_gru(params, carry, x):
    """Cho et al. 2014: the update gate keeps the old state, the reset gate cuts the recurrence."""
    in_reset, in_update, in_new = np.split(x @ params.input_kernel + params.input_bias, 3, -1)
    reset, update, new = np.split(carry @ params.hidden_kernel + params.hidden_bias, 3, -1)
    reset, update = (1 / (1 + np.exp(-x)) for x in (in_reset + reset, in_update + update))
    return update * carry + (1 - update) * np.tanh(in_new + reset * new)


@pytest.mark.parametrize("leading", [(), (2, 5)])
def test_gru_step_agrees_with_numpy(params, leading):
    carry, x = random(*leading, HIDDEN), random(*leading, INPUTS)
    step = jax.jit(lambda *args: gru_step(params, args[0], gru_project(params, args[1])))
    expected = numpy_gru(jax.tree.map(np.asarray, params), carry, x)
    np.testing.assert_allclose(step(carry, x), expected, rtol=1e-5, atol=1e-6)


def test_gru_by_hand():
    zeros = GRUParams(jnp.zeros((1, 3)), jnp.zeros(3), jnp.zeros((1, 3)), jnp.zeros(3))
    keep = zeros._replace(hidden_bias=jnp.array([0.0, 50.0, 9.0]))
    renew = zeros._replace(input_bias=jnp.array([0.0, -50.0, 2.0]))
    carry, x = jnp.array([0.25]), jnp.array([1.0])
    for params, expected in [(zeros, 0.125), (keep, 0.25), (renew, np.tanh(2.0))]:
        after = gru_step(params, carry, gru_project(params, x))
        np.testing.assert_allclose(after, [expected], rtol=1e-6)


@pytest.mark.parametrize("length", [1, FULL_UNROLL, 2 * FULL_UNROLL + 5])
def test_unrolling_agrees_with_stepping(params, length):
    carry, x = random(2, HIDDEN), random(length, 2, INPUTS)
    hidden = jax.jit(gru_unroll)(params, carry, x)
    assert hidden.shape == (length, 2, HIDDEN)
    weights = jax.tree.map(np.asarray, params)
    for t in range(length):
        carry = numpy_gru(weights, carry, x[t])
        np.testing.assert_allclose(hidden[t], carry, rtol=1e-4, atol=1e-5)


def test_gru_gradients_agree_with_finite_differences(params):
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.float64, (params, random(2, HIDDEN), random(3, 2, INPUTS)))
        check_grads(jax.jit(gru_unroll), arguments, order=1, modes=["rev"])


def test_normalised_by_hand():
    """Mean 3 and variance 3.5; equal numbers have none."""
    rows = jnp.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    expected = np.array([[-2, -1, 0, 3], [0, 0, 0, 0]]) / 3.5**0.5
    np.testing.assert_allclose(jax.jit(normalised)(rows), expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: normalised(x)[:, 0].sum()))(rows)
    assert np.isfinite(gradient).all()
