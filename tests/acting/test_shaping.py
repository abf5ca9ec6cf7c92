"""Shaped rewards: in what training learns from, with a weight that falls; in no test return."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.types import StepType, TimeStep
from small_experiments import small_config, train_run

from maven_jax import check_env
from maven_jax.acting.shaping import ShapedEnv
from maven_jax.config import Hyperparameters, override
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters.types import Observation
from maven_jax.errors import ConfigError
from maven_jax.experiments.grid import Part, make_lanes
from maven_jax.experiments.plan import Plan, train_plan
from maven_jax.training.rounds import collect, make_parts
from maven_jax.training.train import make_trainer


class Hints:
    """Pays 1 where both agents choose 1; the shaped reward is 3 for each that does."""

    num_agents, num_actions, time_limit = 2, 2, 4

    def reset(self, key):
        state = jnp.int32(0), jnp.float32(0)
        return state, self._timestep(state, StepType.FIRST, 0.0)

    def step(self, state, action):
        state = state[0] + 1, state[1] + 3.0 * action.sum()
        kind = jnp.where(state[0] >= self.time_limit, StepType.LAST, StepType.MID)
        return state, self._timestep(state, kind, action.all())

    def _timestep(self, state, kind, reward):
        count, shaped = state
        view = jnp.full((2, 1), count, jnp.float32)
        return TimeStep(
            step_type=jnp.asarray(kind),
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.float32(1),
            observation=Observation(view, jnp.ones((2, 2), bool), view[0]),
            extras={"shaped_return": shaped},
        )


ENV = Hints()
NUMBERS: Hyperparameters = jax.tree.map(jnp.float32, Hyperparameters(epsilon_finish=1.0))
ONE_EPISODE = small_config("qmix", num_envs=4)
ROWS = small_config("qmix", num_envs=4, row_slots=13, total_env_steps=600)


@functools.cache
def program(config):
    """From hyperparameters and environment steps to what a round stores, and its metrics."""
    state = jax.jit(make_trainer(config, ENV).init)(jax.random.key(0), NUMBERS)
    parts = make_parts(config, ENV)

    def play(numbers, env_steps):
        return collect(parts, state._replace(env_steps=env_steps), jax.random.key(1), numbers)

    return jax.jit(play)


@pytest.mark.slow
@pytest.mark.parametrize("config", [ONE_EPISODE, ROWS], ids=["episodes", "rows"])
@pytest.mark.parametrize(
    ("weight", "steps", "env_steps", "expected"),
    [(0.5, 0, 700, 0.5), (2, 400, 0, 2), (2, 400, 100, 1.5), (2, 400, 400, 0), (2, 400, 900, 0)],
)
def test_the_weight_of_shaped_rewards_falls_to_0(config, weight, steps, env_steps, expected):
    numbers = NUMBERS._replace(
        shaping_weight=jnp.float32(weight),
        shaping_steps=jnp.float32(steps),
        reward_scale=jnp.float32(10),
    )
    collected, metrics = program(config)(numbers, jnp.int32(env_steps))
    actions, mask = (np.asarray(getattr(collected.episodes, x)) for x in ("actions", "mask"))
    rewards = mask * (actions.all(-1) + expected * 3.0 * actions.sum(-1))
    assert actions[mask].any()
    np.testing.assert_allclose(collected.episodes.reward, 10 * rewards, rtol=1e-6)
    if config is ONE_EPISODE:
        np.testing.assert_allclose(metrics["train_return"], rewards.sum(0).mean(), rtol=1e-6)


def test_weights_may_be_an_axis_of_vmap():
    """As in the program of a sweep."""
    weights = jnp.array([0.0, 1.0, 2.0])
    numbers = NUMBERS._replace(shaping_weight=weights)
    axes = jax.tree.map(lambda _: None, NUMBERS)._replace(shaping_weight=0)
    collected, _ = jax.vmap(program(ONE_EPISODE), (axes, None))(numbers, jnp.int32(0))
    episodes = collected.episodes
    actions = np.asarray(episodes.actions)
    shaped = 3.0 * actions.sum(-1) * weights[:, None, None]
    np.testing.assert_allclose(episodes.reward, actions.all(-1) + shaped, rtol=1e-6)


def test_test_episodes_return_the_reward_alone():
    """An evaluation within training. Both agents act alike, so an episode pays 0 to 4.

    Each payment comes with 6 of the shaped reward, of which training sees twice as much.
    """
    numbers = NUMBERS._replace(shaping_weight=jnp.float32(2))
    trainer = make_trainer(ONE_EPISODE, ENV)
    state = jax.jit(trainer.init)(jax.random.key(0), numbers)
    _, metrics = jax.jit(trainer.chunk)(state, numbers)
    assert metrics["train_return"] > 4
    assert metrics["return"] <= 4
    assert metrics["extras/shaped_return"] >= 6 * metrics["return"]


class Bare(NamedTuple):
    """A timestep that is no chex dataclass."""

    step_type: jax.Array
    reward: jax.Array
    discount: jax.Array
    observation: Observation
    extras: dict


class BareHints(Hints):
    def _timestep(self, state, kind, reward):
        return Bare(**vars(super()._timestep(state, kind, reward)))


def test_timesteps_may_be_named_tuples():
    for env in (ENV, BareHints()):
        training_env = ShapedEnv(env, jnp.float32(2))
        state, _ = training_env.reset(jax.random.key(0))
        _, timestep = training_env.step(state, jnp.ones(2, jnp.int32))
        assert timestep.reward == 1 + 2 * 6


def test_a_weight_of_what_is_not_reported_is_refused(tmp_path):
    config, silent = small_config("qmix"), MStepMatrixGame(m=3)
    shaping = override(config, {"hyperparameters": {"shaping_weight": 1.0}})
    lanes = make_lanes(config.hyperparameters, [0], {"shaping_weight": [0.0, 1.0]})
    plan = Plan(tuple(Part(name, config, lanes, {}) for name in ("a", "b")))
    make_trainer(shaping, ENV)
    for refused in (
        lambda: make_trainer(shaping, silent),
        lambda: train_run(config, silent, tmp_path / "run", lanes),
        lambda: train_plan(plan, tmp_path / "sweep", None, lambda _: silent),
    ):
        with pytest.raises(ConfigError) as error:
            refused()
        assert str(error.value).endswith(
            "hyperparameters.shaping_weight is 1.0; allowed: 0, since MStepMatrixGame reports no "
            "shaped_return in its extras"
        )
    assert not list(tmp_path.iterdir())


def test_an_environment_that_reports_shaped_rewards_is_sound():
    assert check_env(ENV, num_episodes=2) == []
