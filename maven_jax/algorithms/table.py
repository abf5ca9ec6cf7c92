"""Algorithms as data: the only place that branches on an algorithm's name."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import distrax

from maven_jax.algorithms.objectives import Objective, penalised_q_learning, q_learning, qtran
from maven_jax.config import Config, DiscriminatorConfig, LatentConfig
from maven_jax.errors import unknown
from maven_jax.latents import (
    BanditLatent,
    CategoricalLatent,
    Latent,
    LocationScaleLatent,
    NullLatent,
    UniformLatent,
)
from maven_jax.networks.agents import RecurrentAgent
from maven_jax.networks.discriminators import (
    Discriminator,
    FeedForwardDiscriminator,
    RecurrentDiscriminator,
)
from maven_jax.networks.mixers import IndependentMixer, JointCritic, Mixer, QMixer, SumMixer
from maven_jax.types import EnvSpec


class Algorithm(NamedTuple):
    """The parts that a learner puts together; all are hashable and hold no arrays."""

    agent: RecurrentAgent
    mixer: Mixer
    objective: Objective
    latent: Latent
    """What is learnt, and what test episodes draw z from."""
    training_latent: Latent
    """What training episodes draw z from."""
    discriminator: Discriminator | None


class Row(NamedTuple):
    """What sets an algorithm apart: how utilities are mixed and learnt, and whether z is there."""

    mixer: Callable[[Config, EnvSpec], Mixer]
    objective: Objective
    has_latent: bool


def independent(config: Config, spec: EnvSpec) -> Mixer:
    """No mixing."""
    return IndependentMixer()


def additive(config: Config, spec: EnvSpec) -> Mixer:
    """The sum of utilities."""
    return SumMixer()


def monotonic(config: Config, spec: EnvSpec) -> Mixer:
    """QMIX's mixer."""
    return _qmixer(config, monotonic=True)


def unconstrained(config: Config, spec: EnvSpec) -> Mixer:
    """QMIX's mixer without the absolute value of its weights."""
    return _qmixer(config, monotonic=False)


def _qmixer(config: Config, *, monotonic: bool) -> QMixer:
    network = config.network
    return QMixer(
        network.mixer_embed_size,
        network.mixer_skip_connections,
        monotonic,
        network.mixer_hypernet_size,
        network.mixer_init_scale,
    )


def joint(config: Config, spec: EnvSpec) -> Mixer:
    """QTRAN's critic of joint actions."""
    return JointCritic(config.network.mixer_embed_size, spec.num_actions)


ALGORITHMS: dict[str, Row] = {
    "iql": Row(independent, q_learning, has_latent=False),
    "vdn": Row(additive, q_learning, has_latent=False),
    "qmix": Row(monotonic, q_learning, has_latent=False),
    "qmix_unconstrained": Row(unconstrained, penalised_q_learning, has_latent=False),
    "qtran": Row(joint, qtran, has_latent=False),
    "maven": Row(monotonic, q_learning, has_latent=True),
    "maven_iql": Row(independent, q_learning, has_latent=True),
    "maven_vdn": Row(additive, q_learning, has_latent=True),
    "maven_unconstrained": Row(unconstrained, penalised_q_learning, has_latent=True),
    "maven_qtran": Row(joint, qtran, has_latent=True),
}
"""Tan 1993; Sunehag et al. 2018; Rashid et al. 2018; Son et al. 2019; and the latent of MAVEN
(Mahajan et al. 2019) on each of their mixers, QMIX's being MAVEN itself."""


def row(config: Config) -> Row:
    """What the table says of `config.algorithm`.

    Raises:
        ConfigError: no algorithm of that name.
    """
    if config.algorithm not in ALGORITHMS:
        raise unknown("algorithm", config.algorithm, ALGORITHMS)
    return ALGORITHMS[config.algorithm]


def make_algorithm(config: Config, spec: EnvSpec) -> Algorithm:
    """The parts of `config.algorithm`.

    Raises:
        ConfigError: no algorithm of that name.
    """
    mixer, objective, has_latent = row(config)
    latent, training_latent = _latents(config) if has_latent else (NullLatent(), NullLatent())
    return Algorithm(
        agent=RecurrentAgent(
            config.network.hidden_size,
            spec.num_actions,
            latent_head=config.network.latent_head if has_latent else None,
            layer_norm=config.network.layer_norm,
            latent_head_scale=config.network.latent_head_scale,
            hidden_layers=config.network.hidden_layers,
        ),
        mixer=mixer(config, spec),
        objective=objective,
        latent=latent,
        training_latent=training_latent,
        discriminator=_discriminator(config, latent) if has_latent else None,
    )


def latent_of(config: Config) -> Latent:
    """The latent that `latent.kind` names; `learnt` and `discrete` say what it reads.

    Raises:
        ConfigError: no latent of that name.
    """
    return _latents(config)[0]


def _latents(config: Config) -> tuple[Latent, Latent]:
    """The latent of test episodes and that of training episodes; the same, but for the bandit."""
    if config.latent.kind not in LATENTS:
        raise unknown("latent.kind", config.latent.kind, LATENTS)
    return LATENTS[config.latent.kind](config.latent)


def _same(latent: Latent) -> tuple[Latent, Latent]:
    return latent, latent


def _bandits(sizes: LatentConfig) -> tuple[Latent, Latent]:
    bandit = partial(
        BanditLatent,
        sizes.size,
        sizes.hidden_size,
        sizes.bandit_scale,
        sizes.bandit_temperature,
    )
    return bandit(sizes.bandit_test_epsilon), bandit(sizes.bandit_epsilon)


LATENTS: dict[str, Callable[[LatentConfig], tuple[Latent, Latent]]] = {
    "categorical": lambda x: _same(CategoricalLatent(x.size, x.hidden_size)),
    "gaussian": lambda x: _same(LocationScaleLatent(x.size, x.hidden_size, distrax.Normal)),
    "logistic": lambda x: _same(LocationScaleLatent(x.size, x.hidden_size, distrax.Logistic)),
    "bandit": _bandits,
    "uniform": lambda x: _same(UniformLatent(x.size)),
}
"""The latents of test and of training episodes, by `latent.kind`."""


def _discriminator(config: Config, latent: Latent) -> Discriminator:
    sizes = config.discriminator
    if sizes.kind not in DISCRIMINATORS:
        raise unknown("discriminator.kind", sizes.kind, DISCRIMINATORS)
    return DISCRIMINATORS[sizes.kind](sizes, latent.discrete, config.fidelity == "reference")


DISCRIMINATORS: dict[str, Callable[[DiscriminatorConfig, bool, bool], Discriminator]] = {
    "feed_forward": lambda x, discrete, reference: FeedForwardDiscriminator(
        x.hidden_size, x.hidden_layers, discrete
    ),
    "recurrent": lambda x, discrete, reference: RecurrentDiscriminator(
        x.hidden_size, x.hidden_layers, x.recurrent_size, discrete, reference=reference
    ),
}
"""From sizes, whether z is discrete, and whether the published code is followed."""
