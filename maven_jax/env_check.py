"""A checker of environments: the usual mistakes, each said in a line."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maven_jax.config import ConfigError, first_line
from maven_jax.exploration import epsilon_greedy
from maven_jax.rollout import env_spec
from maven_jax.types import MarlEnv, ScalarKey


class _Play(NamedTuple):
    """Random episodes, `T E`: what a rollout would see, and what it should not."""

    active: Any
    last: Any
    discount: Any
    finite: Any
    """Of views, states, rewards, discounts and extras."""
    stuck: Any
    """An agent that may do nothing, now or in the next state where its value is read."""


def check_env(env: Any, seed: int = 0, num_episodes: int = 16) -> list[str]:
    """Plays random episodes and says what is wrong with an environment.

    Args:
        env: follows `maven_jax.types.MarlEnv`, or means to.
        seed: of the episodes.
        num_episodes: how many are played, to the time limit each.

    Returns:
        A line for each mistake found; nothing where the environment can be trained on.
    """
    try:
        env_spec(env)
        key = jax.random.key(seed)
        structure = list(_structure(env, key))
        if structure:
            return structure
        return [*_purity(env, key), *_episodes(env, key, num_episodes)]
    except ConfigError as error:
        return [str(error)]
    except Exception as error:  # the environment's own, of any kind
        return [f"reset and step cannot be traced: {type(error).__name__}: {first_line(error)}"]


def _structure(env: MarlEnv, key: ScalarKey) -> Iterator[str]:
    """Shapes and dtypes: what a scan over steps and the networks need."""

    def first_steps(key: ScalarKey) -> tuple[Any, Any]:
        state, first = env.reset(key)
        return (state, first), env.step(state, jnp.zeros(env.num_agents, jnp.int32))

    (state, first), (next_state, second) = jax.eval_shape(first_steps, key)
    for name, before, after in (
        ("state", state, next_state),
        ("observation", first.observation, second.observation),
        ("extras", first.extras, second.extras),
    ):
        structures = [str(jax.tree.structure(tree)) for tree in (before, after)]
        if structures[0] != structures[1]:
            yield f"{name} of step has another structure than that of reset"
            continue
        paths = jax.tree_util.tree_leaves_with_path(before)
        for (path, a), b in zip(paths, jax.tree.leaves(after), strict=True):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                where = f"{name}{jax.tree_util.keystr(path)}"
                yield f"{where} is {_kind(a)} after reset and {_kind(b)} after step"
            elif a.weak_type != b.weak_type:
                where = f"{name}{jax.tree_util.keystr(path)}"
                yield (
                    f"{where} is weakly typed (a Python number) only after "
                    f"{'reset' if a.weak_type else 'step'}: step is traced twice"
                )
    seen = first.observation
    for field, wanted in (
        ("agents_view", f"[{env.num_agents}, features]"),
        ("global_state", "[features]"),
    ):
        x = getattr(seen, field)
        if x.ndim != 1 + (field == "agents_view") or x.shape[:-1] not in ((), (env.num_agents,)):
            yield f"{field} is {_kind(x)}; allowed: {wanted}"
        if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
            yield f"{field} is {x.dtype}; allowed: floats or integers"
    if seen.action_mask.dtype != bool:
        yield f"action_mask is {seen.action_mask.dtype}; allowed: bool"
    for field in ("reward", "discount"):
        x = getattr(second, field)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            yield f"{field} is {x.dtype}; allowed: a float"
    for name, x in (second.extras or {}).items():
        if x.shape != ():
            yield f"extras[{name!r}] is {_kind(x)}; allowed: a scalar"


def _purity(env: MarlEnv, key: ScalarKey) -> Iterator[str]:
    """Traced twice, a pure function is the same program."""
    state, _ = jax.eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct((env.num_agents,), jnp.int32)
    for name, function, arguments in (
        ("reset", env.reset, (key,)),
        ("step", env.step, (state, action)),
    ):
        first, second = (_program(function, *arguments) for _ in range(2))
        if first != second:
            yield f"{name} is not pure: called twice with the same arguments it computes two things"


def _program(function: Callable[..., Any], *arguments: Any) -> tuple[str, list[bytes]]:
    """What a function computes: its operations, without addresses, and its constants."""
    traced = jax.make_jaxpr(lambda *arguments: function(*arguments))(*arguments)
    constants = [x for x in traced.consts if not _is_key(x)]
    return re.sub("0x[0-9a-f]+", "", str(traced.jaxpr)), [
        np.asarray(x).tobytes() for x in constants
    ]


def _episodes(env: MarlEnv, key: ScalarKey, num_episodes: int) -> Iterator[str]:
    """What random play shows."""
    keys = jax.random.split(key, num_episodes)
    played = jax.tree.map(np.asarray, jax.jit(jax.vmap(_player(env), out_axes=1))(keys))
    active, last = played.active, played.last & played.active
    if (played.stuck & active).any():
        step, _ = np.argwhere(played.stuck & active)[0]
        yield f"action_mask forbids every action of an agent at step {step}"
    if not played.finite[active].all():
        yield "views, states, rewards, discounts or extras are not finite"
    discount = played.discount[active]
    if ((discount < 0) | (discount > 1)).any():
        yield f"discount is {discount.min():g} to {discount.max():g}; allowed: 0 to 1"
    if not last.any(0).all():
        yield (
            f"time_limit is {env.time_limit}, but an episode of that many steps has no last step: "
            "its end would not be known"
        )
    if (played.discount[active & ~last] == 0).any():
        yield "discount is 0 at a step that is not the last: its future would be cut off"
    early = last[:-1]
    if early.any() and (played.discount[:-1][early] == 1).all():
        yield (
            "discount never ends: it is 1 at every end, also before time_limit, so values are "
            "bootstrapped past it; 0 says that an episode has ended by itself"
        )


def _player(env: MarlEnv) -> Callable[[ScalarKey], _Play]:
    """One episode of random legal actions, to the time limit."""

    def play(key: ScalarKey) -> _Play:
        reset_key, act_key = jax.random.split(key)
        state, first = env.reset(reset_key)

        def step(carry: Any, key: ScalarKey) -> Any:
            state, observation, active = carry
            mask = observation.action_mask
            actions = epsilon_greedy(key, jnp.zeros(mask.shape), mask, 1.0)
            state, timestep = env.step(state, actions)
            seen, last = timestep.observation, timestep.last()
            read = (observation, seen, timestep.reward, timestep.discount, timestep.extras)
            finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(read) if _is_float(x)]
            stuck = ~mask.any(-1).all()
            stuck |= ~seen.action_mask.any(-1).all() & (timestep.discount > 0)
            row = _Play(active, last, timestep.discount, jnp.stack(finite).all(), stuck)
            return (state, seen, active & ~last), row

        start = (state, first.observation, jnp.array(True))
        return jax.lax.scan(step, start, jax.random.split(act_key, env.time_limit))[1]

    return play


def _kind(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
