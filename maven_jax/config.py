"""Configuration: frozen dataclasses, loaded from YAML and checked once, before anything compiles.

What fixes shapes or the program is static (`Config` and its sections). What does not is in
`Hyperparameters`, whose fields are traced: one compiled program serves all their values.
"""

import dataclasses
import difflib
import importlib.resources
import math
import reprlib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import yaml


class ConfigError(ValueError):
    """Bad input, told in one line: the field, the value and what is allowed."""


class Hyperparameters(NamedTuple):
    """Traced numbers; under `vmap` each may carry an axis of values. The defaults are MAVEN's."""

    learning_rate: float = 5e-4
    """RMSprop step size of utilities, mixer and discriminator."""
    rms_decay: float = 0.99
    """RMSprop decay of the mean square."""
    rms_epsilon: float = 1e-5
    """RMSprop constant, added outside the root."""
    max_grad_norm: float = 10.0
    """Global norm to which gradients are clipped."""
    gamma: float = 0.99
    """Discount factor of an environment step."""
    td_lambda: float = 0.0
    """Weight of the rewards that followed against bootstrapped values: 0 for one-step targets."""
    epsilon_start: float = 1.0
    """Exploration at environment step 0."""
    epsilon_finish: float = 0.01
    """Exploration from `epsilon_steps` on."""
    epsilon_steps: float = 100.0
    """Environment steps over which epsilon falls linearly."""
    monotonicity_weight: float = 0.0
    """Weight of the penalty on a negative dQ_tot/dQ_i; read by unconstrained mixers alone."""
    optimum_weight: float = 1.0
    """Weight of QTRAN's loss at the greedy joint action."""
    nonoptimum_weight: float = 1.0
    """Weight of QTRAN's loss at the other joint actions."""
    exploration_temperature: float = 1.0
    """Temperature of Boltzmann exploration, in units of utility."""
    mi_weight: float = 0.1
    """lambda_MI: weight of the mutual information bound in the loss; read by MAVEN alone."""
    intrinsic_weight: float = 0.0
    """Weight of r_aux in the reward, where `discriminator.signal` is `reward`."""
    temperature: float = 1.0
    """alpha of the Boltzmann policies that the discriminator reads, in units of utility."""
    latent_learning_rate: float = 5e-4
    """Adam step size of the latent policy."""
    latent_return_scale: float = 1.0
    """Factor on the returns that the latent policy learns from."""
    latent_entropy_weight: float = 0.0
    """Weight of the latent policy's entropy H(z | s0), in units of scaled return."""


class FrozenDict(Mapping[str, Any]):
    """A mapping that never changes, so that it has a hash: its lists are tuples, all the way down.

    It equals every mapping of the same content.
    """

    def __init__(self, content: Mapping[str, Any] | None = None) -> None:
        self._content = {key: _frozen(value) for key, value in (content or {}).items()}

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return repr(self._content)

    def __hash__(self) -> int:
        return hash(frozenset(self._content.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._content == FrozenDict(other)._content


def _frozen(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and numbers
        value = value.tolist()
    if isinstance(value, Mapping):
        return FrozenDict(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """What YAML writes of a frozen value: dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return list(map(_plain, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and the arguments of its constructor."""

    name: str = "m_step_matrix"
    options: Mapping[str, Any] = field(default_factory=FrozenDict)
    """Kept as a `FrozenDict`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", FrozenDict(self.options))


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of utilities and mixer."""

    hidden_size: int = 64
    """Width of the agents' first layer and GRU."""
    latent_head: Literal["additive", "paired"] = "additive"
    """The last layer's weights as a sum of what z and the agent's id each give, as published, or a
    layer for every pair of the two: then values of z share the recurrent network alone."""
    mixer_embed_size: int = 32
    """Width of the mixing layer."""
    mixer_skip_connections: bool = False
    """Add a direct path from the utilities to Q_tot."""


@dataclass(frozen=True)
class LatentConfig:
    """The latent z of MAVEN, and the learning of its policy."""

    kind: Literal["categorical", "gaussian", "logistic", "bandit", "uniform"] = "categorical"
    """A learnt policy p(z | s0), over one-hot z or over vectors; one-hot z by estimates of its
    return (bandit); or uniform one-hot z."""
    size: int = 16
    """Number of values of z, or its dimensions."""
    hidden_size: int = 128
    """Width of the latent policy's hidden layer, or of the bandit's two."""
    bandit_scale: float = 20.0
    """Factor on the output of the bandit's network, in units of return."""
    bandit_temperature: float = 1.0
    """Temperature of the bandit's softmax over estimated returns, in units of return."""
    bandit_epsilon: float = 0.1
    """Probability of a uniform z with the bandit, in training."""
    bandit_test_epsilon: float = 0.0
    """The same in test episodes."""
    updates: int = 8
    """Optimiser steps of the latent policy for each gradient step."""
    batch_size: int = 64
    """Episodes in each of them."""
    replay_size: int = 512
    """How many of the last episodes they are drawn from."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The variational posterior q_v of MAVEN."""

    kind: Literal["recurrent", "feed_forward"] = "recurrent"
    """Read whole trajectories, or each step alone."""
    hidden_size: int = 32
    hidden_layers: int = 2
    recurrent_size: int = 32
    reads: Literal["policies", "greedy_actions", "taken_actions"] = "policies"
    """Boltzmann policies; or actions, greedy ("hard") or taken, which cuts the gradient to the
    utilities."""
    signal: Literal["gradient", "reward"] = "gradient"
    """How the bound reaches the utilities: by its gradient, or detached, as reward r_aux."""


@dataclass(frozen=True)
class ExplorationConfig:
    """How the agents act in training."""

    kind: Literal["epsilon_greedy", "team_epsilon_greedy", "boltzmann"] = "epsilon_greedy"
    """Greedy but for a scheduled share of random actions, drawn for each agent or for all at once;
    or by softmax of the utilities."""


@dataclass(frozen=True)
class TrainingConfig:
    """The loop: rounds of episodes, then gradient steps, each on a replayed batch.

    A gradient step is taken for every `num_envs / updates_per_round` episodes; 1 as published.
    """

    total_env_steps: int = 100_000
    """Environment steps after which a seed stops, at the next evaluation."""
    batch_size: int = 32
    """Episodes in a gradient step."""
    replay_size: int = 1_000
    """Episodes kept."""
    double_q: bool = True
    """Choose the next actions by the online network, value them by the target's."""
    num_envs: int = 1
    """Environments that each seed plays side by side, one episode of each in a round."""
    updates_per_round: int = 1
    """Gradient steps after each round."""
    target_update_interval: int = 200
    """Gradient steps between copies of the weights to the target network."""
    updates_per_evaluation: int = 100
    """Gradient steps between evaluations: the length of a compiled chunk."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Greedy test episodes."""

    episodes: int = 64
    """With z drawn from the latent policy."""
    episodes_per_latent: int = 4
    """With each value of z."""
    latent_draws: int = 16
    """How many draws stand for the values of a continuous z."""


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    algorithm: str = "maven"
    """A name in `maven_jax.algorithms.ALGORITHMS`."""
    fidelity: Literal["paper", "reference"] = "paper"
    """Follow the paper, or the published code where the two differ."""
    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)


def unknown(kind: str, name: Any, known: Iterable[str]) -> ConfigError:
    """The error for a name that does not exist, with what was probably meant."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(known)}"
    return ConfigError(f"unknown {kind} {name!r}; {hint}")


def first_line(error: BaseException, limit: int = 300) -> str:
    """What an error says in its first line, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:limit]


def load_config(source: str | Path) -> Config:
    """Reads a YAML file of overrides, or one of the packaged configurations by its name.

    Raises:
        ConfigError: no such file or name, unknown key, wrong type, or a value that cannot work.
    """
    path = Path(source)
    if not path.is_file():
        packaged = packaged_configs()
        if path.suffix or len(path.parts) > 1:
            raise ConfigError(f"config {str(source)!r} is not a file")
        if str(source) not in packaged:
            raise unknown("config", str(source), packaged)
        file = packaged[str(source)]
    else:
        file = path
    try:
        overrides = parse_yaml(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"config {str(source)!r} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"config {str(source)!r} {error}") from None
    config = from_dict({} if overrides is None else overrides)
    validate(config)
    return config


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where YAML would keep the last.

    Keys are compared as they are written: what a merge key (`<<`) brings gives way to what stands
    beside it.
    """

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: list[Any] = []
        for key, _ in node.value:
            merges = key.tag == "tag:yaml.org,2002:merge"
            value = "<<" if merges else self.construct_object(key, deep=True)
            if value in seen:
                raise yaml.MarkedYAMLError(problem_mark=key.start_mark)
            seen.append(value)
        return node


def parse_yaml(text: str | bytes) -> Any:
    """Plain values from YAML.

    Raises:
        ConfigError: it is not valid YAML, or a key stands twice.
    """
    try:
        value = yaml.load(text, Loader=_StrictLoader)
        if _size(value, {}) > LARGEST_YAML:
            raise ConfigError(f"holds more than {LARGEST_YAML} values, its aliases written out")
        return value
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f": look at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"is not valid YAML{where}") from None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):  # odd scalars
        raise ConfigError("is not valid YAML") from None


LARGEST_YAML = 10**5
"""Values of a file: aliases of aliases must not fill memory."""


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are in lists and dictionaries, as if none were shared."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # one that holds itself is refused by what reads it
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(entry, known) for entry in inner)
    return known[id(value)]


def packaged_configs() -> dict[str, Any]:
    """Name to file of the configurations that come with the package."""
    folder = importlib.resources.files("maven_jax.configs")
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): file for file in files}


def from_dict(overrides: Any) -> Config:
    """Nested overrides of the defaults, as read from YAML, to a configuration.

    Raises:
        ConfigError: unknown key or wrong type. Values are checked by `validate`.
    """
    return override(Config(), overrides)


def override(config: Config, overrides: Any) -> Config:
    """The configuration with other values in the fields that nested dictionaries name.

    Another `env.name` takes no `env.options` along; those that are named beside it hold.

    Raises:
        ConfigError: unknown key or wrong type. Values are checked by `validate`.
    """
    try:
        return _override(config, overrides, prefix="")
    except RecursionError:
        raise ConfigError("config is nested too deeply, or holds itself") from None


def to_dict(config: Config) -> dict[str, Any]:
    """The full configuration as nested plain dictionaries; `from_dict` reads it back."""
    plain = dataclasses.asdict(config)
    plain["env"]["options"] = config.env.options
    plain["hyperparameters"] = config.hyperparameters._asdict()
    return _plain(plain)


def _override(section: Any, overrides: Any, prefix: str) -> Any:
    if not isinstance(overrides, Mapping):
        name = prefix.removesuffix(".") or "config"
        raise ConfigError(f"{name} is {shown(overrides)}; allowed: a mapping of fields to values")
    types = typing.get_type_hints(type(section))
    values = {}
    for key, value in overrides.items():
        if key not in types:
            raise unknown("key", f"{prefix}{key}", (f"{prefix}{name}" for name in types))
        current = getattr(section, key)
        if dataclasses.is_dataclass(current) or isinstance(current, Hyperparameters):
            values[key] = _override(current, value, f"{prefix}{key}.")
        else:
            values[key] = coerce(value, types[key], f"{prefix}{key}")
    if isinstance(section, Hyperparameters):
        return section._replace(**values)
    if isinstance(section, EnvConfig) and values.get("name", section.name) != section.name:
        values.setdefault("options", {})  # those of one environment say nothing to another
    return dataclasses.replace(section, **values)


def coerce(value: Any, expected: Any, name: str) -> Any:
    """`value` as the field's type; YAML reads `5e-4` as a string, and 1 where 1.0 is meant.

    Raises:
        ConfigError: the value is of another type.
    """
    is_traced = isinstance(value, jax.core.Tracer)
    if isinstance(value, np.generic | jax.Array) and not is_traced and value.ndim == 0:
        value = value.item()
    if typing.get_origin(expected) is Literal:
        allowed = typing.get_args(expected)
        if value not in allowed:
            choices = ", ".join(map(str, allowed))
            raise ConfigError(f"{name} is {shown(value)}; allowed: {choices}")
        return value
    expected = typing.get_origin(expected) or expected
    if expected is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        raise ConfigError(f"{name} is {shown(value)}; allowed: {_TYPE_NAMES[expected]}")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false"} | {
    str: "a string",
    Mapping: "a mapping of option names to values",
}


_LARGEST = {"network": 2**16, "latent": 2**16, "discriminator": 2**16} | {
    "training": 10**6,
    "evaluation": 10**6,
    "replay_size": 10**7,
    "total_env_steps": 2**31 - 1,
}
"""The largest whole number of a section or field: a slip of the keyboard must not fill memory."""


def check(condition: bool, name: str, value: Any, allowed: str) -> None:
    """Raises `ConfigError` with the field, the value and what is allowed, unless `condition`."""
    if not condition:
        raise ConfigError(f"{name} is {shown(value)}; allowed: {allowed}")


def shown(value: Any) -> str:
    """A value as an error shows it: whole, unless it is too large for a line."""
    text = _REPR.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 200
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict = 4, 20, 20, 20
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST


def validate(config: Config) -> None:
    """Checks every value that does not depend on the environment, and that the algorithm reads.

    Raises:
        ConfigError: the first value that cannot work, or no such algorithm.
    """
    from maven_jax.algorithms import row  # which imports this module

    config = _of_the_right_types(config)
    for section in ("network", "training", "evaluation"):
        _check_sizes(config, section)
    training = config.training
    for key in ("batch_size", "num_envs"):
        _check_replay("training", training, f"training.{key}", getattr(training, key))
    check(
        training.updates_per_evaluation % training.updates_per_round == 0,
        "training.updates_per_evaluation",
        training.updates_per_evaluation,
        f"a multiple of training.updates_per_round, which is {training.updates_per_round}",
    )
    if row(config).has_latent:
        _validate_latent(config)
    for key, value in config.hyperparameters._asdict().items():
        name, single = f"hyperparameters.{key}", _single(value)
        check(math.isfinite(single), name, value, "a finite number in single precision")
        if key in ("gamma", "td_lambda", "rms_decay", "epsilon_start", "epsilon_finish"):
            check(0 <= single <= 1, name, value, "a number from 0 to 1")
        elif key.endswith("temperature") or key in (
            "epsilon_steps",
            "rms_epsilon",
            "max_grad_norm",
        ):
            check(single > 0, name, value, "a positive number")
        else:
            check(single >= 0, name, value, "a number of at least 0")


_SECTIONS = {field.name for field in dataclasses.fields(Config)} - {"algorithm", "fidelity"}


def _of_the_right_types(config: Config) -> Config:
    """The configuration with Python's own numbers; in Python any value may stand in a field.

    Raises:
        ConfigError: a value of another type than its field's.
    """

    def check_section(section: Any, prefix: str) -> Any:
        types = typing.get_type_hints(type(section))
        values = {}
        for key, expected in types.items():
            value, name = getattr(section, key), f"{prefix}{key}"
            if name in _SECTIONS:
                check(isinstance(value, expected), name, value, f"of type {expected.__name__}")
                values[key] = check_section(value, f"{name}.")
                continue
            values[key] = coerce(value, expected, name)
            if isinstance(value, str) and not isinstance(values[key], str):  # YAML may, Python not
                check(False, name, value, _TYPE_NAMES[expected])
        if isinstance(section, Hyperparameters):
            return section._replace(**values)
        return dataclasses.replace(section, **values)

    return check_section(config, "")


def _check_sizes(config: Config, section: str) -> None:
    """Every whole number of a section is from 1 to what memory may hold."""
    for key, value in dataclasses.asdict(getattr(config, section)).items():
        if type(value) is int:
            largest = _LARGEST.get(key, _LARGEST[section])
            allowed = f"a whole number from 1 to {largest}"
            check(1 <= value <= largest, f"{section}.{key}", value, allowed)


def _check_replay(
    name: str, section: TrainingConfig | LatentConfig, least: str, number: int
) -> None:
    """A section's replay holds as many episodes as the field `least` says."""
    held = section.replay_size
    check(held >= number, f"{name}.replay_size", held, f"at least {least}, which is {number}")


def _validate_latent(config: Config) -> None:
    """What only algorithms with a latent read."""
    latent = config.latent
    for section in ("latent", "discriminator"):
        _check_sizes(config, section)
    if latent.kind != "uniform":  # nothing is learnt, so nothing is replayed
        _check_replay("latent", latent, "latent.batch_size", latent.batch_size)
        _check_replay("latent", latent, "training.num_envs", config.training.num_envs)
    check(
        latent.size >= 2 or latent.kind in ("gaussian", "logistic"),
        "latent.size",
        latent.size,
        "a whole number of at least 2",
    )
    check(
        config.discriminator.signal == "gradient" or config.hyperparameters.mi_weight > 0,
        "hyperparameters.mi_weight",
        config.hyperparameters.mi_weight,
        "a positive number where discriminator.signal is reward: it is what trains q_v",
    )
    for key in ("bandit_scale", "bandit_temperature"):
        value = getattr(latent, key)
        single = _single(value)
        check(0 < single < math.inf, f"latent.{key}", value, "a positive number")
    for key in ("bandit_epsilon", "bandit_test_epsilon"):
        value = getattr(latent, key)
        check(0 <= value <= 1, f"latent.{key}", value, "a number from 0 to 1")


def _single(value: float) -> float:
    """The value as the compiled program sees it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
