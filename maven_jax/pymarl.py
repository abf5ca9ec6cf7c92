"""Weights of the published PyTorch implementation, by their names there, to parameters.

Torch keeps a linear layer as `weight [out, in]`, this library as `kernel [in, out]`. Both stack a
GRU's gates as reset, update, candidate. The published MAVEN agent also carries layers that it never
reads (`fc2`, `noise_fc1` to `noise_fc3`); they are ignored.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

Arrays = Mapping[str, np.ndarray]


class WeightsError(ValueError):
    """An array that is missing or misshapen, by its name."""


def agent_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `RecurrentAgent` from `fc1`, `rnn`, and `fc2` or `hyper_noise_fc1`."""
    if "hyper_noise_fc1.weight" in arrays:
        head = {"hypernetwork": _linear(arrays, "hyper_noise_fc1")}
    else:
        head = {"utilities": _linear(arrays, "fc2")}
    return _params(
        input_layer=_linear(arrays, "fc1"),
        gru=_gru(arrays, "rnn"),
        head=head,
    )


def mixer_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `MonotonicMixer` from QMIX's four hypernetworks, and `skip_connections`."""
    if not arrays:
        return {}
    if "Q.0.weight" in arrays:
        names = {"Q.0": "q_hidden_0", "Q.2": "q_hidden_1", "Q.4": "q"}
        names |= {"V.0": "value_hidden", "V.2": "value"}
        return _params(**{ours: _linear(arrays, theirs) for theirs, ours in names.items()})
    stacked = [_linear(arrays, name) for name in ("hyper_w_1", "hyper_w_final", "hyper_b_1", "V.0")]
    hyper = {
        name: jnp.concatenate([layer[name] for layer in stacked], axis=-1)
        for name in ("kernel", "bias")
    }
    params = {"hyper": hyper, "value": _linear(arrays, "V.2")}
    if "skip_connections.weight" in arrays:
        params["skip"] = _linear(arrays, "skip_connections")
    return _params(**params)


def discriminator_from_pymarl(arrays: Arrays, recurrent: Arrays | None = None) -> dict[str, Any]:
    """Parameters of a discriminator from `model.0, model.2, ...` and the aggregator's `rnn`."""
    layers = sorted({int(name.split(".")[1]) for name in arrays if name.startswith("model.")})
    if not layers:
        raise WeightsError("array 'model.0.weight' is missing")
    names = [f"hidden_{i}" for i in range(len(layers) - 1)] + ["logits"]
    head = {
        name: _linear(arrays, f"model.{layer}") for name, layer in zip(names, layers, strict=True)
    }
    return _params(head=head, **({"gru": _gru(recurrent, "rnn")} if recurrent else {}))


def latent_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `LatentPolicyNetwork` from `affine1` and `affine2`."""
    layers = {"hidden_0": _linear(arrays, "affine1")}
    if "affine3.weight" in arrays:
        layers["hidden_1"] = _linear(arrays, "affine2")
        return _params(**layers, output=_linear(arrays, "affine3"))
    return _params(**layers, output=_linear(arrays, "affine2"))


def _params(**layers: Any) -> dict[str, Any]:
    return {"params": layers}


def _array(arrays: Arrays, name: str, ndim: int) -> jnp.ndarray:
    if name not in arrays:
        raise WeightsError(f"array {name!r} is missing")
    array = arrays[name]
    if array.ndim != ndim:
        raise WeightsError(f"array {name!r} has shape {array.shape}; expected {ndim} axes")
    return jnp.asarray(array, jnp.float32)


def _linear(arrays: Arrays, name: str) -> dict[str, jnp.ndarray]:
    kernel = _array(arrays, f"{name}.weight", 2).T
    bias = _array(arrays, f"{name}.bias", 1)
    if bias.shape != kernel.shape[1:]:
        raise WeightsError(
            f"array {name + '.bias'!r} has shape {bias.shape}; expected {kernel.shape[1:]}"
        )
    return {"kernel": kernel, "bias": bias}


def _gru(arrays: Arrays, name: str) -> dict[str, jnp.ndarray]:
    return {
        "input_kernel": _array(arrays, f"{name}.weight_ih", 2).T,
        "input_bias": _array(arrays, f"{name}.bias_ih", 1),
        "hidden_kernel": _array(arrays, f"{name}.weight_hh", 2).T,
        "hidden_bias": _array(arrays, f"{name}.bias_hh", 1),
    }
