"""A checker of environments: the usual mistakes, each said in a line."""

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
    reward: Any
    finite: Any
    """Of views, states and rewards."""
    stuck: Any
    """An agent that may do nothing."""


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
    if env.time_limit < 1:
        yield f"time_limit is {env.time_limit}; allowed: a whole number of at least 1"


def _purity(env: MarlEnv, key: ScalarKey) -> Iterator[str]:
    """The same arguments give the same result, and `step` is traced once."""
    traces = []

    def step(state: Any, action: Any) -> Any:
        traces.append(state)
        return env.step(state, action)

    reset, step = jax.jit(env.reset), jax.jit(step)
    state, first = reset(key)
    if not _equal((state, first), env.reset(key)):
        yield "reset gives another episode for the same key, or another one when compiled"
    action = jnp.argmax(first.observation.action_mask, -1).astype(jnp.int32)
    following = step(state, action)
    if not _equal(following, step(state, action)):
        yield "step gives another result for the same state and action"
    step(following[0], action)
    if len(traces) > 1:
        yield f"step is traced {len(traces)} times for states of one kind: it would be recompiled"


def _episodes(env: MarlEnv, key: ScalarKey, num_episodes: int) -> Iterator[str]:
    """What random play shows."""
    keys = jax.random.split(key, num_episodes)
    played = jax.tree.map(np.asarray, jax.jit(jax.vmap(_player(env), out_axes=1))(keys))
    active, last = played.active, played.last & played.active
    if (played.stuck & active).any():
        step, _ = np.argwhere(played.stuck & active)[0]
        yield f"action_mask forbids every action of an agent at step {step}"
    if not played.finite[active].all():
        yield "views, states or rewards are not finite"
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
            "discount never ends: it is 1 where episodes end before time_limit, so values are "
            "bootstrapped past their end"
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
            seen = timestep.observation
            read = (seen.agents_view, seen.global_state, timestep.reward)
            finite = jnp.stack([jnp.isfinite(x).all() for x in read]).all()
            stuck = ~mask.any(-1).all()
            last = timestep.last()
            row = _Play(active, last, timestep.discount, timestep.reward, finite, stuck)
            return (state, seen, active & ~last), row

        start = (state, first.observation, jnp.array(True))
        return jax.lax.scan(step, start, jax.random.split(act_key, env.time_limit))[1]

    return play


def _kind(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _equal(one: Any, other: Any) -> bool:
    def plain(x: Any) -> np.ndarray:
        x = jnp.asarray(x)
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.allclose(plain(a), plain(b), rtol=1e-5, equal_nan=True) for a, b in pairs)
