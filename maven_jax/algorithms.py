"""Algorithms as data: the only place that branches on an algorithm's name."""

from collections.abc import Callable
from typing import NamedTuple

from maven_jax.agents import RecurrentAgent
from maven_jax.config import Config, unknown
from maven_jax.discriminators import (
    Discriminator,
    FeedForwardDiscriminator,
    RecurrentDiscriminator,
)
from maven_jax.latents import CategoricalLatent, Latent, NullLatent, UniformLatent
from maven_jax.mixers import MonotonicMixer
from maven_jax.types import EnvSpec


class Algorithm(NamedTuple):
    """The parts that a learner puts together; all are hashable and hold no arrays."""

    agent: RecurrentAgent
    mixer: MonotonicMixer
    latent: Latent
    discriminator: Discriminator | None


def qmix(config: Config, spec: EnvSpec) -> Algorithm:
    """QMIX: Rashid et al. 2018."""
    return Algorithm(
        agent=RecurrentAgent(config.network.hidden_size, spec.num_actions),
        mixer=_mixer(config),
        latent=NullLatent(),
        discriminator=None,
    )


def maven(config: Config, spec: EnvSpec) -> Algorithm:
    """MAVEN: Mahajan et al. 2019."""
    return Algorithm(
        agent=RecurrentAgent(config.network.hidden_size, spec.num_actions, latent_head=True),
        mixer=_mixer(config),
        latent=_latent(config),
        discriminator=_discriminator(config),
    )


ALGORITHMS: dict[str, Callable[[Config, EnvSpec], Algorithm]] = {"maven": maven, "qmix": qmix}


def make_algorithm(config: Config, spec: EnvSpec) -> Algorithm:
    """The parts of `config.algorithm`.

    Raises:
        ConfigError: no algorithm of that name.
    """
    if config.algorithm not in ALGORITHMS:
        raise unknown("algorithm", config.algorithm, ALGORITHMS)
    return ALGORITHMS[config.algorithm](config, spec)


def _mixer(config: Config) -> MonotonicMixer:
    network = config.network
    return MonotonicMixer(network.mixer_embed_size, network.mixer_skip_connections)


def _latent(config: Config) -> Latent:
    if config.latent.kind == "uniform":
        return UniformLatent(config.latent.size)
    return CategoricalLatent(config.latent.size, config.latent.hidden_size)


def _discriminator(config: Config) -> Discriminator:
    sizes = config.discriminator
    if sizes.kind == "feed_forward":
        return FeedForwardDiscriminator(sizes.hidden_size, sizes.hidden_layers)
    return RecurrentDiscriminator(
        sizes.hidden_size,
        sizes.hidden_layers,
        sizes.recurrent_size,
        reference=config.fidelity == "reference",
    )
