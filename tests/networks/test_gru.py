"""The gated recurrent unit by hand, against NumPy, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import numpy_gru
from jax.test_util import check_grads

from maven_jax.networks import gru
from maven_jax.networks.gru import FULL_UNROLL, GRU, GRUParams, gru_project, gru_step, gru_unroll

INPUTS, HIDDEN = 3, 40


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: GRU(HIDDEN).init_with_output(key, INPUTS)[0])(jax.random.key(0))


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


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


FIRST = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0]], bool).T
"""Where episodes of two rows begin, but for those at their start, which go on from the carry."""


def compute_as(form, monkeypatch):
    """Rows of five steps by one of the forms: short on a CPU or an accelerator, or long on any."""
    monkeypatch.setattr(gru, "FULL_UNROLL", 2 if form == "long" else 5)
    if form == "accelerator":
        monkeypatch.setattr(jax.lax, "platform_dependent", _off_the_cpu)


def _off_the_cpu(*arguments, cpu, default):
    """What `jax.lax.platform_dependent` computes on an accelerator."""
    return default(*arguments)


@pytest.mark.parametrize("first", [None, jnp.asarray(FIRST)], ids=["episodes", "rows"])
@pytest.mark.parametrize("form", ["cpu", "accelerator", "long"])
def test_gradients_agree_with_finite_differences(form, first, params, monkeypatch):
    compute_as(form, monkeypatch)
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.float64, (params, random(2, HIDDEN), random(5, 2, INPUTS)))
        unrolled = jax.jit(lambda *arguments: gru_unroll(*arguments, first))
        check_grads(unrolled, arguments, order=1, modes=["rev"])


@pytest.mark.parametrize("first", [None, jnp.asarray(FIRST)[..., None]], ids=["episodes", "rows"])
@pytest.mark.parametrize("form", ["accelerator", "long"])
def test_every_form_has_the_gradients_of_a_cpus_short_rows_under_vmap(
    form, first, params, monkeypatch
):
    """Of two networks, each with rows and agents of its own."""
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    carry, x, weights = random(2, 2, 3, HIDDEN), random(2, 5, 2, 3, INPUTS), random(5, 2, 3, HIDDEN)

    def gradients(form):
        compute_as(form, monkeypatch)

        def loss(params, carry, x):
            return (gru_unroll(params, carry, x, first) * weights).sum()

        return jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1, 2))))(stacked, carry, x)

    on_cpu, other = gradients("cpu"), gradients(form)
    for expected, found in zip(*map(jax.tree.leaves, (on_cpu, other)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
