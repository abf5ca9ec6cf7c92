"""Names for parts of your own; a module registers them when it is imported.

`--import MODULE` imports it for a command, and `import MODULE` in Python. A package's entry point
in the group `maven_jax.extensions` does so wherever the package is installed.
"""

from collections.abc import Callable

from maven_jax.algorithms.objectives import Loss, Objective, mixed_value, q_learning
from maven_jax.algorithms.table import ALGORITHMS, LATENTS, MIXERS, MakeLatent, MakeMixer, Row
from maven_jax.environments.registry import ENVIRONMENTS
from maven_jax.errors import check
from maven_jax.extensions import check_takes, registering_module
from maven_jax.functional.exploration import EXPLORATIONS, Explore
from maven_jax.types import MarlEnv


def register_algorithm(
    name: str,
    *,
    mixer: str | MakeMixer,
    objective: Objective | Loss = q_learning,
    latent: bool = False,
) -> None:
    """Registers an algorithm for `algorithm`.

    Args:
        name: what a configuration calls it.
        mixer: a name in `MIXERS`, or a function of a configuration and an `EnvSpec` that returns a
            `maven_jax.mixers.Mixer`.
        objective: the loss of the mixed values, by default that of Q-learning; a `Loss` alone
            learns what the mixer gives of the utilities of the actions taken.
        latent: whether agents and mixer read a latent z, with the discriminator of MAVEN.

    Raises:
        ConfigError: the name is packaged, or there is no such mixer.
    """
    make = MIXERS.find(mixer) if isinstance(mixer, str) else mixer
    _check_mixer(make, "mixer")
    if not isinstance(objective, Objective):
        check(callable(objective), "objective", objective, "an Objective, or a Loss")
        objective = Objective(objective, mixed_value)
    ALGORITHMS.register(name, Row(make, objective, latent), registering_module())


def register_mixer(name: str, make: MakeMixer) -> None:
    """Registers a mixer for `network.mixer`: a function of a configuration and an `EnvSpec`.

    Raises:
        ConfigError: the name is packaged.
    """
    _check_mixer(make, "make")
    MIXERS.register(name, make, registering_module())


def _check_mixer(make: MakeMixer, name: str) -> None:
    what = "a configuration and an EnvSpec"
    check(not isinstance(make, type), name, make, f"a function of {what} that returns a mixer")
    check_takes(2, make, name, what)


def register_latent(name: str, make: MakeLatent) -> None:
    """Registers a latent for `latent.kind`: a function of a `LatentConfig`.

    It returns a `maven_jax.latents.Latent`, or a pair: that of test and that of training episodes.

    Raises:
        ConfigError: the name is packaged.
    """
    check_takes(1, make, "make", "a LatentConfig")
    LATENTS.register(name, make, registering_module())


def register_exploration(name: str, make: Explore) -> None:
    """Registers a way to explore for `exploration.kind`.

    Args:
        name: what a configuration calls it.
        make: from epsilon and the temperature, scalars, to a function of a key, utilities
            `[*L N A]` and masks `[*L N A]` that returns actions `[*L N]`.

    Raises:
        ConfigError: the name is packaged.
    """
    check_takes(2, make, "make", "epsilon and the temperature")
    EXPLORATIONS.register(name, make, registering_module())


def register_environment(name: str, make: Callable[..., MarlEnv]) -> None:
    """Registers an environment for `env.name`: a class, called with `env.options`.

    Raises:
        ConfigError: the name is packaged, or the class has no `reset` or `step`.
    """
    for method in ("reset", "step"):
        has_method = callable(getattr(make, method, None))
        check(has_method, "make", make, f"a class with a {method}, as MarlEnv has")
    ENVIRONMENTS.register(name, make, registering_module())
