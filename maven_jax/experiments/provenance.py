"""What a run's numbers depend on besides its configuration.

JAX's settings, versions, devices, and the class of the environment.
"""

import dataclasses
import enum
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from maven_jax.config import Config
from maven_jax.environments import registry
from maven_jax.environments.registry import class_name
from maven_jax.errors import ConfigError, check
from maven_jax.experiments.new_folder import describe_machine
from maven_jax.extensions import refuse_missing
from maven_jax.types import MarlEnv

SETTINGS = (
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_default_matmul_precision",
    "jax_allow_f16_reductions",
    "jax_softmax_custom_jvp",
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
)
"""JAX's settings that decide which random bits are drawn, or how numbers are computed."""


def current_settings() -> dict[str, Any]:
    """The values of `SETTINGS`, those that this version of JAX has, as JSON holds them."""
    known = jax.config.values
    values = {name: getattr(jax.config, name, known[name]) for name in SETTINGS if name in known}
    return {n: v.value if isinstance(v, enum.Enum) else v for n, v in values.items()}


def check_settings(path: Path, info: Mapping[str, Any]) -> None:
    """Refuses to resume a run under other settings than it was started with.

    Raises:
        ConfigError: names the first setting that differs, and what to set.
    """
    recorded = info.get("settings", {})
    for name, value in current_settings().items():
        then, variable = recorded.get(name, value), name.upper()
        remedy = f"unset {variable}" if then is None else f"set {variable}={then}"
        allowed = f"{then!r}, with which run '{path}' was started: {remedy}"
        check(value == then, name, value, allowed)


def record_start(info: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of `run.json` for a start in this process, and `history`, a list of all starts."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    start = {"started": now, "command": sys.argv, **_environment()}
    history = [*info.get("history", []), start]
    return {**start, "settings": current_settings(), "history": history}


def describe_changes(info: Mapping[str, Any]) -> str | None:
    """What differs from the last start, in a line; None where nothing does, or there was none."""
    history: list[dict[str, Any]] = info.get("history", [])
    then, now = _compared(history[-1] if history else {}), _compared(_environment())
    changed = [
        f"{name} {now[name]!r} (before: {then[name]!r})"
        for name in now
        if name in then and now[name] != then[name]
    ]
    if not changed:
        return None
    return f"resumed with {', '.join(changed)}: float32 sums may differ from the run's so far"


def _environment() -> dict[str, Any]:
    return {**describe_machine(), "xla_flags": os.environ.get("XLA_FLAGS", "").strip()}


def _compared(start: Mapping[str, Any]) -> dict[str, Any]:
    """Versions by their packages, device and flags of a start."""
    names = ("device", "platform", "num_devices", "xla_flags")
    return start.get("versions", {}) | {name: start[name] for name in names if name in start}


def env_of_run(
    path: Path,
    config: Config,
    info: Mapping[str, Any],
    make_env: Callable[[Config], MarlEnv] = registry.make_env,
) -> MarlEnv:
    """The environment that a run was trained in.

    It is the one that `env.name` names, or else the class of `run.json`: Python may have trained
    with another environment than the configuration's. A module that only the folder names is not
    imported.

    Raises:
        ConfigError: it cannot be made; the line names the run.
    """
    trained_in, registers = info.get("environment"), info.get("imports", {}).get("env.name")

    def make(name: str, *modules: str | None) -> MarlEnv:
        if make_env is registry.make_env:
            needed = *modules, registry.ENVIRONMENTS.module_of(name)
            refuse_missing(f"environment {name!r}", needed)
        return make_env(dataclasses.replace(config, env=dataclasses.replace(config.env, name=name)))

    try:
        env = make(config.env.name, registers)
        if trained_in in (None, class_name(env)):
            return env
    except ConfigError as error:
        if trained_in is None or config.env.name == trained_in:
            raise ConfigError(f"run '{path}': {error}") from None
    try:
        return make(trained_in)
    except ConfigError as error:
        raise ConfigError(f"run '{path}' was trained in {trained_in!r}: {error}") from None


def check_env_of_run(path: Path, info: Mapping[str, Any], env: MarlEnv) -> None:
    """Refuses to resume a run in another environment than the one that it was trained in.

    Raises:
        ConfigError: `env` is of another class than `run.json` says.
    """
    then, now = info.get("environment"), class_name(env)
    if then not in (None, now):
        raise ConfigError(f"run '{path}' was trained in {then!r}, not in {now!r}")
