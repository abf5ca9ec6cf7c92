"""The gated recurrent unit (Cho et al. 2014): its weights, one step, and whole rows of steps.

The input bias and the hidden bias are apart: under RMSprop one merged bias would move half as far
as the two together.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from maven_jax.functional.loops import FULL_UNROLL
from maven_jax.networks.layers import add_bias, matmul, symmetric_uniform

PART_UNROLL = 4
"""Steps in one round of a loop longer than `FULL_UNROLL`, on accelerators; a CPU takes longer so.
Shorter loops are unrolled whole there, too: 26 steps take four fifths of the time."""


class GRUParams(NamedTuple):
    """Gates are stacked `reset, update, candidate` along the last axis: `G = 3 H`."""

    input_kernel: Float[Array, "I G"]
    input_bias: Float[Array, "G"]
    hidden_kernel: Float[Array, "H G"]
    hidden_bias: Float[Array, "G"]


class Gates(NamedTuple):
    """What each gate is made of, as arrays of their own.

    Read as slices of one array they keep XLA from vectorising a step on a CPU, which then takes
    twice as long.
    """

    reset: Float[Array, "*L H"]
    update: Float[Array, "*L H"]
    candidate: Float[Array, "*L H"]


class Recurrence(NamedTuple):
    """The weights from a hidden state to the next."""

    kernel: Float[Array, "H G"]
    bias: Float[Array, "G"]


class Step(NamedTuple):
    """What one step computes."""

    hidden: Float[Array, "*L H"]
    gates: Gates
    """As they act on the hidden state: from 0 to 1, the candidate from -1 to 1."""
    recurrent: Float[Array, "*L H"]
    """The hidden state's part of the candidate, before the reset gate."""


def _split(stacked: Float[Array, "*L G"]) -> Gates:
    return Gates(*jnp.split(stacked, 3, axis=-1))


def gru_project(params: GRUParams, x: Float[Array, "*L I"]) -> Gates:
    """The part of the gates that needs no recurrence: one matmul for all time steps."""
    return _split(add_bias(matmul(x, params.input_kernel), params.input_bias))


def gru_step(
    params: GRUParams, carry: Float[Array, "*L H"], projected: Gates
) -> Float[Array, "*L H"]:
    """The hidden state after one step, from projected inputs."""
    return _step(Recurrence(params.hidden_kernel, params.hidden_bias), carry, projected).hidden


def gru_unroll(
    params: GRUParams,
    carry: Float[Array, "*L H"],
    x: Float[Array, "T *L I"],
    first: Bool[Array, "T *#L"] | None = None,
) -> Float[Array, "T *L H"]:
    """The hidden state after each time step; only hidden to hidden is scanned.

    Differentiable in reverse mode.

    Args:
        params: weights.
        carry: the hidden state before the first time step.
        x: inputs.
        first: where `carry` is taken up again in place of what came before; nowhere by default.
    """
    weights = Recurrence(params.hidden_kernel, params.hidden_bias)
    arguments = weights, carry, gru_project(params, x), first
    if x.shape[0] > FULL_UNROLL:
        return _unroll_by_hand(*arguments)
    return jax.lax.platform_dependent(*arguments, cpu=_unroll, default=_unroll_by_hand)


def _step(weights: Recurrence, carry: Float[Array, "*L H"], projected: Gates) -> Step:
    of_hidden = _split(add_bias(matmul(carry, weights.kernel), weights.bias))
    reset = jax.nn.sigmoid(projected.reset + of_hidden.reset)
    update = jax.nn.sigmoid(projected.update + of_hidden.update)
    candidate = jnp.tanh(projected.candidate + reset * of_hidden.candidate)
    hidden = candidate + update * (carry - candidate)
    return Step(hidden, Gates(reset, update, candidate), of_hidden.candidate)


def _scan(
    weights: Recurrence,
    carry: Float[Array, "*L H"],
    projected: Gates,
    first: Bool[Array, "T *#L"] | None,
    kept: Callable[[Step], Any],
) -> Any:
    """What is kept of every step."""

    def step(hidden, inputs):
        gates, anew = inputs
        taken = _step(weights, _resumed(anew, carry, hidden), gates)
        return taken.hidden, kept(taken)

    xs, length = (projected, first), len(projected.reset)
    if length <= FULL_UNROLL:
        return jax.lax.scan(step, carry, xs, unroll=length)[1]
    in_parts = partial(jax.lax.scan, step, unroll=PART_UNROLL)
    looped = partial(jax.lax.scan, step)
    return jax.lax.platform_dependent(carry, xs, cpu=looped, default=in_parts)[1]


def _resumed(
    first: Bool[Array, "*#L"] | None, carry: Float[Array, "*#L H"], hidden: Float[Array, "*L H"]
) -> Float[Array, "*L H"]:
    """The hidden state that a step starts from."""
    return hidden if first is None else jnp.where(first[..., None], carry, hidden)


def _unroll(
    weights: Recurrence,
    carry: Float[Array, "*L H"],
    projected: Gates,
    first: Bool[Array, "T *#L"] | None,
) -> Float[Array, "T *L H"]:
    return _scan(weights, carry, projected, first, lambda step: step.hidden)


_unroll_by_hand = jax.custom_vjp(_unroll)
"""The same, with a gradient of the weights that is one matmul: JAX's own adds one up at every step.

On a CPU rows of 160 steps take a fifth longer by JAX's; short scans, unrolled whole, do not. On an
accelerator each sum is a launch of its own: four tenths of those of the backward pass are."""


def _forward(weights, carry, projected, first):
    steps = _scan(weights, carry, projected, first, lambda step: step)
    return steps.hidden, (weights, carry, first, steps)


def _backward(saved, gradient):
    weights, carry, first, steps = saved
    before = _resumed(first, carry, jnp.concatenate([carry[None], steps.hidden[:-1]]))

    def step(after, inputs):
        gradient, (_, gates, recurrent), before, anew = inputs
        reset, update, candidate = gates
        after = after + gradient
        # By what each gate is the sigmoid or the tanh of.
        of_candidate = after * (1 - update) * (1 - candidate**2)
        of_update = after * (before - candidate) * update * (1 - update)
        of_reset = of_candidate * recurrent * reset * (1 - reset)
        of_hidden = jnp.concatenate([of_reset, of_update, of_candidate * reset], axis=-1)
        after = after * update + matmul(of_hidden, weights.kernel.T)
        kept = _resumed(anew, jnp.zeros_like(after), after)
        return kept, (of_candidate, of_hidden, None if anew is None else after - kept)

    nothing = jnp.zeros_like(carry)
    is_short = len(gradient) <= FULL_UNROLL
    of_carry, (of_candidate, of_hidden, of_resumed) = jax.lax.scan(
        step, nothing, (gradient, steps, before, first), reverse=True, unroll=is_short
    )
    if of_resumed is not None:
        of_carry += of_resumed.sum(0)
    if is_short:  # else XLA sums up what an unrolled scan leaves step by step, a launch each
        of_candidate, of_hidden = jax.lax.optimization_barrier((of_candidate, of_hidden))
    rows = of_hidden.reshape(-1, of_hidden.shape[-1])
    of_kernel = before.reshape(-1, before.shape[-1]).T @ rows
    of_gates = _split(of_hidden)._replace(candidate=of_candidate)
    return Recurrence(of_kernel, rows.sum(0)), of_carry, of_gates, None


_unroll_by_hand.defvjp(_forward, _backward)


class GRU(nn.Module):
    """Holds a gated recurrent unit's weights; the computation is in the functions above."""

    features: int

    @nn.compact
    def __call__(self, input_size: int) -> GRUParams:
        init = symmetric_uniform(self.features**-0.5)
        gates = 3 * self.features
        return GRUParams(
            input_kernel=self.param("input_kernel", init, (input_size, gates)),
            input_bias=self.param("input_bias", init, (gates,)),
            hidden_kernel=self.param("hidden_kernel", init, (self.features, gates)),
            hidden_bias=self.param("hidden_bias", init, (gates,)),
        )
