"""A checker of environments: the usual mistakes, each said in a line."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maven_jax.acting.random_play import RandomStep, random_episode
from maven_jax.acting.rollout import env_sizes, env_spec
from maven_jax.errors import ConfigError, check, first_line
from maven_jax.types import ScalarKey

EPISODES = "episodes"
LARGEST_FEATURE = 10
"""Of a state: QMIX's mixing weights, and with them its first values, grow with the features."""
MIN_TICKS = 2
"""Steps that tell a clock from a flag."""


class _Play(NamedTuple):
    """Random episodes, `T E`: what a rollout would see, and what it should not."""

    active: Any
    last: Any
    discount: Any
    finite: Any
    """Of views, states, rewards, discounts and extras."""
    largest: Any
    """Of the absolute features of states."""
    stuck: Any
    """An agent that may do nothing, now or in the next state where its value is read."""
    looks_like_a_start: Any
    """All that every start has in common, in state and observation, is as it was there."""


class _Watch(NamedTuple):
    """What is carried from step to step to find a clock that an environment sets back.

    A clock is a number in the state that is the same at all starts, and rises (or falls) at every
    step but the last. If it is back at its first value after every end, the environment has reset
    itself: 0, 1, 2, 0 is such a clock, 0, 1, 2, 3 is not.
    """

    start: Any
    """Numbers of the first state, and of the first observation."""
    same_across_starts: Any
    """Which of these are the same at the starts of all episodes."""
    may_count_up: Any
    """Which of the state's are the same at all starts, and have risen at each step so far."""
    may_count_down: Any
    """The same, of those that have fallen."""
    back_at_end: Any
    """Which of the state's are after the last step as at the start."""


class _Clocks(NamedTuple):
    """Elements of the state, `E ...`: which ran as a clock does, and which were set back."""

    ran: Any
    back_at_end: Any


_COUNT = "a whole number from 1 on"


def check_env(env: Any, seed: int = 0, num_episodes: int = 16) -> list[str]:
    """Plays random episodes and says what is wrong with an environment.

    Args:
        env: follows `maven_jax.types.MarlEnv`, or means to.
        seed: of the episodes.
        num_episodes: how many are played, to the time limit each.

    Returns:
        A line for each mistake found; nothing where the environment can be trained on.

    Raises:
        ConfigError: no episode, or a seed out of range.
    """
    check(type(num_episodes) is int and num_episodes >= 1, "num_episodes", num_episodes, _COUNT)
    allowed = "a whole number from 0 to 2**31 - 1"
    check(type(seed) is int and 0 <= seed < 2**31, "seed", seed, allowed)
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


def _structure(env: Any, key: ScalarKey) -> Iterator[str]:
    """Shapes and dtypes: what a scan over steps and the networks need."""
    num_agents = env_sizes(env)[0]

    def first_steps(key: ScalarKey) -> tuple[Any, Any]:
        state, first = env.reset(key)
        return (state, first), env.step(state, jnp.zeros(num_agents, jnp.int32))

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
        ("agents_view", f"[{num_agents}, features]"),
        ("global_state", "[features]"),
    ):
        x = getattr(seen, field)
        if x.ndim != 1 + (field == "agents_view") or x.shape[:-1] not in ((), (num_agents,)):
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


def _purity(env: Any, key: ScalarKey) -> Iterator[str]:
    """Traced twice, a pure function is the same program."""
    state, _ = jax.eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct((env_sizes(env)[0],), jnp.int32)
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


def _episodes(env: Any, key: ScalarKey, num_episodes: int) -> Iterator[str]:
    """What random play shows."""
    keys = jax.random.split(key, num_episodes)
    player = jax.vmap(_player(env), out_axes=(1, 0), axis_name=EPISODES)
    played, clocks = jax.tree.map(np.asarray, jax.jit(player)(keys))
    active, last = played.active, played.last & played.active
    if (played.stuck & active).any():
        step, _ = np.argwhere(played.stuck & active)[0]
        yield f"action_mask forbids every action of an agent at step {step}"
    if not played.finite[active].all():
        yield "views, states, rewards, discounts or extras are not finite"
    largest = played.largest[active].max()
    if largest > LARGEST_FEATURE:
        yield (
            f"global_state has a feature of {largest:g} in random play: QMIX's first values grow "
            f"with it; allowed: features within {LARGEST_FEATURE}"
        )
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
    if _resets_itself(played, clocks):
        yield (
            "state and observation of an episode's last step are those of a new one: it resets "
            "itself, and an episode that was cut would be bootstrapped from the next one's start"
        )


def _player(env: Any) -> Callable[[ScalarKey], tuple[_Play, _Clocks]]:
    """One episode of random legal actions, to the time limit, beside others on `EPISODES`."""

    def begin(reset_key: ScalarKey, state: Any, first: Any) -> _Watch:
        start = _values(state), _values(first.observation)
        same = jax.tree.map(lambda x: (jax.lax.all_gather(x, EPISODES) == x).all(0), start)
        of_state, _ = same
        nowhere = jax.tree.map(jnp.zeros_like, of_state)
        # All may be clocks until a step shows that they are not.
        return _Watch(
            start, same, may_count_up=of_state, may_count_down=of_state, back_at_end=nowhere
        )

    def read(watch: _Watch, step: RandomStep) -> tuple[_Watch, _Play]:
        active, timestep = step.active, step.timestep
        seen, last = timestep.observation, timestep.last()
        of_step = (step.observation, seen, timestep.reward, timestep.discount, timestep.extras)
        finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(of_step) if _is_float(x)]
        stuck = ~step.observation.action_mask.any(-1).all()
        stuck |= ~seen.action_mask.any(-1).all() & (timestep.discount > 0)
        before, after = _values(step.state), _values(step.next_state)
        as_at_start = jax.tree.map(jnp.equal, (after, _values(seen)), watch.start)
        agrees = jax.tree.map(
            lambda same, now: (~same | now).all(), watch.same_across_starts, as_at_start
        )
        states = jnp.stack([x.global_state for x in (step.observation, seen)])
        row = _Play(
            active=active,
            last=last,
            discount=timestep.discount,
            finite=jnp.stack(finite).all(),
            largest=jnp.abs(states.astype(jnp.float32)).max(initial=0),
            stuck=stuck,
            looks_like_a_start=jnp.stack(jax.tree.leaves(agrees)).all(),
        )
        ticks, ends = active & ~last, active & last
        up = jax.tree.map(
            lambda may, a, b: may & (~ticks | (a > b)), watch.may_count_up, after, before
        )
        down = jax.tree.map(
            lambda may, a, b: may & (~ticks | (a < b)), watch.may_count_down, after, before
        )
        back = jax.tree.map(lambda b, now: b | (ends & now), watch.back_at_end, as_at_start[0])
        return watch._replace(may_count_up=up, may_count_down=down, back_at_end=back), row

    def play(key: ScalarKey) -> tuple[_Play, _Clocks]:
        watch, rows = random_episode(env, key, begin, read)
        ran = jax.tree.map(jnp.logical_or, watch.may_count_up, watch.may_count_down)
        return rows, _Clocks(ran, watch.back_at_end)

    return play


def _resets_itself(played: _Play, clocks: _Clocks) -> bool:
    """Whether all ends of a kind, true or cut, lead back to a start.

    Starts are random, so only what they have in common can tell. Either all of it is back at the
    end, but was not all the way; or a clock is back, though a wrapper's own counter may go on. A
    game of which nothing moves, or whose last view alone is like the first, does neither.
    """
    last = played.last & played.active
    moves = (played.active & ~last & ~played.looks_like_a_start).any()
    for kind in (last & (played.discount > 0), last & (played.discount == 0)):
        if kind.any() and moves and played.looks_like_a_start[kind].all():
            return True
        ended = kind[MIN_TICKS:].any(0)
        for ran, back in zip(*map(jax.tree.leaves, clocks), strict=True):
            if ended.any() and (ran & back)[ended].all(0).any():
                return True
    return False


def _values(tree: Any) -> list[Any]:
    """Its leaves that are numbers, but not keys."""
    return [x for x in map(jnp.asarray, jax.tree.leaves(tree)) if not _is_key(x)]


def _kind(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
