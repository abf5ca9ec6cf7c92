"""Algorithms as data: the only place that branches on an algorithm's name."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import distrax
import optax

from maven_jax.algorithms.objectives import Objective, penalised_q_learning, q_learning, qtran
from maven_jax.config import Config, DiscriminatorConfig, Hyperparameters, LatentConfig
from maven_jax.errors import check
from maven_jax.extensions import Table
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


MakeMixer: TypeAlias = Callable[[Config, EnvSpec], Mixer]
MakeLatent: TypeAlias = Callable[[LatentConfig], Latent | tuple[Latent, Latent]]
"""Makes the latent of all episodes, or those of test and of training episodes."""


class Row(NamedTuple):
    """What sets an algorithm apart: how utilities are mixed and learnt, and whether z is there."""

    mixer: MakeMixer
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


MIXERS: Table[MakeMixer] = Table(
    "network.mixer",
    {
        "independent": independent,
        "additive": additive,
        "monotonic": monotonic,
        "unconstrained": unconstrained,
        "joint": joint,
    },
)
"""What `network.mixer` can name in place of the algorithm's own mixer."""

_ROWS = {
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
ALGORITHMS: Table[Row] = Table("algorithm", _ROWS)
"""Tan 1993; Sunehag et al. 2018; Rashid et al. 2018; Son et al. 2019; and the latent of MAVEN
(Mahajan et al. 2019) on each of their mixers, QMIX's being MAVEN itself."""


def row(config: Config) -> Row:
    """What the table says of `config.algorithm`, with the mixer that `network.mixer` names.

    Raises:
        ConfigError: no algorithm or mixer of that name, or QTRAN with another mixer than its own.
    """
    found = ALGORITHMS.find(config.algorithm)
    check(isinstance(found, Row), "algorithm", config.algorithm, "a Row")
    name = config.network.mixer
    if not name:
        return found
    mixer = MIXERS.find(name)
    fits = (mixer is joint) == (found.objective is qtran) or name not in MIXERS
    check(fits, "network.mixer", name, "joint with QTRAN, and with QTRAN alone")
    return found._replace(mixer=mixer)


def make_algorithm(config: Config, spec: EnvSpec) -> Algorithm:
    """The parts of `config.algorithm`.

    Raises:
        ConfigError: no part of a name, or one that does not return what it should.
    """
    make_mixer, objective, has_latent = row(config)
    mixer = make_mixer(config, spec)
    allowed = "an algorithm whose mixer is a maven_jax.mixers.Mixer"
    check(isinstance(mixer, Mixer), "algorithm", config.algorithm, allowed)
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
        mixer=mixer,
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
    made = LATENTS.find(config.latent.kind)(config.latent)
    both = made if isinstance(made, tuple) else (made, made)
    are_latents = len(both) == 2 and all(isinstance(latent, Latent) for latent in both)
    check(are_latents, "latent.kind", config.latent.kind, "what makes one maven_jax.latents.Latent")
    return both


def _bandits(sizes: LatentConfig) -> tuple[Latent, Latent]:
    bandit = partial(
        BanditLatent,
        sizes.size,
        sizes.hidden_size,
        sizes.bandit_scale,
        sizes.bandit_temperature,
    )
    return bandit(sizes.bandit_test_epsilon), bandit(sizes.bandit_epsilon)


LATENTS: Table[MakeLatent] = Table(
    "latent.kind",
    {
        "categorical": lambda x: CategoricalLatent(x.size, x.hidden_size),
        "gaussian": lambda x: LocationScaleLatent(x.size, x.hidden_size, distrax.Normal),
        "logistic": lambda x: LocationScaleLatent(x.size, x.hidden_size, distrax.Logistic),
        "bandit": _bandits,
        "uniform": lambda x: UniformLatent(x.size),
    },
)
"""The latent, or those of test and of training episodes, by `latent.kind`."""


def _discriminator(config: Config, latent: Latent) -> Discriminator:
    sizes = config.discriminator
    make = DISCRIMINATORS.find(sizes.kind)
    return make(sizes, latent.discrete, config.fidelity == "reference")


DISCRIMINATORS: Table[Callable[[DiscriminatorConfig, bool, bool], Discriminator]] = Table(
    "discriminator.kind",
    {
        "feed_forward": lambda x, discrete, reference: FeedForwardDiscriminator(
            x.hidden_size, x.hidden_layers, discrete
        ),
        "recurrent": lambda x, discrete, reference: RecurrentDiscriminator(
            x.hidden_size, x.hidden_layers, x.recurrent_size, discrete, reference=reference
        ),
    },
)
"""From sizes, whether z is discrete, and whether the published code is followed."""

OPTIMIZERS: Table[Callable[[Hyperparameters], optax.GradientTransformation]] = Table(
    "training.optimizer",
    {
        "rmsprop": lambda x: optax.scale_by_rms(x.rms_decay, x.rms_epsilon, eps_in_sqrt=False),
        "adam": lambda _: optax.scale_by_adam(),
        "radam": lambda _: optax.scale_by_radam(),
    },
)
"""From gradients to steps of unit rate. RMSprop has its epsilon outside the root, as published."""
