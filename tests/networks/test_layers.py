from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from maven_jax.networks.gru import GRU, GRUParams
from maven_jax.networks.layers import Linear, fresh_params, matmul, normalised


def test_linear_by_hand():
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, -1.0]]), "bias": jnp.array([0.5, -0.5])}
    x = jnp.array([[[1.0, 1.0]], [[2.0, 0.0]]])
    y = Linear(2).apply({"params": params}, x)
    np.testing.assert_allclose(y, [[[4.5, 0.5]], [[2.5, 3.5]]])
    y = Linear(2, use_bias=False).apply({"params": {"kernel": params["kernel"]}}, x)
    np.testing.assert_allclose(y, [[[4.0, 1.0]], [[2.0, 4.0]]])


@pytest.mark.parametrize("lead", [(), (5,), (2, 3, 4), (0, 3)])
def test_matmul_and_its_gradients_by_numpy(lead):
    shapes = (*lead, 6), (6, 7), (*lead, 7)
    x, kernel, of_y = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in shapes)
    y, gradients = jax.vjp(matmul, jnp.array(x), jnp.array(kernel))
    of_x, of_kernel = gradients(jnp.array(of_y))
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_x, of_y @ kernel.T, rtol=1e-5, atol=1e-6)
    expected = x.reshape(-1, 6).T @ of_y.reshape(-1, 7)
    np.testing.assert_allclose(of_kernel, expected, rtol=1e-5, atol=1e-6)


class OneOfEach(nn.Module):
    """Layers of 6 inputs with and without a bias, of no input, and a GRU of 40 units."""

    @nn.compact
    def __call__(self, x):
        GRU(40, name="gru")(3)
        Linear(200, name="blind")(x[:0])
        Linear(200, use_bias=False, name="unbiased")(x)
        return Linear(200, name="linear")(x)


FAN_INS = {("gru", name): 40 for name in GRUParams._fields} | {
    ("blind", "bias"): 1,
    ("unbiased", "kernel"): 6,
    ("linear", "kernel"): 6,
    ("linear", "bias"): 6,
}


@pytest.mark.parametrize("draw", [OneOfEach().init, partial(fresh_params, OneOfEach())])
def test_fresh_weights_fill_their_range(draw):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), drawn by each layer or all at once; no two are one."""
    draw = jax.jit(draw)
    drawn, other = (
        flatten_dict(draw(jax.random.key(seed), jnp.zeros(6))["params"]) for seed in (0, 1)
    )
    assert drawn.keys() == other.keys() == FAN_INS.keys()
    shares = [drawn[path] * fan_in**0.5 for path, fan_in in FAN_INS.items()]
    for share in shares:
        assert -1.000001 <= share.min() < -0.9
        assert 0.9 < share.max() <= 1.000001
        assert abs(share.mean()) < 0.2
    together = np.concatenate([share.ravel() for share in shares])
    assert len(np.unique(together)) > 0.99 * together.size
    for path, weights in drawn.items():
        assert (weights != other[path]).mean() > 0.99


def test_weights_of_other_layers_are_not_made_up():
    with pytest.raises(ValueError, match=r"a weight is params\.scale; allowed: one of a L"):
        fresh_params(nn.LayerNorm(use_bias=False), jax.random.key(0), jnp.ones(3))


def test_normalised_by_hand():
    """Mean 3 and variance 3.5; equal numbers have none."""
    rows = jnp.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    expected = np.array([[-2, -1, 0, 3], [0, 0, 0, 0]]) / 3.5**0.5
    np.testing.assert_allclose(jax.jit(normalised)(rows), expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: normalised(x)[:, 0].sum()))(rows)
    assert np.isfinite(gradient).all()
