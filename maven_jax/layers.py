"""Linear and recurrent layers with the initialisation that the published results were made with.

Weights and biases are drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. The gated
recurrent unit keeps its input bias and its hidden bias apart: under RMSprop one merged bias would
move half as far as the two together.
"""

from itertools import accumulate
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float

from maven_jax.types import NetworkParams, ScalarKey

FULL_UNROLL = 32
"""Scans up to this long are unrolled whole: on a CPU 26 steps take four fifths of the time so."""
PART_UNROLL = 4
"""Of longer ones: more compiles slower and runs no faster there."""
WEIGHTS = {"kernel", "bias", "input_kernel", "input_bias", "hidden_kernel", "hidden_bias"}
"""Names of the weights of a `Linear` and of a `GRU`."""


def apply(module: nn.Module, params: NetworkParams, *args: Any, method: str | None = None) -> Any:
    """`module.apply` of a module that changes no state, typed as what it returns then."""
    return module.apply(params, *args, method=method)


def fresh_params(module: nn.Module, key: ScalarKey, *inputs: Any) -> NetworkParams:
    """Weights distributed as those of `module.init`, all from one draw.

    `init` draws each weight by a key of its own, and XLA compiles a loop for every one: of the time
    to compile a run's first state that was two thirds.

    Args:
        module: made of `Linear` and `GRU`.
        key: used once.
        inputs: arrays of the shapes that the module is called with.

    Raises:
        ValueError: it has weights of other layers.
    """
    shapes = flatten_dict(jax.eval_shape(module.init, key, *inputs))
    ends = [*accumulate(leaf.size for leaf in shapes.values())]
    parts = jnp.split(jax.random.uniform(key, ends[-1:], jnp.float32, -1, 1), ends[:-1])
    weights = {}
    for (path, leaf), part in zip(shapes.items(), parts, strict=True):
        *layer, name = path
        if name not in WEIGHTS:
            raise ValueError(f"a weight is {'.'.join(path)}; allowed: one of a Linear or a GRU")
        kernel = shapes.get((*layer, "kernel"), shapes.get((*layer, "hidden_kernel")))
        fan_in = kernel.shape[0] if kernel is not None else 1
        weights[path] = fan_in**-0.5 * part.reshape(leaf.shape)
    return unflatten_dict(weights)


def symmetric_uniform(bound: float) -> Initializer:
    """Draws from U(-bound, bound)."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """`x @ kernel + bias`: `[..., I] -> [..., features]`; the bias alone where `I` is 0.

    That bias is drawn from U(-1, 1): at 0, `abs` of a hypernetwork's weights would never move.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*L I"]) -> Float[Array, "*L F"]:
        *lead, size = x.shape
        init = symmetric_uniform(max(size, 1) ** -0.5)
        if size:
            y = x @ self.param("kernel", init, (size, self.features))
        else:
            y = jnp.zeros((*lead, self.features), x.dtype)
        return y + self.param("bias", init, (self.features,)) if self.use_bias else y


def relu_layers(x: Float[Array, "*L I"], size: int, count: int) -> Float[Array, "*L F"]:
    """`count` hidden layers `hidden_0, hidden_1, ...` of the module that calls this."""
    for layer in range(count):
        x = nn.relu(Linear(size, name=f"hidden_{layer}")(x))
    return x


def normalised(x: Float[Array, "*L F"]) -> Float[Array, "*L F"]:
    """Layer normalisation (Ba et al. 2016) without weights: mean 0 and variance 1 of each row."""
    return jax.nn.standardize(x)


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


def _gates(stacked: Float[Array, "*L G"]) -> Gates:
    return Gates(*jnp.split(stacked, 3, axis=-1))


def gru_project(params: GRUParams, x: Float[Array, "*L I"]) -> Gates:
    """The part of the gates that needs no recurrence: one matmul for all time steps."""
    return _gates(x @ params.input_kernel + params.input_bias)


def gru_step(
    params: GRUParams, carry: Float[Array, "*L H"], projected: Gates
) -> Float[Array, "*L H"]:
    """One step of the gated recurrent unit (Cho et al. 2014) from projected inputs."""
    recurrent = _gates(carry @ params.hidden_kernel + params.hidden_bias)
    reset = jax.nn.sigmoid(projected.reset + recurrent.reset)
    update = jax.nn.sigmoid(projected.update + recurrent.update)
    candidate = jnp.tanh(projected.candidate + reset * recurrent.candidate)
    return candidate + update * (carry - candidate)


def gru_unroll(
    params: GRUParams,
    carry: Float[Array, "*L H"],
    x: Float[Array, "T *L I"],
    first: Bool[Array, "T *#L"] | None = None,
) -> Float[Array, "T *L H"]:
    """The hidden state after each time step; only hidden to hidden is scanned.

    Args:
        params: weights.
        carry: the hidden state before the first time step.
        x: inputs.
        first: where `carry` is taken up again in place of what came before; nowhere by default.
    """

    def step(hidden, inputs):
        projected, anew = inputs
        if anew is not None:
            hidden = jnp.where(anew[..., None], carry, hidden)
        hidden = gru_step(params, hidden, projected)
        return hidden, hidden

    length = x.shape[0]
    unroll = length if length <= FULL_UNROLL else PART_UNROLL
    return jax.lax.scan(step, carry, (gru_project(params, x), first), unroll=unroll)[1]


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
