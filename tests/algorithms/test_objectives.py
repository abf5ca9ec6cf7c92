"""Objectives on a batch of one step, whose values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params

from maven_jax.algorithms.objectives import (
    Networks,
    mixed_value,
    penalised_q_learning,
    q_learning,
    qtran,
    select,
)
from maven_jax.config import Config, TrainingConfig
from maven_jax.networks.mixers import IndependentMixer, JointCritic, QMixer, SumMixer
from maven_jax.types import EnvSpec, Episodes

SPEC = EnvSpec(num_agents=2, num_actions=2, view_size=1, state_size=1, time_limit=1)
CONFIG = Config()
HYPERPARAMETERS = jax.tree.map(jnp.float32, CONFIG.hyperparameters._replace(gamma=0.5))

BATCH = Episodes(
    agents_view=jnp.ones((2, 1, 2, 1)),
    action_mask=jnp.ones((2, 1, 2, 2), bool),
    global_state=jnp.ones((2, 1, 1)),
    actions=jnp.array([[[1, 0]]]),
    reward=jnp.array([[10.0]]),
    discount=jnp.ones((1, 1)),
    mask=jnp.ones((1, 1), bool),
    latent=jnp.zeros((1, 0)),
)
Q_VALUES = jnp.array([[[[1.0, 3.0], [2.0, -1.0]]], [[[5.0, 4.0], [0.0, 1.0]]]])
TARGET_Q_VALUES = jnp.array([[[[0.0, 0.0], [0.0, 0.0]]], [[[6.0, 8.0], [3.0, 2.0]]]])
ONLINE, TARGET = Networks(Q_VALUES, {}), Networks(TARGET_Q_VALUES, {})


def test_select(variant):
    selected = variant(select)(Q_VALUES[0, 0], jnp.array([1, 0]))
    np.testing.assert_array_equal(selected, [3.0, 2.0])


@pytest.mark.parametrize(
    ("mixer", "double_q", "expected"),
    [
        # Next actions (0, 1) by the online utilities, worth 6 and 2; by the target's (1, 0): 8, 3.
        (SumMixer(), True, (3 + 2 - (10 + 0.5 * (6 + 2))) ** 2),
        (SumMixer(), False, (3 + 2 - (10 + 0.5 * (8 + 3))) ** 2),
        (IndependentMixer(), True, ((3 - 13) ** 2 + (2 - 11) ** 2) / 2),
        (IndependentMixer(), False, ((3 - 14) ** 2 + (2 - 11.5) ** 2) / 2),
    ],
)
def test_vdn_and_iql_by_hand(variant, mixer, double_q, expected):
    config = Config(training=TrainingConfig(double_q=double_q))

    def loss(reward):
        return q_learning.loss(mixer, ONLINE, TARGET, reward, BATCH, HYPERPARAMETERS, config)[0]

    np.testing.assert_allclose(variant(loss)(BATCH.reward), expected, rtol=1e-6)


def test_values_of_the_actions_taken():
    np.testing.assert_array_equal(mixed_value(SumMixer(), ONLINE, BATCH), [[5.0]])
    np.testing.assert_array_equal(mixed_value(IndependentMixer(), ONLINE, BATCH), [[[3.0, 2.0]]])


@pytest.fixture(scope="module")
def falling():
    """An unconstrained mixer whose Q_tot falls at rate 2 in agent 0's utility, and rises in 1's."""
    mixer = QMixer(1, monotonic=False)
    params = random_params(lambda key: mixer.init_params(key, SPEC, 0))
    params = jax.tree.map(jnp.zeros_like, params)
    # w_1 = [-2, 0.5], w_final = 1, b_1 = 100, so that the ELU is the identity.
    params["params"]["hyper"]["bias"] = jnp.array([-2.0, 0.5, 1.0, 100.0, 0.0])
    return mixer, params


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_the_penalty_is_the_mean_fall(falling, weight):
    mixer, params = falling
    hyperparameters = HYPERPARAMETERS._replace(monotonicity_weight=weight)
    networks = Networks(Q_VALUES, params), Networks(TARGET_Q_VALUES, params)
    penalised, metrics = penalised_q_learning.loss(
        mixer, *networks, BATCH.reward, BATCH, hyperparameters, CONFIG
    )
    np.testing.assert_allclose(metrics["monotonicity_penalty"], 1.0)  # (2 + 0) / 2
    # Q_tot = -2 * 3 + 0.5 * 2 + 100, and at the next step -2 * 6 + 0.5 * 2 + 100
    np.testing.assert_allclose(penalised, (95 - (10 + 0.5 * 89)) ** 2 + weight, rtol=1e-6)


def test_the_penalty_descends_to_a_monotonic_mixer(falling):
    mixer, params = falling
    hyperparameters = HYPERPARAMETERS._replace(monotonicity_weight=1e3)

    def penalty(params):
        networks = Networks(Q_VALUES, params)
        return penalised_q_learning.loss(
            mixer, networks, networks, BATCH.reward, BATCH, hyperparameters, CONFIG
        )

    step = jax.jit(jax.value_and_grad(penalty, has_aux=True))
    first = step(params)[0][1]["monotonicity_penalty"]
    for _ in range(30):
        (_, metrics), grads = step(params)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        params = jax.tree.map(lambda p, g, n=norm: p - 0.05 * g / n, params, grads)
    assert metrics["monotonicity_penalty"] < 0.5 * first


@pytest.fixture(scope="module")
def critic():
    critic = JointCritic(4, SPEC.num_actions)
    return critic, random_params(lambda key: critic.init_params(key, SPEC, 0))


def test_qtran_is_the_sum_of_its_terms(critic):
    """Of a critic whose rows are 4 and 7 whatever it reads, and whose value is 0.5."""
    critic, params = critic
    params = jax.tree.map(jnp.zeros_like, params)
    params["params"]["q"]["bias"] = jnp.array([4.0, 7.0])
    params["params"]["value"]["bias"] = jnp.array([0.5])
    networks = Networks(Q_VALUES, params), Networks(TARGET_Q_VALUES, params)

    def loss(optimum, nonoptimum):
        weights = {"optimum_weight": optimum, "nonoptimum_weight": nonoptimum}
        numbers = HYPERPARAMETERS._replace(**weights)
        return qtran.loss(critic, *networks, BATCH.reward, BATCH, numbers, CONFIG)

    total, metrics = loss(2.0, 0.5)
    # the next actions, (0, 1), are worth 4 to agent 0 and 7 to agent 1
    td_loss = ((7 - (10 + 0.5 * 4)) ** 2 + (4 - (10 + 0.5 * 7)) ** 2) / 2
    optimum_loss, nonoptimum_loss = 1.5**2, (1.5**2 + 4.5**2) / 2
    found = [metrics[name] for name in ("td_loss", "optimum_loss", "nonoptimum_loss")]
    np.testing.assert_allclose(found, [td_loss, optimum_loss, nonoptimum_loss], rtol=1e-6)
    np.testing.assert_allclose(total, td_loss + 2 * optimum_loss + 0.5 * nonoptimum_loss, rtol=1e-6)
    alone, _ = loss(0.0, 0.0)
    np.testing.assert_allclose(alone, td_loss, rtol=1e-6)


def test_qtran_gives_every_agent_its_own_row(critic):
    critic, params = critic
    values = qtran.joint_value(critic, Networks(Q_VALUES, params), BATCH)
    taken = jax.nn.one_hot(BATCH.actions, 2)
    rows = critic.apply(params, taken, jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 0))).q_joint
    np.testing.assert_allclose(values, rows[..., [0, 1], [1, 0]], rtol=1e-6)
