"""What several test modules share."""

import sys
from pathlib import Path

import jax
import numpy as np

CUSTOM = "(custom: module:Name, or a name that a module registers, with --import MODULE)"
"""How errors about unknown names end."""


def forget(*modules: str) -> None:
    """Forgets modules of a test's own, and the names that they have registered."""
    from maven_jax.environments.registry import ENVIRONMENTS  # importing jumanji starts JAX
    from maven_jax.validation.names import NAMED

    for module in modules:
        sys.modules.pop(module, None)
    for table in (*NAMED, ENVIRONMENTS):
        for name in [name for name, module in table.modules.items() if module in modules]:
            del table[name], table.modules[name]


class Planted:
    """An object whose pickle makes a file when it is loaded: a stand-in for any other code."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self):
        return open, (str(self._marker), "w")


def random_params(init, seed=0):
    """Normal weights of the shapes that `init` would draw, without compiling its draws."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), shapes)


def vmapped(function):
    """`function`, computed in a batch beside arguments of zeros."""

    def call(*args):
        pair = jax.tree.map(lambda x: np.stack([np.zeros_like(x), x]), args)
        both = jax.device_get(jax.jit(jax.vmap(function))(*pair))
        return jax.tree.map(lambda y: y[1], both)

    return call


def numpy_gru(params, carry, x):
    """Cho et al. 2014: the update gate keeps the old state, the reset gate cuts the recurrence."""
    in_reset, in_update, in_new = np.split(x @ params.input_kernel + params.input_bias, 3, -1)
    reset, update, new = np.split(carry @ params.hidden_kernel + params.hidden_bias, 3, -1)
    reset, update = (1 / (1 + np.exp(-x)) for x in (in_reset + reset, in_update + update))
    return update * carry + (1 - update) * np.tanh(in_new + reset * new)
