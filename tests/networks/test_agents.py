from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params

from maven_jax.errors import ConfigError
from maven_jax.networks.agents import LatentHead, RecurrentAgent, agent_inputs, episode_inputs
from maven_jax.networks.layers import fresh_params
from maven_jax.types import EnvSpec

SPEC = EnvSpec(num_agents=2, num_actions=3, view_size=4, state_size=5, time_limit=6)
AGENTS, ACTIONS = SPEC.num_agents, SPEC.num_actions
LATENT_SIZE, HIDDEN, TIME, BATCH = 3, 8, 5, 4
LATENTS = np.eye(LATENT_SIZE, dtype=np.float32)[[0, 2, 1, 2]]


class Compiled:
    """An agent, random weights of it, and its two ways to utilities."""

    def __init__(self, **attributes):
        self.agent = RecurrentAgent(HIDDEN, ACTIONS, **attributes)
        self.params = random_params(lambda key: self.agent.init_params(key, SPEC, LATENT_SIZE))
        self._step = jax.jit(self.agent.apply)
        self._unroll = jax.jit(partial(self.agent.apply, method="unroll"))

    def step(self, *args):
        return jax.device_get(self._step(self.params, *args))

    def unroll(self, inputs, latents=LATENTS, params=None):
        return jax.device_get(self._unroll(params or self.params, inputs, latents))


compiled = cache(Compiled)
of_every_head = pytest.mark.parametrize("head", [None, "additive", "residual", "paired"])


@pytest.fixture(scope="module")
def inputs():
    """Inputs `T B N I` of random episodes."""
    random = np.random.default_rng(0)
    views = random.normal(size=(TIME + 1, BATCH, AGENTS, SPEC.view_size))
    actions = random.integers(ACTIONS, size=(TIME, BATCH, AGENTS))
    return episode_inputs(jnp.float32(views), jnp.int32(actions), ACTIONS)


def test_inputs_by_hand():
    views = jnp.array([[7.0, 8.0], [9.0, 6.0]])
    last_action = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    expected = [[7, 8, 0, 0, 1, 1, 0], [9, 6, 1, 0, 0, 0, 1]]
    np.testing.assert_array_equal(agent_inputs(views, last_action), expected)
    views, actions = jnp.arange(6.0).reshape(3, 1, 2, 1), jnp.array([[[1, 0]], [[0, 1]]])
    expected = [
        [[0, 0, 0, 1, 0], [1, 0, 0, 0, 1]],
        [[2, 0, 1, 1, 0], [3, 1, 0, 0, 1]],
        [[4, 1, 0, 1, 0], [5, 0, 1, 0, 1]],
    ]
    np.testing.assert_array_equal(episode_inputs(views, actions, 2)[:, 0], expected)


@of_every_head
def test_unroll_agrees_with_stepping(head, inputs):
    agent = compiled(latent_head=head)
    q_values = agent.unroll(inputs)
    assert q_values.shape == (TIME + 1, BATCH, AGENTS, ACTIONS)
    carry = agent.agent.initial_carry(BATCH, AGENTS)
    np.testing.assert_array_equal(carry, np.zeros((BATCH, AGENTS, HIDDEN)))
    for t, now in enumerate(inputs):
        carry, stepped = agent.step(carry, now, LATENTS)
        np.testing.assert_allclose(q_values[t], stepped, rtol=1e-5, atol=1e-6)
    of_every_slot = agent.unroll(inputs, np.tile(LATENTS, (TIME + 1, 1, 1)))
    np.testing.assert_allclose(of_every_slot, q_values, rtol=1e-5, atol=1e-5)


@of_every_head
def test_what_utilities_depend_on(head, inputs):
    """The past and not the future, and the z of the own episode, where it is read at all."""
    unroll = compiled(latent_head=head).unroll
    q_values = unroll(inputs)
    changed = unroll(inputs.at[2, 1].add(3.0)) != q_values
    assert changed[2:, 1].all()
    assert not changed[:2].any()
    assert not changed[:, [0, 2, 3]].any()
    of_other_z = (unroll(inputs, LATENTS[[0, 0, 2, 3]]) != q_values).any(axis=(0, 2, 3))
    np.testing.assert_array_equal(of_other_z, [False, head is not None, False, False])


def test_agents_share_weights_and_differ_by_their_id_alone(inputs):
    unroll, views = compiled().unroll, jnp.ones((TIME + 1, BATCH, AGENTS, SPEC.view_size))
    swapped = unroll(inputs[:, :, ::-1])[:, :, ::-1]
    np.testing.assert_allclose(swapped, unroll(inputs), rtol=1e-5, atol=1e-6)
    alike = unroll(episode_inputs(views, jnp.zeros((TIME, BATCH, AGENTS), jnp.int32), ACTIONS))
    assert (alike[:, :, 0] != alike[:, :, 1]).all()


@of_every_head
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_heads_by_hand(head, scale, inputs):
    """W(z, id) is a layer for each pair, or a sum of layers of z, of the id and a bias; beside a
    shared layer it has the factor sqrt(5 / 24), of 5 entries of z and id and 8 of the hidden state.
    """
    agent = compiled(latent_head=head, latent_head_scale=scale)
    carry = np.random.default_rng(1).uniform(-1, 1, (BATCH, AGENTS, HIDDEN)).astype(np.float32)
    hidden, q_values = agent.step(carry, inputs[0], LATENTS)
    layers = agent.params["params"]["head"]
    expected = np.zeros((BATCH, AGENTS, ACTIONS))
    if head in (None, "residual"):
        expected += hidden @ layers["utilities"]["kernel"] + layers["utilities"]["bias"]
    if head is not None:
        kernel = layers["hypernetwork"]["kernel"].reshape(-1, ACTIONS, HIDDEN)
        bias = layers["hypernetwork"].get("bias", np.zeros(ACTIONS * HIDDEN))
        assert bias.any() == (head != "paired")
        for b, z in enumerate(LATENTS.argmax(-1)):
            for i in range(AGENTS):
                summed = kernel[z] + kernel[i + LATENT_SIZE] + bias.reshape(ACTIONS, HIDDEN)
                weights = kernel[LATENT_SIZE * i + z] if head == "paired" else summed
                factor = scale * (5 / 24) ** 0.5 if head == "residual" else scale
                expected[b, i] += factor * weights @ hidden[b, i]
    np.testing.assert_allclose(q_values, expected, rtol=1e-5, atol=1e-5)
    if head in ("additive", "paired"):
        _, unscaled = compiled(latent_head=head).step(carry, inputs[0], LATENTS)
        np.testing.assert_allclose(q_values, scale * unscaled, rtol=1e-6)


def test_a_kind_of_head_that_is_not_there_is_refused():
    head = LatentHead(ACTIONS, HIDDEN, "wide")
    with pytest.raises(ConfigError, match="unknown latent head 'wide'; allowed: additive, paired"):
        head.init(jax.random.key(0), jnp.zeros((1, 2, HIDDEN)), jnp.zeros((1, LATENT_SIZE)))


def test_the_fresh_weights_of_a_residual_heads_layers_are_of_one_size():
    """A bound of four standard errors of a variance, of 4,096 weights for each z and agent."""
    head = LatentHead(num_actions=64, hidden_size=64, kind="residual")
    params = fresh_params(head, jax.random.key(0), jnp.zeros((1, 2, 64)), jnp.zeros((1, 8)))
    weights = head.apply(params, jnp.eye(8), 2, method="weights")
    assert weights.shape == (8, 2, 64, 64)
    of_shared = params["params"]["utilities"]["kernel"].var()
    np.testing.assert_allclose(weights.var((2, 3)).mean(), of_shared, rtol=4 * 4096**-0.5)


def test_further_layers_stand_between_the_first_and_the_gru(inputs):
    """With the identity and no bias they change nothing, as what they read is not negative."""
    deep, plain = compiled(hidden_layers=3), compiled()
    weights = deep.params["params"]
    further = weights.keys() - plain.params["params"].keys()
    assert further == {"further_layers_0", "further_layers_1"}
    identity = {"kernel": jnp.eye(HIDDEN), "bias": jnp.zeros(HIDDEN)}
    shared = {name: weights[name] for name in plain.params["params"]}
    expected = plain.unroll(inputs, params={"params": shared})
    unchanged = deep.unroll(inputs, params={"params": weights | dict.fromkeys(further, identity)})
    np.testing.assert_allclose(unchanged, expected, atol=1e-5)
    assert not np.allclose(deep.unroll(inputs), expected, atol=0.01)


def test_a_normalised_first_layer_has_no_scale(inputs):
    """Ten times that layer's weights, or its bias moved in all units alike, changes nothing."""
    agent = compiled(layer_norm=True)
    layer = agent.params["params"]["input_layer"]
    changed = {"kernel": 10 * layer["kernel"], "bias": 10 * layer["bias"] + 3.0}
    changed = {"params": agent.params["params"] | {"input_layer": changed}}
    q_values = agent.unroll(inputs)
    found = agent.unroll(inputs, params=changed)
    np.testing.assert_allclose(found, q_values, rtol=1e-3, atol=1e-4)
    without = compiled().unroll(inputs, params=agent.params)
    assert not np.allclose(without, q_values, atol=0.01)
