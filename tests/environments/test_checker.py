"""`check_env` names each usual mistake in a line, and is silent about a sound environment."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rendezvous as own
from jumanji.types import StepType
from jumanji.wrappers import AutoResetWrapper

from maven_jax import check_env, from_dict, make_trainer
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.errors import ConfigError


class Changed(own.Rendezvous):
    """The environment, with sizes of its own and changes of its timesteps and states."""

    def __init__(self, everywhere=None, after_step=None, state=lambda state: state, **sizes):
        vars(self).update(sizes)
        self.everywhere, self.after_step = changing(everywhere or {}), changing(after_step or {})
        self.change_state = state

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return self.change_state(state), self.after_step(timestep, state)

    def _timestep(self, state, *args, **kwargs):
        return self.everywhere(super()._timestep(state, *args, **kwargs), state)


def changing(changes):
    """Changes fields of a timestep or of its observation.

    Each is given as its new value, or as a function of the old one, the timestep and the state.
    """

    def change(timestep, state):
        def new(fields, names):
            values = {name: changes[name] for name in names}
            return {
                name: value(getattr(fields, name), timestep, state) if callable(value) else value
                for name, value in values.items()
            }

        seen = timestep.observation
        inner = changes.keys() & set(seen._fields)
        seen = seen._replace(**new(seen, inner))
        return timestep.replace(observation=seen, **new(timestep, changes.keys() - inner))

    return change


def everywhere(**changes):
    """Of the timesteps of `reset` and `step`."""
    return Changed(everywhere=changes)


def after_step(**changes):
    return Changed(after_step=changes)


class BlankView(own.Rendezvous):
    """Shows something between the first view and the last, which are blank."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return state, blank(timestep, timestep.last())

    def reset(self, key):
        state, timestep = super().reset(key)
        return state, blank(timestep, True)


def blank(timestep, when):
    empty = {name: lambda x, *_: x * (1 - when) for name in ("agents_view", "global_state")}
    return changing(empty)(timestep, None)


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
        kind = jnp.where(last, StepType.LAST, StepType.MID)
        return FlagState(~last, count), self._constant(state, kind)

    def _constant(self, state, step_type):
        place = own.State(jnp.array([2, 4]), state.step_count)
        return self._timestep(place, jnp.asarray(step_type), reward=1.0, met=False)


JAX_SIZES = {"num_agents": jnp.int32(2), "num_actions": jnp.int32(3)}
SOUND = {
    "two agents on a line": own.Rendezvous(),
    "m-step matrix game": MStepMatrixGame(m=4),
    "matrix game": MatrixGame("climbing"),
    "NumPy's sizes": Changed(
        num_agents=np.int64(2), num_actions=np.int8(3), time_limit=np.array(8)
    ),
    "JAX's sizes": Changed(**JAX_SIZES, time_limit=jnp.int32(8)),
    "no global state": everywhere(global_state=lambda x, *_: x[:0]),
    "blank at both ends": BlankView(),
    "constant": Constant(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_said_of_a_sound_one(name):
    assert check_env(SOUND[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("row_slots", [0, 64])
def test_sizes_that_are_jax_numbers_train(row_slots):
    """Long enough that test episodes stop early."""
    env = Changed(**JAX_SIZES, time_limit=jnp.int32(24))
    training = {"batch_size": 2, "replay_size": 4, "row_slots": row_slots}
    config = from_dict({"algorithm": "maven", "training": training})
    trainer = make_trainer(config, env)
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    _, metrics = jax.eval_shape(trainer.chunk, state, config.hyperparameters)
    assert metrics["return"].shape == ()


class NoTimeLimit(own.Rendezvous):
    time_limit = property()


class Impure(own.Rendezvous):
    """Counts its calls in Python."""

    calls = 0

    def reset(self, key):
        self.calls += 1
        state, timestep = super().reset(key)
        return state._replace(step_count=jnp.int32(self.calls)), timestep


class PythonNumber(Changed):
    """A count that is a Python number at first."""

    def reset(self, key):
        state, timestep = super().reset(key)
        return state._replace(step_count=0), timestep


def fails(state):
    raise RuntimeError("not today\nor tomorrow")


class StartsAnew(own.Rendezvous):
    """Its last step is already the next episode's first."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        fresh = own.State((state.position * 3 + 1) % own.LENGTH, jnp.int32(0))
        first = self._timestep(fresh, StepType.FIRST, reward=0.0, met=False)
        now, anew = (state, timestep.observation), (fresh, first.observation)
        state, view = jax.tree.map(lambda a, b: jnp.where(timestep.last(), a, b), anew, now)
        return state, timestep.replace(observation=view)


class StartsAnewWhenCut(StartsAnew):
    """But not where agents have met."""

    def step(self, state, action):
        anew = super().step(state, action)
        end = own.Rendezvous.step(self, state, action)
        return jax.tree.map(lambda a, b: jnp.where(end[1].discount == 0, b, a), anew, end)


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


@pytest.mark.parametrize("attribute", ["num_agents", "num_actions", "time_limit"])
@pytest.mark.parametrize(
    "value",
    [0, -1, 3.0, True, "3", None, np.bool_(True), np.float32(3), jnp.array([3, 3])],
    ids=str,
)
def test_sizes_are_whole_numbers(attribute, value):
    (line,) = check_env(Changed(**{attribute: value}))
    assert line.startswith(f"{attribute} of environment Changed is {value!r}; allowed: a whole")
    assert "\n" not in line


RESETS = "state and observation of an episode's last step are those of a new one: it resets"
NOT_FINITE = "views, states, rewards, discounts or extras are not finite"
NAN, ONE = jnp.float32(np.nan), jnp.float32(1)
MISTAKES = [
    (StartsAnew(), RESETS),
    (StartsAnewWhenCut(), RESETS),
    (Counted(StartsAnew()), RESETS),
    (AutoResetWrapper(MStepMatrixGame(m=4)), RESETS),
    (
        Changed(state=lambda s: s._replace(step_count=s.step_count.astype(jnp.float32))),
        "state.step_count is int32[] after reset and float32[] after step",
    ),
    (
        PythonNumber(state=lambda s: s._replace(step_count=jnp.int32(s.step_count))),
        "state.step_count is weakly typed (a Python number) only after",
    ),
    (
        after_step(global_state=lambda x, *_: x[:-1]),
        "observation.global_state is int8[14] after reset and int8[13] after step",
    ),
    (after_step(extras={}), "extras of step has another structure than that of reset"),
    (everywhere(extras={"met": jnp.zeros(2)}), "extras['met'] is float32[2]; allowed: a scalar"),
    (
        everywhere(agents_view=lambda x, *_: x.ravel()),
        "agents_view of environment Changed has shape (14,); allowed: 2 axes",
    ),
    (everywhere(agents_view=lambda x, *_: x > 0), "agents_view is bool; allowed: floats or"),
    (
        everywhere(global_state=lambda x, *_: x.sum()),
        "global_state of environment Changed has shape (); allow",
    ),
    (everywhere(action_mask=lambda x, *_: x.astype(int)), "action_mask is int32; allowed: bool"),
    (after_step(reward=lambda x, *_: x.astype(int)), "reward is int32; allowed: a float"),
    (
        after_step(reward=jnp.zeros(2)),
        "reward of environment Changed has shape (2,); allowed: ()",
    ),
    (  # at the left edge
        everywhere(action_mask=lambda x, _, state: x & (state.position > 0)[:, None]),
        "action_mask forbids every action of an agent at step",
    ),
    (  # in the state that a cut episode is bootstrapped from
        after_step(action_mask=lambda x, timestep, _: x & ~timestep.last()),
        "action_mask forbids every action of an agent at",
    ),
    (
        after_step(step_type=jnp.asarray(StepType.MID), discount=ONE),
        "time_limit is 8, but an episode of that many steps has no last step",
    ),
    (after_step(discount=ONE), "discount never ends: it is 1 at every end, also before time_limit"),
    (
        after_step(discount=0 * ONE),
        "discount is 0 at a step that is not the last: its future would be cut off",
    ),
    (after_step(discount=lambda x, *_: 2 * x), "discount is 0 to 2; allowed: 0 to 1"),
    (after_step(discount=NAN), NOT_FINITE),
    (after_step(reward=NAN), NOT_FINITE),
    (  # in the first view alone
        everywhere(agents_view=lambda x, _, state: jnp.where(state.step_count == 0, NAN, x)),
        NOT_FINITE,
    ),
    (
        after_step(global_state=lambda x, *_: -11 * x),
        "global_state has a feature of 11 in random play: QMIX's first values grow with it; allow",
    ),
    (Impure(), "reset is not pure: called twice with the same arguments"),
    (
        after_step(reward=lambda x, *_: x * np.random.default_rng().random()),
        "step is not pure: called twice with the same arguments",
    ),
    (NoTimeLimit(), "environment NoTimeLimit has no time_limit"),
    (Changed(state=fails), "reset and step cannot be traced: RuntimeError: not today"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("env", "message"), MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_is_named_in_a_line(env, message):
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
