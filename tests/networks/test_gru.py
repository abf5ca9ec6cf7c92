"""The gated recurrent unit by hand, against NumPy, and its gradients against those of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import numpy_gru

from maven_jax.networks import gru
from maven_jax.networks.gru import FULL_UNROLL, GRUParams, gru_project, gru_step, gru_unroll

INPUTS, HIDDEN = 3, 40


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


PARAMS = GRUParams(
    0.5 * random(INPUTS, 3 * HIDDEN),
    0.5 * random(3 * HIDDEN),
    0.1 * random(HIDDEN, 3 * HIDDEN),
    -0.1 * random(3 * HIDDEN),
)


@pytest.mark.parametrize("leading", [(), (2, 5)])
def test_gru_step_agrees_with_numpy(leading):
    carry, x = random(*leading, HIDDEN), random(*leading, INPUTS)
    step = jax.jit(lambda params, carry, x: gru_step(params, carry, gru_project(params, x)))
    expected = numpy_gru(PARAMS, carry, x)
    np.testing.assert_allclose(step(PARAMS, carry, x), expected, rtol=1e-5, atol=1e-6)


def test_gru_by_hand():
    zeros = GRUParams(jnp.zeros((1, 3)), jnp.zeros(3), jnp.zeros((1, 3)), jnp.zeros(3))
    keep = zeros._replace(hidden_bias=jnp.array([0.0, 50.0, 9.0]))
    renew = zeros._replace(input_bias=jnp.array([0.0, -50.0, 2.0]))
    carry, x = jnp.array([0.25]), jnp.array([1.0])
    for params, expected in [(zeros, 0.125), (keep, 0.25), (renew, np.tanh(2.0))]:
        after = gru_step(params, carry, gru_project(params, x))
        np.testing.assert_allclose(after, [expected], rtol=1e-6)


def unroll_on_an_accelerator(params, carry, x, first):
    """What `gru_unroll` computes of short rows anywhere but on a CPU."""
    weights = gru.Recurrence(params.hidden_kernel, params.hidden_bias)
    return gru._unroll_by_hand(weights, carry, gru_project(params, x), first)


def scan_of_steps(params, carry, x, first):
    def step(hidden, inputs):
        now, anew = inputs
        hidden = hidden if anew is None else jnp.where(anew[..., None], carry, hidden)
        hidden = gru_step(params, hidden, gru_project(params, now))
        return hidden, hidden

    return jax.lax.scan(step, carry, (x, first))[1]


@pytest.mark.parametrize("in_rows", [False, True], ids=["episodes", "rows"])
@pytest.mark.parametrize(
    ("unroll", "length"),
    [(gru_unroll, 5), (unroll_on_an_accelerator, 5), (gru_unroll, 2 * FULL_UNROLL + 5)],
    ids=["short on a CPU", "short on an accelerator", "long"],
)
def test_values_and_gradients_are_those_of_the_steps(unroll, length, in_rows):
    """Under `vmap`, of two networks with rows and agents of their own; in rows episodes begin at
    some steps anew from the carry."""
    first = jnp.zeros((length, 2, 1), bool).at[[1, 2, 3], [0, 1, 1]].set(True) if in_rows else None
    weights = random(length, 2, 3, HIDDEN).astype(np.float64)

    def gradients(unroll, *arguments):
        def loss(*arguments):
            return (unroll(*arguments, first) * weights).sum()

        return jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1, 2))))(*arguments)

    with jax.enable_x64(True):
        stacked = jax.tree.map(lambda x: jnp.float64(np.stack([x, 2 * x])), PARAMS)
        arguments = (
            stacked,
            *map(jnp.float64, (random(2, 2, 3, HIDDEN), random(2, length, 2, 3, INPUTS))),
        )
        found, expected = (gradients(f, *arguments) for f in (unroll, scan_of_steps))
    for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)
