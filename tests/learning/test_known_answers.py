"""Short runs on games whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.types import restart, termination, transition, truncation

from maven_jax.config import from_dict, override
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters.types import Observation
from maven_jax.experiments.sweep import seed_keys
from maven_jax.training.train import make_train

pytestmark = pytest.mark.slow


class ConstantReward:
    """Two agents, whatever they do pays 1 a step; the end, after three steps, is true or a limit.

    Observations do not tell the time.
    """

    num_agents, num_actions, time_limit = 2, 2, 3

    def __init__(self, truly_ends: bool) -> None:
        self.truly_ends = truly_ends

    def observe(self):
        return Observation(jnp.ones((2, 1)), jnp.ones((2, 2), bool), jnp.ones(1))

    def reset(self, key):
        return jnp.int32(0), restart(self.observe(), extras={})

    def step(self, state, action):
        end, paid = termination if self.truly_ends else truncation, (jnp.float32(1), self.observe())
        ended, goes_on = (kind(*paid, extras={}) for kind in (end, transition))
        over = state + 1 == self.time_limit
        return state + 1, jax.tree.map(lambda a, b: jnp.where(over, a, b), ended, goes_on)


class ActionsPay(ConstantReward):
    """A step pays the mean of the actions: at most 1, so at most 3 in all."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return state, timestep.replace(reward=action.mean(dtype=jnp.float32))


class RememberTheCue(ConstantReward):
    """A bit is shown at the first of two steps; at the second both agents must repeat it."""

    time_limit = 2

    def observe_cue(self, cue, step):
        view = jnp.where(step == 0, jax.nn.one_hot(cue, 2), jnp.zeros(2))
        views = jnp.broadcast_to(view, (2, 2))
        return Observation(views, jnp.ones((2, 2), bool), jnp.append(view, step))

    def reset(self, key):
        cue = jax.random.bernoulli(key).astype(jnp.int32)
        return (cue, jnp.int32(0)), restart(self.observe_cue(cue, 0), extras={})

    def step(self, state, action):
        (cue, step), (_, timestep) = state, super().step(state[1], action)
        reward = jnp.where((step == 1) & (action == cue).all(), 1.0, 0.0)
        seen = self.observe_cue(cue, step + 1)
        return (cue, step + 1), timestep.replace(reward=reward, observation=seen)


def train(env, algorithm="qmix", seeds=2, steps=600, hyperparameters=None, **sections):
    """What the run of each seed ended with."""
    small = {
        "algorithm": algorithm,
        "network": {"hidden_size": 16, "mixer_embed_size": 8},
        "latent": {"size": 4, "hidden_size": 16, "updates": 2, "batch_size": 16},
        "training": {
            "total_env_steps": steps,
            "batch_size": 16,
            "target_update_interval": 20,
            "updates_per_evaluation": 50,
        },
        "hyperparameters": {"learning_rate": 2e-3, "epsilon_steps": steps / 2},
    }
    changes = sections | {"hyperparameters": hyperparameters or {}}
    config = override(from_dict(small), changes)
    run = jax.jit(jax.vmap(make_train(config, env), in_axes=(0, None)))
    _, metrics = run(seed_keys(0, seeds), jax.tree.map(jnp.float32, config.hyperparameters))
    return {name: values[:, -1] for name, values in metrics.items()}


@pytest.mark.parametrize(("truly_ends", "value"), [(False, 2.0), (True, np.mean([1.75, 1.5, 1.0]))])
def test_a_time_limit_is_bootstrapped_through_and_a_true_end_is_not(truly_ends, value):
    """With gamma 1/2 and 1 a step for ever, Q is 2; cut after three steps it is 1 + 1/2 + 1/4."""
    metrics = train(ConstantReward(truly_ends), steps=2400, hyperparameters={"gamma": 0.5})
    np.testing.assert_allclose(metrics["q_taken"], value, atol=0.1)


def test_the_recurrent_agent_remembers():
    metrics = train(RememberTheCue(True), steps=2400)
    np.testing.assert_array_equal(metrics["return"], 1.0)


@pytest.mark.parametrize("algorithm", ["qmix", "maven"])
def test_coordination_in_one_step(algorithm):
    metrics = train(MStepMatrixGame(m=1), algorithm)
    np.testing.assert_array_equal(metrics["return"], 1.0)


def test_mutual_information_tells_latents_apart():
    """With a strong bound and no reward at stake, each z settles on a policy of its own."""
    metrics = train(
        ConstantReward(True),
        "maven",
        steps=2400,
        hyperparameters={"mi_weight": 10.0, "epsilon_steps": 1.0},
        latent={"kind": "uniform"},
    )
    ceiling = np.log(4)
    assert (metrics["mi_bound_test"] > 0.8 * ceiling).all()
    assert (metrics["mi_bound_test"] <= ceiling + 1e-5).all()


@pytest.mark.parametrize("kind", ["recurrent", "feed_forward"])
def test_the_auxiliary_reward_tells_latents_apart_and_the_bound_stays_below(kind):
    """q_v reads the actions taken: J_V <= I(z; actions) on these episodes. r_aux sets z apart."""
    metrics = train(
        ConstantReward(True),
        "maven",
        steps=3000,
        hyperparameters={"intrinsic_weight": 2.0, "mi_weight": 1.0, "epsilon_steps": 600.0},
        latent={"kind": "uniform"},
        discriminator={"kind": kind, "reads": "taken_actions", "signal": "reward"},
    )
    assert (metrics["mi_bound_test"] <= metrics["action_information"] + 1e-5).all()
    assert (metrics["action_information"] >= np.log(2) - 1e-4).all()
    assert (metrics["mi_bound_test"] >= 0.3 * np.log(4)).all()


def test_the_bandit_finds_the_latents_that_pay():
    """The bound sets z apart, so some must play what pays less: p(z) leaves those alone."""
    metrics = train(
        ActionsPay(True),
        "maven",
        seeds=4,
        steps=3000,
        hyperparameters={"mi_weight": 10.0, "epsilon_steps": 600.0},
        latent={"kind": "bandit", "bandit_epsilon": 0.5, "bandit_temperature": 0.1},
    )
    of_each, probs = metrics["return_z"], metrics["latent_probs"]
    assert (of_each.min(-1) <= 2.0).sum() >= 2  # of four seeds
    # the estimate of a z lags behind one that has just changed, by some tenths of return
    paying = np.where(of_each >= 2.5, probs, 0.0).sum(-1)
    assert (paying >= 0.85).all()
    assert np.median(paying) >= 0.99
    np.testing.assert_allclose(metrics["return"], 3.0, atol=0.2)
