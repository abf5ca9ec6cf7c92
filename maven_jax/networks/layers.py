"""Linear layers, and the initialisation that the published results were made with.

Weights and biases are drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default.
"""

import math
from itertools import accumulate
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from maven_jax.types import NetworkParams, ScalarKey

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
            y = matmul(x, self.param("kernel", init, (size, self.features)))
        else:
            y = jnp.zeros((*lead, self.features), x.dtype)
        return add_bias(y, self.param("bias", init, (self.features,))) if self.use_bias else y


def matmul(
    x: Float[Array, "*L I"], kernel: Float[Array | np.ndarray, "I F"]
) -> Float[Array, "*L F"]:
    """`x @ kernel` of all rows at once.

    With more than one leading axis XLA would transpose what the kernel's gradient is the product
    of: on a CPU, over 4,096 rows of 64 inputs and 192 features, that takes four times as long.
    """
    *lead, size = x.shape
    return (x.reshape(math.prod(lead), size) @ kernel).reshape(*lead, kernel.shape[-1])


def add_bias(x: Float[Array, "*L F"], bias: Float[Array | np.ndarray, "F"]) -> Float[Array, "*L F"]:
    """`x + bias` along the last axis, of equal ranks: JAX may be told to refuse others."""
    return x + bias.reshape(*[1] * (x.ndim - 1), -1)


def relu_layers(x: Float[Array, "*L I"], size: int, count: int) -> Float[Array, "*L F"]:
    """`count` hidden layers `hidden_0, hidden_1, ...` of the module that calls this."""
    for layer in range(count):
        x = nn.relu(Linear(size, name=f"hidden_{layer}")(x))
    return x


def normalised(x: Float[Array, "*L F"]) -> Float[Array, "*L F"]:
    """Layer normalisation (Ba et al. 2016) without weights: mean 0 and variance 1 of each row."""
    return jax.nn.standardize(x)
