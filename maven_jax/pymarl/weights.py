"""Weights of the published PyTorch code to parameters and back, by their names there.

A state dict maps names to arrays in torch's layout, `weight [out, in]` where this library has
`kernel [in, out]`; both stack a GRU's gates as reset, update, candidate. Every array is therefore
the transpose of its counterpart, except that QMIX's four hypernetworks are one matrix here. Tables
of `Row`s say which belongs to which, and are read in both directions.

The published MAVEN agent also carries layers that it never reads, `fc2` and `noise_fc1` to
`noise_fc3`: they are ignored when read, and not written.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from maven_jax.algorithms import make_algorithm
from maven_jax.config import Config
from maven_jax.errors import ConfigError, check
from maven_jax.types import EnvSpec, NetworkParams, Params, ScalarKey

Arrays = Mapping[str, np.ndarray]
"""A state dict."""

NO_ARRAYS: Arrays = MappingProxyType({})


class WeightsError(ConfigError):
    """An array, by its name, that is missing, misshapen or without a counterpart."""


class StateDicts(NamedTuple):
    """The state dicts of one seed; those that an algorithm has no weights for are empty."""

    agent: Arrays
    mixer: Arrays = NO_ARRAYS
    discriminator: Arrays = NO_ARRAYS
    aggregator: Arrays = NO_ARRAYS
    """The recurrent discriminator's GRU."""
    latent: Arrays = NO_ARRAYS
    """The policy over z, or the bandit's network."""


class Row(NamedTuple):
    """An array of the published code, its path in our parameters and its shape there.

    Sizes are names, `3H` being three times `H`: a name has one value in all the rows of a table.
    Rows of one path are stacked in it along the outputs, in their order.
    """

    theirs: str
    ours: str
    shape: tuple[str, ...]


def from_pymarl(
    state_dicts: StateDicts, config: Config, spec: EnvSpec
) -> tuple[Params, NetworkParams]:
    """Parameters and latent parameters of a configuration's algorithm, every shape checked.

    Args:
        state_dicts: as the published code saves them.
        config: names the algorithm and its sizes.
        spec: the environment's sizes.

    Raises:
        WeightsError: an array is missing, of another shape than the algorithm's, or more than it
            has; the first of them.
        ConfigError: the algorithm is unknown, or the published code has nothing like it.
    """
    expected = expected_state_dicts(config, spec)
    for part, arrays, wanted in zip(StateDicts._fields, state_dicts, expected, strict=True):
        for name, array in wanted.items():
            if name not in arrays:
                raise WeightsError(f"{part}: array {name!r} is missing; expected {array.shape}")
            if arrays[name].shape != array.shape:
                raise _misshapen(name, arrays[name].shape, array.shape, prefix=f"{part}: ")
        _refuse_others(arrays, {*wanted, *_dead(arrays)}, prefix=f"{part}: ")
    params = Params(
        agent=agent_from_pymarl(state_dicts.agent),
        mixer=mixer_from_pymarl(state_dicts.mixer),
        discriminator=discriminator_from_pymarl(state_dicts.discriminator, state_dicts.aggregator),
    )
    return params, latent_from_pymarl(state_dicts.latent)


def to_pymarl(params: Params, latent_params: NetworkParams) -> StateDicts:
    """The inverse of `from_pymarl`: one seed's state dicts, without layers that nothing reads.

    Raises:
        WeightsError: the published code has no counterpart of a layer.
    """
    return StateDicts(*map(_copies, _views(params, latent_params)))


def expected_state_dicts(config: Config, spec: EnvSpec) -> StateDicts:
    """Zeros of the names and shapes of the arrays that an algorithm needs; they take no memory.

    Raises:
        ConfigError: the algorithm is unknown, or the published code has nothing like it.
    """
    algorithm = make_algorithm(config, spec)
    agent, mixer, discriminator = algorithm.agent, algorithm.mixer, algorithm.discriminator
    latent = algorithm.latent
    check(
        latent.discrete,
        "latent.kind",
        config.latent.kind,
        "categorical, bandit or uniform, which are all that the published code has",
    )

    def init(key: ScalarKey) -> tuple[Params, NetworkParams]:
        params = Params(
            agent.init_params(key, spec, latent.size),
            mixer.init_params(key, spec, latent.size),
            discriminator.init_params(key, spec, latent.size) if discriminator else {},
        )
        return params, latent.init_params(key, spec.state_size)

    shapes = jax.eval_shape(init, jax.random.key(0))
    return _views(*jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), shapes))


def agent_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `RecurrentAgent` from `fc1`, `rnn`, and `fc2` or `hyper_noise_fc1`.

    Raises:
        WeightsError: the first array missing, misshapen or unknown; so do the functions below.
    """
    return _read(arrays, _agent("hyper_noise_fc1.weight" in arrays), _dead(arrays))


def agent_to_pymarl(params: NetworkParams) -> dict[str, np.ndarray]:
    """The inverse of `agent_from_pymarl`.

    Raises:
        WeightsError: the published code has no counterpart of a layer; so do the functions below.
    """
    return _copies(_write(params, _agent_of(params)))


def mixer_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `QMixer` or, from `Q.*` and `V.*`, of `JointCritic`; of no array, none."""
    if not arrays:
        return {}
    if "Q.0.weight" in arrays:
        return _read(arrays, _joint_critic())
    return _read(arrays, _qmixer(skip="skip_connections.weight" in arrays))


def mixer_to_pymarl(params: NetworkParams) -> dict[str, np.ndarray]:
    """The inverse of `mixer_from_pymarl`."""
    return _copies(_write(params, _mixer_of(params)))


def discriminator_from_pymarl(arrays: Arrays, aggregator: Arrays | None = None) -> dict[str, Any]:
    """Parameters of a discriminator of a one-hot z; of no array, none.

    Args:
        arrays: `model.0`, `model.2`, ...
        aggregator: `rnn`, where the discriminator is recurrent.
    """
    both = {**arrays, **(aggregator or {})}
    if not both:
        return {}
    layers = sum(name.startswith("model.") and name.endswith(".weight") for name in arrays)
    return _read(both, _discriminator(max(layers, 1), recurrent=bool(aggregator)))


def discriminator_to_pymarl(
    params: NetworkParams,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The inverse of `discriminator_from_pymarl`: its two arguments, the second maybe empty."""
    arrays, aggregator = _write_discriminator(params)
    return _copies(arrays), _copies(aggregator)


def latent_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `StateNetwork` from `affine1`, `affine2`, ...; of no array, none.

    The policy over z has two layers, the bandit's network three.
    """
    if not arrays:
        return {}
    layers = sum(name.startswith("affine") and name.endswith(".weight") for name in arrays)
    return _read(arrays, _latent(max(layers, 1)))


def latent_to_pymarl(params: NetworkParams) -> dict[str, np.ndarray]:
    """The inverse of `latent_from_pymarl`."""
    return _copies(_write(params, _latent_of(params)))


def _linear(theirs: str, ours: str, outputs: str, inputs: str) -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"{ours}/kernel", (outputs, inputs)),
        Row(f"{theirs}.bias", f"{ours}/bias", (outputs,)),
    ]


def _gru(theirs: str, ours: str, hidden: str, inputs: str) -> list[Row]:
    gates = f"3{hidden}"
    return [
        Row(f"{theirs}.weight_hh", f"{ours}/hidden_kernel", (gates, hidden)),
        Row(f"{theirs}.weight_ih", f"{ours}/input_kernel", (gates, inputs)),
        Row(f"{theirs}.bias_ih", f"{ours}/input_bias", (gates,)),
        Row(f"{theirs}.bias_hh", f"{ours}/hidden_bias", (gates,)),
    ]


def _layers(theirs: Sequence[str], ours: Sequence[str], sizes: Sequence[str]) -> list[Row]:
    """A chain of linear layers, of `sizes` from its input to its output."""
    return [
        row
        for name, path, (inputs, outputs) in zip(theirs, ours, pairwise(sizes), strict=True)
        for row in _linear(name, path, outputs, inputs)
    ]


def _agent(latent_head: bool) -> list[Row]:
    head = (
        _linear("hyper_noise_fc1", "head/hypernetwork", "AH", "Z+N")
        if latent_head
        else _linear("fc2", "head/utilities", "A", "H")
    )
    return [*_linear("fc1", "input_layer", "H", "I"), *_gru("rnn", "gru", "H", "H"), *head]


def _qmixer(skip: bool) -> list[Row]:
    return [
        *_linear("hyper_w_1", "hyper", "NE", "S"),
        *_linear("hyper_w_final", "hyper", "E", "S"),
        *_linear("hyper_b_1", "hyper", "E", "S"),
        *_linear("V.0", "hyper", "E", "S"),
        *_linear("V.2", "value", "1", "E"),
        *(_linear("skip_connections", "skip", "N", "S") if skip else []),
    ]


def _joint_critic() -> list[Row]:
    return [
        *_layers(["Q.0", "Q.2", "Q.4"], ["q_hidden_0", "q_hidden_1", "q"], "SEEA"),
        *_layers(["V.0", "V.2"], ["value_hidden", "value"], "CE1"),
    ]


def _discriminator(layers: int, recurrent: bool) -> list[Row]:
    """The activations between the linear layers take every other index of `model`."""
    theirs = [f"model.{2 * layer}" for layer in range(layers)]
    ours = [*(f"head/hidden_{layer}" for layer in range(layers - 1)), "head/logits"]
    sizes = ["R" if recurrent else "F", *["D"] * (layers - 1), "Z"]
    return [*_layers(theirs, ours, sizes), *(_gru("rnn", "gru", "R", "F") if recurrent else [])]


def _latent(layers: int) -> list[Row]:
    theirs = [f"affine{layer + 1}" for layer in range(layers)]
    ours = [*(f"hidden_{layer}" for layer in range(layers - 1)), "output"]
    return _layers(theirs, ours, ["S", *["D"] * (layers - 1), "Z"])


def _agent_of(params: NetworkParams) -> list[Row]:
    return _agent("hypernetwork" in params["params"]["head"])


def _mixer_of(params: NetworkParams) -> list[Row]:
    if not params:
        return []
    layers = params["params"]
    return _joint_critic() if "q" in layers else _qmixer("skip" in layers)


def _discriminator_of(params: NetworkParams) -> list[Row]:
    if not params:
        return []
    layers = params["params"]
    return _discriminator(len(layers["head"]), "gru" in layers)


def _latent_of(params: NetworkParams) -> list[Row]:
    return _latent(len(params["params"])) if params else []


def _views(params: Params, latent_params: NetworkParams) -> StateDicts:
    return StateDicts(
        _write(params.agent, _agent_of(params.agent)),
        _write(params.mixer, _mixer_of(params.mixer)),
        *_write_discriminator(params.discriminator),
        _write(latent_params, _latent_of(latent_params)),
    )


def _write_discriminator(params: NetworkParams) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = _write(params, _discriminator_of(params))
    aggregator = {name: x for name, x in arrays.items() if name.startswith("rnn.")}
    return {name: x for name, x in arrays.items() if name not in aggregator}, aggregator


def _dead(arrays: Arrays) -> set[str]:
    """Arrays of the published MAVEN agent that it never reads."""
    layers = ("fc2", "noise_fc1", "noise_fc2", "noise_fc3")
    if "hyper_noise_fc1.weight" not in arrays:
        return set()
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def _read(arrays: Arrays, rows: list[Row], ignored: Iterable[str] = ()) -> dict[str, Any]:
    sizes = {"1": 1}
    stacks: dict[str, list[np.ndarray]] = {}
    for row in rows:
        if row.theirs not in arrays:
            raise WeightsError(f"array {row.theirs!r} is missing")
        array = np.asarray(arrays[row.theirs])
        if array.ndim == len(row.shape):
            _learn_sizes(sizes, row.shape, array.shape)
        expected = tuple(sizes.get(name) for name in row.shape)
        if array.shape != expected:
            raise _misshapen(row.theirs, array.shape, expected)
        stacks.setdefault(row.ours, []).append(array)
    _refuse_others(arrays, {*(row.theirs for row in rows), *ignored})
    flat = {
        ours: jnp.asarray(np.concatenate(stack).T, jnp.float32) for ours, stack in stacks.items()
    }
    return {"params": unflatten_dict(flat, sep="/")}


def _write(params: NetworkParams, rows: list[Row]) -> dict[str, Any]:
    """Views of the parameters as the rows say, in the rows' order."""
    flat = flatten_dict(params["params"], sep="/") if params else {}
    for path in sorted(flat.keys() - {row.ours for row in rows}):
        raise WeightsError(f"layer {path!r} has no counterpart in the published code")
    stacks: dict[str, list[Row]] = {}
    for row in rows:
        if row.ours not in flat:
            raise WeightsError(f"layer {row.ours!r} is missing")
        if flat[row.ours].ndim != len(row.shape):
            raise WeightsError(
                f"layer {row.ours!r} has shape {flat[row.ours].shape}; "
                f"expected {len(row.shape)} axes, those of one seed"
            )
        stacks.setdefault(row.ours, []).append(row)
    sizes: dict[str, int] = {}
    for path, stack in stacks.items():
        if len(stack) == 1:
            _learn_sizes(sizes, stack[0].shape, flat[path].shape[::-1])
    arrays = {}
    for path, (first, *others) in stacks.items():
        array = flat[path].T
        start = array.shape[0] - sum(sizes[row.shape[0]] for row in others)
        arrays[first.theirs] = array[:start]
        for row in others:
            end = start + sizes[row.shape[0]]
            arrays[row.theirs] = array[start:end]
            start = end
    return {row.theirs: arrays[row.theirs] for row in rows}


def _learn_sizes(sizes: dict[str, int], names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Inputs first: a GRU's tell the size of its gates."""
    for name, size in zip(names[::-1], shape[::-1], strict=True):
        sizes.setdefault(name, size)
        sizes.setdefault(f"3{name}", 3 * size)


def _misshapen(
    name: str, found: tuple[int, ...], expected: tuple[int | None, ...], prefix: str = ""
) -> WeightsError:
    wanted = str(expected).replace("None", "any")
    return WeightsError(f"{prefix}array {name!r} has shape {found}; expected {wanted}")


def _refuse_others(arrays: Arrays, known: set[str], prefix: str = "") -> None:
    for name in arrays:
        if name not in known:
            raise WeightsError(f"{prefix}array {name!r} has no counterpart here")


def _copies(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Contiguous, so that torch can take them as they are."""
    return {name: np.array(x, order="C") for name, x in arrays.items()}
