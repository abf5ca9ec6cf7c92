"""Which array of the published code is which of ours: a table of rows for each network.

Sizes have names, which are one letter or more: `I` an agent's inputs, `H` its hidden layer, `A` its
actions, `N` agents, `Z` z, `Z+N` both; `S` what a mixer or latent policy reads, `E` the mixer's
width, `NE` and `AH` such products; `D` a hidden layer, `R` the discriminator's GRU, `F` its inputs,
`C` the global state alone. Only `3H`, three times `H`, is computed; any other size is what the
arrays have.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from maven_jax.types import NetworkParams


class Row(NamedTuple):
    """An array of the published code, its path in our parameters and its shape there.

    Sizes are names, `3H` being three times `H`: a name has one value in all the rows of a table.
    Rows of one path are stacked in it along the outputs, in their order.
    """

    theirs: str
    ours: str
    shape: tuple[str, ...]


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


def agent_table(latent_head: bool) -> list[Row]:
    """The rows of an agent, with a plain head or with the latent hypernetwork."""
    head = (
        _linear("hyper_noise_fc1", "head/hypernetwork", "AH", "Z+N")
        if latent_head
        else _linear("fc2", "head/utilities", "A", "H")
    )
    return [*_linear("fc1", "input_layer", "H", "I"), *_gru("rnn", "gru", "H", "H"), *head]


def qmixer_table(skip: bool, hidden: bool) -> list[Row]:
    """The rows of QMIX's mixer; `hidden` where its hypernetworks have a hidden layer."""

    def hypernetwork(name: str, outputs: str) -> list[Row]:
        if hidden:
            return _layers([f"{name}.0", f"{name}.2"], ["hyper", name], ["S", "D", outputs])
        return _linear(name, "hyper", outputs, "S")

    return [
        *hypernetwork("hyper_w_1", "NE"),
        *hypernetwork("hyper_w_final", "E"),
        *_linear("hyper_b_1", "hyper", "E", "S"),
        *_linear("V.0", "hyper", "E", "S"),
        *_linear("V.2", "value", "1", "E"),
        *(_linear("skip_connections", "skip", "N", "S") if skip else []),
    ]


def joint_critic_table() -> list[Row]:
    """The rows of QTRAN's critic."""
    return [
        *_layers(["Q.0", "Q.2", "Q.4"], ["q_hidden_0", "q_hidden_1", "q"], ["S", "E", "E", "A"]),
        *_layers(["V.0", "V.2"], ["value_hidden", "value"], ["C", "E", "1"]),
    ]


def discriminator_table(layers: int, recurrent: bool) -> list[Row]:
    """The activations between the linear layers take every other index of `model`."""
    theirs = [f"model.{2 * layer}" for layer in range(layers)]
    ours = [*(f"head/hidden_{layer}" for layer in range(layers - 1)), "head/logits"]
    sizes = ["R" if recurrent else "F", *["D"] * (layers - 1), "Z"]
    return [*_layers(theirs, ours, sizes), *(_gru("rnn", "gru", "R", "F") if recurrent else [])]


def latent_table(layers: int) -> list[Row]:
    """The rows of a policy over z, or of the bandit, of so many layers."""
    theirs = [f"affine{layer + 1}" for layer in range(layers)]
    ours = [*(f"hidden_{layer}" for layer in range(layers - 1)), "output"]
    return _layers(theirs, ours, ["S", *["D"] * (layers - 1), "Z"])


def agent_rows(params: NetworkParams) -> list[Row]:
    """The rows that an agent of these parameters has."""
    return agent_table("hypernetwork" in params["params"]["head"])


def mixer_rows(params: NetworkParams) -> list[Row]:
    """The rows that a mixer of these parameters has."""
    if not params:
        return []
    layers = params["params"]
    return (
        joint_critic_table()
        if "q" in layers
        else qmixer_table("skip" in layers, "hyper_w_1" in layers)
    )


def discriminator_rows(params: NetworkParams) -> list[Row]:
    """The rows that a discriminator of these parameters has."""
    if not params:
        return []
    layers = params["params"]
    return discriminator_table(len(layers["head"]), "gru" in layers)


def latent_rows(params: NetworkParams) -> list[Row]:
    """The rows that a latent of these parameters has."""
    return latent_table(len(params["params"])) if params else []
