"""Weights of the published PyTorch code to parameters and back, by their names there.

A state dict maps names to arrays in torch's layout, `weight [out, in]` where this library has
`kernel [in, out]`; both stack a GRU's gates as reset, update, candidate. Every array is therefore
the transpose of its counterpart, except that QMIX's four hypernetworks are one matrix here. Tables
of `Row`s say which belongs to which, and are read in both directions.

The published MAVEN agent also carries layers that it never reads, `fc2` and `noise_fc1` to
`noise_fc3`: they are ignored when read, and not written.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from maven_jax.algorithms.table import make_algorithm
from maven_jax.config import Config
from maven_jax.errors import check
from maven_jax.pymarl.arrays import (
    NO_ARRAYS,
    Arrays,
    WeightsError,
    misshapen,
    read_rows,
    refuse_others,
    write_rows,
)
from maven_jax.pymarl.names import (
    agent_rows,
    agent_table,
    discriminator_rows,
    discriminator_table,
    joint_critic_table,
    latent_rows,
    latent_table,
    mixer_rows,
    qmixer_table,
)
from maven_jax.types import EnvSpec, NetworkParams, Params, ScalarKey


class StateDicts(NamedTuple):
    """The state dicts of one seed; those that an algorithm has no weights for are empty."""

    agent: Arrays
    mixer: Arrays = NO_ARRAYS
    discriminator: Arrays = NO_ARRAYS
    aggregator: Arrays = NO_ARRAYS
    """The recurrent discriminator's GRU."""
    latent: Arrays = NO_ARRAYS
    """The policy over z, or the bandit's network."""


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
                raise misshapen(name, arrays[name].shape, array.shape, prefix=f"{part}: ")
        refuse_others(arrays, {*wanted, *_dead(arrays)}, prefix=f"{part}: ")
    params = Params(
        agent=agent_from_pymarl(state_dicts.agent),
        mixer=mixer_from_pymarl(state_dicts.mixer),
        discriminator=discriminator_from_pymarl(state_dicts.discriminator, state_dicts.aggregator),
    )
    return params, latent_from_pymarl(state_dicts.latent)


def to_pymarl(params: Params, latent_params: NetworkParams) -> StateDicts:
    """The inverse of `from_pymarl`: one seed's state dicts, without layers that nothing reads.

    `network.layer_norm` has no weights and leaves no trace in them: agents trained with it are not
    what the published code makes of these.

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
    layer_norm = config.network.layer_norm
    check(not layer_norm, "network.layer_norm", layer_norm, "False, as in the published code")
    layers = config.network.hidden_layers
    check(layers == 1, "network.hidden_layers", layers, "1, as in the published code")
    if agent.latent_head is not None:
        head, scale = agent.latent_head, agent.latent_head_scale
        check(head == "additive", "network.latent_head", head, "additive, as in the published code")
        check(scale == 1, "network.latent_head_scale", scale, "1, as in the published code")

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
    return read_rows(arrays, agent_table("hyper_noise_fc1.weight" in arrays), _dead(arrays))


def agent_to_pymarl(params: NetworkParams) -> dict[str, np.ndarray]:
    """The inverse of `agent_from_pymarl`.

    Raises:
        WeightsError: the published code has no counterpart of a layer; so do the functions below.
    """
    return _copies(write_rows(params, agent_rows(params)))


def mixer_from_pymarl(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `QMixer` or, from `Q.*` and `V.*`, of `JointCritic`; of no array, none."""
    if not arrays:
        return {}
    if "Q.0.weight" in arrays:
        return read_rows(arrays, joint_critic_table())
    skip, hidden = (f"{name}.weight" in arrays for name in ("skip_connections", "hyper_w_1.2"))
    return read_rows(arrays, qmixer_table(skip, hidden))


def mixer_to_pymarl(params: NetworkParams) -> dict[str, np.ndarray]:
    """The inverse of `mixer_from_pymarl`."""
    return _copies(write_rows(params, mixer_rows(params)))


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
    return read_rows(both, discriminator_table(max(layers, 1), recurrent=bool(aggregator)))


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
    return read_rows(arrays, latent_table(max(layers, 1)))


def latent_to_pymarl(params: NetworkParams) -> dict[str, np.ndarray]:
    """The inverse of `latent_from_pymarl`."""
    return _copies(write_rows(params, latent_rows(params)))


def _views(params: Params, latent_params: NetworkParams) -> StateDicts:
    return StateDicts(
        write_rows(params.agent, agent_rows(params.agent)),
        write_rows(params.mixer, mixer_rows(params.mixer)),
        *_write_discriminator(params.discriminator),
        write_rows(latent_params, latent_rows(latent_params)),
    )


def _write_discriminator(params: NetworkParams) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = write_rows(params, discriminator_rows(params))
    aggregator = {name: x for name, x in arrays.items() if name.startswith("rnn.")}
    return {name: x for name, x in arrays.items() if name not in aggregator}, aggregator


def _dead(arrays: Arrays) -> set[str]:
    """Arrays of the published MAVEN agent that it never reads."""
    layers = ("fc2", "noise_fc1", "noise_fc2", "noise_fc3")
    if "hyper_noise_fc1.weight" not in arrays:
        return set()
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def _copies(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Contiguous, so that torch can take them as they are."""
    return {name: np.array(x, order="C") for name, x in arrays.items()}
