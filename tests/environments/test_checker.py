"""`check_env` names each usual mistake in a line, and is silent about a sound environment."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.types import StepType
from jumanji.wrappers import AutoResetWrapper

from maven_jax import check_env, from_dict, make_trainer
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_environment.py"


def load_example():
    spec = importlib.util.spec_from_file_location("own_environment", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


own = load_example()


class Broken(own.Rendezvous):
    """The example, with one thing wrong."""

    def __init__(self, timestep=lambda t, env: t, state=lambda s: s):
        self.change_timestep, self.change_state = timestep, state

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return self.change_state(state), self.change_timestep(timestep, self)


def observation(**changes):
    """A change of an observation's fields, by functions of the field."""

    def change(timestep, env):
        seen = timestep.observation
        new = {name: function(getattr(seen, name)) for name, function in changes.items()}
        return timestep.replace(observation=seen._replace(**new))

    return change


class NumPySizes(own.Rendezvous):
    num_agents, num_actions, time_limit = np.int64(2), np.int8(3), np.array(8)


class JaxSizes(own.Rendezvous):
    num_agents, num_actions, time_limit = map(jnp.int32, (2, 3, 8))


class NoState(own.Rendezvous):
    """Without a global state."""

    def _timestep(self, *args, **kwargs):
        timestep = super()._timestep(*args, **kwargs)
        seen = timestep.observation
        return timestep.replace(observation=seen._replace(global_state=seen.global_state[:0]))


class BlankView(own.Rendezvous):
    """Shows something between the first view and the last, which are blank."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return state, blank(timestep, timestep.last())

    def reset(self, key):
        state, timestep = super().reset(key)
        return state, blank(timestep, True)


def blank(timestep, when):
    seen = timestep.observation
    view, everything = (x * (1 - when) for x in (seen.agents_view, seen.global_state))
    seen = seen._replace(agents_view=view, global_state=everything)
    return timestep.replace(observation=seen)


class FlagState(NamedTuple):
    running: jax.Array
    step_count: jax.Array


class Constant(own.Rendezvous):
    """One view for ever, and a flag that is up between the start and the end."""

    def reset(self, key):
        state = FlagState(jnp.array(False), jnp.int32(0))
        return state, self._constant(state, StepType.FIRST)

    def step(self, state, action):
        count = state.step_count + 1
        last = count >= self.time_limit
        return FlagState(~last, count), self._constant(
            state, jnp.where(last, StepType.LAST, StepType.MID)
        )

    def _constant(self, state, step_type):
        place = own.State(jnp.array([2, 4]), state.step_count)
        return self._timestep(place, jnp.asarray(step_type), reward=1.0, met=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        own.Rendezvous(),
        MStepMatrixGame(m=4),
        MatrixGame("climbing"),
        NumPySizes(),
        JaxSizes(),
        NoState(),
        BlankView(),
        Constant(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_nothing_is_said_of_a_sound_one(env):
    assert check_env(env) == []


@pytest.mark.slow
@pytest.mark.parametrize("row_slots", [0, 64])
def test_sizes_that_are_jax_numbers_train(row_slots):
    """Long enough that test episodes stop early."""
    env = JaxSizes()
    env.time_limit = jnp.int32(24)
    training = {"batch_size": 2, "replay_size": 4, "row_slots": row_slots}
    config = from_dict({"algorithm": "maven", "training": training})
    trainer = make_trainer(config, env)
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    _, metrics = jax.eval_shape(trainer.chunk, state, config.hyperparameters)
    assert metrics["return"].shape == ()


def untyped_step_count(state):
    return state._replace(step_count=state.step_count.astype(jnp.float32))


class NoTimeLimit(own.Rendezvous):
    time_limit = property()


class Forbids(own.Rendezvous):
    """Its mask allows an agent at the left edge nothing."""

    def _timestep(self, state, *args, **kwargs):
        timestep = super()._timestep(state, *args, **kwargs)
        seen = timestep.observation
        mask = seen.action_mask & (state.position > 0)[:, None]
        return timestep.replace(observation=seen._replace(action_mask=mask))


class IntegerMask(own.Rendezvous):
    def _timestep(self, *args, **kwargs):
        timestep = super()._timestep(*args, **kwargs)
        seen = timestep.observation
        mask = seen.action_mask.astype(jnp.int32)
        return timestep.replace(observation=seen._replace(action_mask=mask))


class FlatView(own.Rendezvous):
    def _timestep(self, *args, **kwargs):
        timestep = super()._timestep(*args, **kwargs)
        seen = timestep.observation
        return timestep.replace(observation=seen._replace(agents_view=seen.agents_view.ravel()))


class BoolView(own.Rendezvous):
    def _timestep(self, *args, **kwargs):
        timestep = super()._timestep(*args, **kwargs)
        seen = timestep.observation
        return timestep.replace(observation=seen._replace(agents_view=seen.agents_view > 0))


class Impure(own.Rendezvous):
    """Counts its calls in Python."""

    calls = 0

    def reset(self, key):
        self.calls += 1
        state, timestep = super().reset(key)
        return state._replace(step_count=jnp.int32(self.calls)), timestep


class ImpureStep(own.Rendezvous):
    """Draws by NumPy."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return state, timestep.replace(reward=timestep.reward * np.random.default_rng().random())


class StuckAtTheEnd(own.Rendezvous):
    """No action is legal in the state that a cut episode is bootstrapped from."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        seen = timestep.observation
        mask = seen.action_mask & ~timestep.last()
        return state, timestep.replace(observation=seen._replace(action_mask=mask))


class FloatView(own.Rendezvous):
    """Not a number in the first view alone."""

    def _timestep(self, state, *args, **kwargs):
        timestep = super()._timestep(state, *args, **kwargs)
        seen = timestep.observation
        view = jnp.where(state.step_count == 0, jnp.nan, seen.agents_view.astype(jnp.float32))
        return timestep.replace(observation=seen._replace(agents_view=view))


class ScalarState(own.Rendezvous):
    def _timestep(self, *args, **kwargs):
        timestep = super()._timestep(*args, **kwargs)
        seen = timestep.observation
        return timestep.replace(observation=seen._replace(global_state=seen.global_state.sum()))


class FloatLimit(own.Rendezvous):
    time_limit = 8.0


class PythonNumber(own.Rendezvous):
    """A count that is a Python number at first."""

    def reset(self, key):
        state, timestep = super().reset(key)
        return state._replace(step_count=0), timestep

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return state._replace(step_count=jnp.int32(state.step_count)), timestep


class Raises(own.Rendezvous):
    def step(self, state, action):
        raise RuntimeError("not today\nor tomorrow")


class VectorExtras(own.Rendezvous):
    def _timestep(self, *args, **kwargs):
        return super()._timestep(*args, **kwargs).replace(extras={"met": jnp.zeros(2)})


def never_last(timestep, env):
    return timestep.replace(step_type=jnp.asarray(StepType.MID), discount=jnp.float32(1))


class StartsAnew(own.Rendezvous):
    """Its last step is already the next episode's first."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        position = (state.position * 3 + 1) % own.LENGTH
        fresh = own.State(position, jnp.int32(0))
        first = self._timestep(fresh, StepType.FIRST, reward=0.0, met=False)
        last = timestep.last()
        state, seen = jax.tree.map(
            lambda a, b: jnp.where(last, a, b),
            (fresh, first.observation),
            (state, timestep.observation),
        )
        return state, timestep.replace(observation=seen)


class StartsAnewWhenCut(StartsAnew):
    """But not where agents have met."""

    def step(self, state, action):
        (anew, after), (end, true) = (
            cls.step(self, state, action) for cls in (StartsAnew, own.Rendezvous)
        )
        return jax.tree.map(
            lambda a, b: jnp.where(true.discount == 0, b, a), (anew, after), (end, true)
        )


class Counted:
    """Counts the steps of another environment, which knows nothing of it."""

    def __init__(self, env):
        self.env = env
        self.num_agents, self.num_actions = env.num_agents, env.num_actions
        self.time_limit = env.time_limit

    def reset(self, key):
        state, timestep = self.env.reset(key)
        return (state, jnp.int32(0)), timestep

    def step(self, state, action):
        inner, timestep = self.env.step(state[0], action)
        return (inner, state[1] + 1), timestep


RESETS = "state and observation of an episode's last step are those of a new one: it resets"


class SizesOf(own.Rendezvous):
    """With another value of a size."""

    def __init__(self, **sizes):
        vars(self).update(sizes)


@pytest.mark.parametrize("attribute", ["num_agents", "num_actions", "time_limit"])
@pytest.mark.parametrize(
    "value",
    [0, -1, 3.0, True, "3", None, np.bool_(True), np.float32(3), jnp.array([3, 3])],
    ids=str,
)
def test_sizes_are_whole_numbers(attribute, value):
    (line,) = check_env(SizesOf(**{attribute: value}))
    assert line.startswith(f"{attribute} of environment SizesOf is {value!r}; allowed: a whole")
    assert "\n" not in line


CASES = {
    "resets itself": (StartsAnew(), RESETS),
    "resets itself when cut": (StartsAnewWhenCut(), RESETS),
    "resets itself, but for a counter": (Counted(StartsAnew()), RESETS),
    "jumanji's automatic resets": (AutoResetWrapper(MStepMatrixGame(m=4)), RESETS),
    "another dtype after step": (
        Broken(state=untyped_step_count),
        "state.step_count is int32[] after reset and float32[] after step",
    ),
    "another shape after step": (
        Broken(observation(global_state=lambda x: x[:-1])),
        "observation.global_state is int8[14] after reset and int8[13] after step",
    ),
    "other extras after step": (
        Broken(lambda t, env: t.replace(extras={})),
        "extras of step has another structure than that of reset",
    ),
    "vector extras": (
        VectorExtras(),
        "extras['met'] is float32[2]; allowed: a scalar",
    ),
    "weak type": (PythonNumber(), "state.step_count is weakly typed (a Python number) only after"),
    "view without agents": (
        FlatView(),
        "agents_view of environment FlatView has shape (14,); allowed: 2 axes",
    ),
    "view of booleans": (BoolView(), "agents_view is bool; allowed: floats or integers"),
    "mask of integers": (IntegerMask(), "action_mask is int32; allowed: bool"),
    "integer reward": (
        Broken(lambda t, env: t.replace(reward=t.reward.astype(jnp.int32))),
        "reward is int32; allowed: a float",
    ),
    "reward of each agent": (
        Broken(lambda t, env: t.replace(reward=jnp.zeros(2))),
        "reward of environment Broken has shape (2,); allowed: ()",
    ),
    "mask that forbids everything": (
        Forbids(),
        "action_mask forbids every action of an agent at step",
    ),
    "never last": (
        Broken(never_last),
        "time_limit is 8, but an episode of that many steps has no last step",
    ),
    "discount never ends": (
        Broken(lambda t, env: t.replace(discount=jnp.float32(1))),
        "discount never ends: it is 1 at every end, also before time_limit",
    ),
    "discount 0 before the end": (
        Broken(lambda t, env: t.replace(discount=jnp.float32(0))),
        "discount is 0 at a step that is not the last: its future would be cut off",
    ),
    "discount above 1": (
        Broken(lambda t, env: t.replace(discount=2 * t.discount)),
        "discount is 0 to 2; allowed: 0 to 1",
    ),
    "not a number": (
        Broken(lambda t, env: t.replace(reward=jnp.float32(np.nan))),
        "views, states, rewards, discounts or extras are not finite",
    ),
    "discount not a number": (
        Broken(lambda t, env: t.replace(discount=jnp.float32(np.nan))),
        "views, states, rewards, discounts or extras are not finite",
    ),
    "first view not a number": (
        FloatView(),
        "views, states, rewards, discounts or extras are not finite",
    ),
    "a state of cells": (
        Broken(observation(global_state=lambda x: -11 * x)),
        "global_state has a feature of 11 in random play: QMIX's first values grow with it; allow",
    ),
    "no action at the end": (StuckAtTheEnd(), "action_mask forbids every action of an agent at"),
    "impure step": (ImpureStep(), "step is not pure: called twice with the same arguments"),
    "scalar state": (ScalarState(), "global_state of environment ScalarState has shape (); allow"),
    "float limit": (FloatLimit(), "time_limit of environment FloatLimit is 8.0; allowed: a whole"),
    "impure": (Impure(), "reset is not pure: called twice with the same arguments"),
    "no time limit": (NoTimeLimit(), "environment NoTimeLimit has no time_limit"),
    "raises": (Raises(), "reset and step cannot be traced: RuntimeError: not today"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_in_a_line(case):
    env, message = CASES[case]
    (line,) = check_env(env, num_episodes=8)
    assert line.startswith(message)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_episodes": 0}, "num_episodes is 0; allowed: a whole number from 1 on"),
        ({"seed": -1}, "seed is -1; allowed: a whole number from 0"),
        ({"seed": 2**31}, "seed is 2147483648; allowed: a whole number from 0"),
    ],
)
def test_arguments_that_cannot_be_are_not_the_environments_fault(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_env(MStepMatrixGame(m=1), **arguments)
