import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_experiments import FORMS, form_config

from maven_jax import agents, discriminators, mixers
from maven_jax.algorithms.table import make_algorithm
from maven_jax.latents import bandit, categorical, location_scale
from maven_jax.networks import gru, layers
from maven_jax.networks.gru import GRU
from maven_jax.networks.layers import Linear, fresh_params, matmul, normalised
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


def test_linear_by_hand():
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, -1.0]]), "bias": jnp.array([0.5, -0.5])}
    x = jnp.array([[[1.0, 1.0]], [[2.0, 0.0]]])
    y = Linear(2).apply({"params": params}, x)
    np.testing.assert_allclose(y, [[[4.5, 0.5]], [[2.5, 3.5]]])


@pytest.mark.parametrize("lead", [(), (5,), (2, 3, 4), (0, 3)])
def test_matmul_and_its_gradients_by_numpy(lead):
    random = np.random.default_rng(0)
    x, kernel, of_y = (
        random.normal(size=shape).astype(np.float32) for shape in ((*lead, 6), (6, 7), (*lead, 7))
    )
    y, gradients = jax.vjp(matmul, jnp.array(x), jnp.array(kernel))
    of_x, of_kernel = gradients(jnp.array(of_y))
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_x, of_y @ kernel.T, rtol=1e-5, atol=1e-6)
    rows = x.reshape(-1, 6).T @ of_y.reshape(-1, 7) if x.size else np.zeros((6, 7))
    np.testing.assert_allclose(of_kernel, rows, rtol=1e-5, atol=1e-6)


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


@pytest.mark.slow
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
    for place in (gru, layers):
        monkeypatch.setattr(
            place, "symmetric_uniform", lambda bound: lambda key, shape: jnp.full(shape, bound)
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


def test_normalised_by_hand():
    """Mean 3 and variance 3.5; equal numbers have none."""
    rows = jnp.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    expected = np.array([[-2, -1, 0, 3], [0, 0, 0, 0]]) / 3.5**0.5
    np.testing.assert_allclose(jax.jit(normalised)(rows), expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: normalised(x)[:, 0].sum()))(rows)
    assert np.isfinite(gradient).all()
