"""Callbacks by their names on the command line."""

from collections.abc import Callable, Sequence
from typing import Any

from maven_jax.errors import ConfigError, check
from maven_jax.experiments.callbacks.callback import Callback
from maven_jax.experiments.callbacks.json_lines import JsonLines
from maven_jax.experiments.callbacks.tensorboard import TensorBoard
from maven_jax.experiments.callbacks.wandb import WandB
from maven_jax.extensions import Table, described, registering_module

CALLBACKS: Table[Callable[[], Callback]] = Table(
    "callback", {"json_lines": JsonLines, "tensorboard": TensorBoard, "wandb": WandB}
)


def register_callback(name: str, make: Callable[[], Callback]) -> None:
    """Registers a callback for `--callback`: a class or function without arguments.

    Raises:
        ConfigError: the name is packaged.
    """
    CALLBACKS.register(name, make, registering_module())


def make_callback(name: str) -> Callback:
    """The callback of a packaged or registered name, or of `module:Name`.

    What `module:Name` names is a callback, or a class or function without arguments that makes one.

    Raises:
        ConfigError: there is none, it cannot be made, or a package that it needs is missing.
    """
    found: Any = CALLBACKS.find(name)
    if callable(found) and not isinstance(found, Callback):
        try:
            found = found()
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"callback is {name!r}, which raises {described(error)}") from None
    allowed = "a maven_jax.callbacks.Callback, or a class or function without arguments of one"
    check(isinstance(found, Callback), "callback", name, allowed)
    return found


def make_callbacks(given: Any) -> list[Callback]:
    """Callbacks from a list of them and of names.

    Raises:
        ConfigError: it is no list, or holds something else.
    """
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    check(is_list, "callbacks", given, "a list of callbacks")
    made = [make_callback(each) if isinstance(each, str) else each for each in given]
    for callback in made:
        allowed = "a maven_jax.callbacks.Callback, or the name of one"
        check(isinstance(callback, Callback), "callbacks", callback, allowed)
    return made
