"""Shaped rewards: in what training learns from, with a weight that falls; in no test return."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments import small_config
from jumanji.types import StepType, TimeStep

from maven_jax import check_env
from maven_jax.config import Hyperparameters
from maven_jax.envs import MStepMatrixGame
from maven_jax.errors import ConfigError
from maven_jax.evaluation import evaluate
from maven_jax.rounds import collect, make_parts
from maven_jax.train import make_trainer


class Observation(NamedTuple):
    agents_view: jax.Array
    action_mask: jax.Array
    global_state: jax.Array


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


def played(config, numbers, env_steps=0):
    """What a round stores, and its metrics, after so many environment steps."""
    state = jax.jit(make_trainer(config, ENV).init)(jax.random.key(0), NUMBERS)
    state = state._replace(env_steps=jnp.int32(env_steps))
    return collect(make_parts(config, ENV), state, jax.random.key(1), numbers)


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
    collected, metrics = jax.jit(lambda numbers: played(config, numbers, env_steps))(numbers)
    actions, mask = (np.asarray(getattr(collected.episodes, x)) for x in ("actions", "mask"))
    rewards = mask * (actions.all(-1) + expected * 3.0 * actions.sum(-1))
    assert actions[mask].any()
    np.testing.assert_allclose(collected.episodes.reward, 10 * rewards, rtol=1e-6)
    if config is ONE_EPISODE:
        np.testing.assert_allclose(metrics["train_return"], rewards.sum(0).mean(), rtol=1e-6)


def test_weights_may_be_an_axis_of_vmap():
    weights = jnp.array([0.0, 1.0, 2.0])
    of_weights = jax.vmap(
        lambda weight: played(ONE_EPISODE, NUMBERS._replace(shaping_weight=weight))[0].episodes
    )(weights)
    actions = np.asarray(of_weights.actions)
    shaped = 3.0 * actions.sum(-1) * weights[:, None, None]
    np.testing.assert_allclose(of_weights.reward, actions.all(-1) + shaped, rtol=1e-6)


def test_test_episodes_return_the_reward_alone():
    """Utilities of a fresh network; both agents act alike, so 4 steps pay 0 or 4."""
    parts = make_parts(ONE_EPISODE, ENV)
    trainer = make_trainer(ONE_EPISODE, ENV)
    for seed in range(4):
        state = trainer.init(jax.random.key(seed), NUMBERS)
        found = evaluate(
            state.params,
            state.latent_params,
            jax.random.key(1),
            NUMBERS.temperature,
            parts.env,
            parts.algorithm,
            ONE_EPISODE,
        )
        assert found["return"] <= 4
        assert found["extras/shaped_return"] >= 6 * found["return"]


def test_a_weight_of_what_is_not_reported_is_refused():
    config = small_config("qmix")
    numbers = config.hyperparameters._replace(shaping_weight=1.0)
    shaping = config.__class__(**{**vars(config), "hyperparameters": numbers})
    message = (
        r"^hyperparameters\.shaping_weight is 1\.0; allowed: 0, since MStepMatrixGame reports no "
        "shaped_return"
    )
    with pytest.raises(ConfigError, match=message):
        make_trainer(shaping, MStepMatrixGame(m=3))
    make_trainer(shaping, ENV)


def test_an_environment_that_reports_shaped_rewards_is_sound():
    assert check_env(ENV, num_episodes=2) == []
