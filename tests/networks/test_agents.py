from functools import partial

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
LATENT_SIZE, HIDDEN, TIME, BATCH = 3, 8, 5, 4


class Compiled:
    """An agent, random weights of it, and its two ways to utilities."""

    def __init__(self, latent_head):
        self.agent = RecurrentAgent(HIDDEN, SPEC.num_actions, latent_head)
        self.params = random_params(lambda key: self.agent.init_params(key, SPEC, LATENT_SIZE))
        self._step = jax.jit(self.agent.apply)
        self._unroll = jax.jit(partial(self.agent.apply, method="unroll"))

    def step(self, *args):
        return jax.device_get(self._step(self.params, *args))

    def unroll(self, *args):
        return jax.device_get(self._unroll(self.params, *args))


@pytest.fixture(scope="module")
def plain():
    return Compiled(latent_head=None)


@pytest.fixture(scope="module")
def with_latent():
    return Compiled(latent_head="additive")


@pytest.fixture(scope="module")
def with_residual():
    return Compiled(latent_head="residual")


@pytest.fixture(params=["plain", "with_latent", "with_residual"])
def compiled(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def inputs():
    """Inputs `T B N I` of random episodes."""
    random = np.random.default_rng(0)
    views = random.normal(size=(TIME + 1, BATCH, SPEC.num_agents, SPEC.view_size))
    actions = random.integers(SPEC.num_actions, size=(TIME, BATCH, SPEC.num_agents))
    return episode_inputs(jnp.float32(views), jnp.int32(actions), SPEC.num_actions)


LATENTS = np.eye(LATENT_SIZE, dtype=np.float32)[[0, 2, 1, 2]]


def test_agent_inputs_by_hand():
    views = jnp.array([[7.0, 8.0], [9.0, 6.0]])
    last_action = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    expected = [[7, 8, 0, 0, 1, 1, 0], [9, 6, 1, 0, 0, 0, 1]]
    np.testing.assert_array_equal(agent_inputs(views, last_action), expected)


def test_episode_inputs_by_hand():
    views = jnp.arange(6.0).reshape(3, 1, 2, 1)
    actions = jnp.array([[[1, 0]], [[0, 1]]])
    expected = [
        [[0, 0, 0, 1, 0], [1, 0, 0, 0, 1]],
        [[2, 0, 1, 1, 0], [3, 1, 0, 0, 1]],
        [[4, 1, 0, 1, 0], [5, 0, 1, 0, 1]],
    ]
    np.testing.assert_array_equal(episode_inputs(views, actions, 2)[:, 0], expected)


def test_unroll_agrees_with_stepping(compiled, inputs):
    q_values = compiled.unroll(inputs, LATENTS)
    assert q_values.shape == (TIME + 1, BATCH, SPEC.num_agents, SPEC.num_actions)
    carry = compiled.agent.initial_carry(BATCH, SPEC.num_agents)
    np.testing.assert_array_equal(carry, np.zeros((BATCH, SPEC.num_agents, HIDDEN)))
    for t, now in enumerate(inputs):
        carry, stepped = compiled.step(carry, now, LATENTS)
        np.testing.assert_allclose(q_values[t], stepped, rtol=1e-5, atol=1e-6)


def test_utilities_depend_on_the_past_and_not_on_the_future(compiled, inputs):
    q_values = compiled.unroll(inputs, LATENTS)
    changed = compiled.unroll(inputs.at[2].add(3.0), LATENTS)
    np.testing.assert_array_equal(changed[:2], q_values[:2])
    assert (changed[2:] != q_values[2:]).all()


def test_plain_head_ignores_the_latent(plain, inputs):
    q_values = plain.unroll(inputs, LATENTS)
    other = plain.unroll(inputs, 1.0 - LATENTS)
    np.testing.assert_array_equal(q_values, other)
    carry, utilities = plain.step(random_carry(), inputs[0], LATENTS)
    weights = plain.params["params"]["head"]["utilities"]
    expected = carry @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(utilities, expected, rtol=1e-5, atol=1e-5)


def random_carry():
    size = BATCH, SPEC.num_agents, HIDDEN
    return np.random.default_rng(1).uniform(-1, 1, size).astype(np.float32)


def test_latent_head_multiplies_the_hidden_state_by_weights_of_z_and_id(with_latent, inputs):
    hidden, q_values = with_latent.step(random_carry(), inputs[0], LATENTS)
    weights = with_latent.params["params"]["head"]["hypernetwork"]
    kernel = weights["kernel"].reshape(-1, SPEC.num_actions, HIDDEN)
    bias = weights["bias"].reshape(SPEC.num_actions, HIDDEN)
    for b, z in enumerate(LATENTS.argmax(-1)):
        for agent in range(SPEC.num_agents):
            weights = kernel[z] + kernel[LATENT_SIZE + agent] + bias
            expected = weights @ hidden[b, agent]
            np.testing.assert_allclose(q_values[b, agent], expected, rtol=1e-5, atol=1e-5)


def test_latent_changes_its_own_episode_alone(with_latent, inputs):
    q_values = with_latent.unroll(inputs, LATENTS)
    other = with_latent.unroll(inputs, LATENTS[[0, 0, 2, 3]])
    np.testing.assert_array_equal((q_values != other).any(axis=(0, 2, 3)), [0, 1, 0, 0])


def test_agents_share_weights(plain, inputs):
    q_values = plain.unroll(inputs, LATENTS)
    swapped = plain.unroll(inputs[:, :, ::-1], LATENTS)
    np.testing.assert_allclose(swapped[:, :, ::-1], q_values, rtol=1e-5, atol=1e-6)


def test_agents_differ_by_their_id_alone(compiled):
    views = jnp.ones((TIME + 1, BATCH, SPEC.num_agents, SPEC.view_size))
    alike = episode_inputs(views, jnp.zeros((TIME, BATCH, SPEC.num_agents), jnp.int32), 3)
    q_values = compiled.unroll(alike, LATENTS)
    assert (q_values[:, :, 0] != q_values[:, :, 1]).all()


def test_permuting_the_episodes_permutes_the_utilities(compiled, inputs):
    order = np.array([2, 0, 3, 1])
    q_values = compiled.unroll(inputs, LATENTS)
    permuted = compiled.unroll(inputs[:, order], LATENTS[order])
    np.testing.assert_allclose(permuted, q_values[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("latent_head", [None, "additive", "residual"])
def test_without_a_latent(latent_head, inputs):
    agent = RecurrentAgent(HIDDEN, SPEC.num_actions, latent_head)

    def unroll(key):
        params = agent.init_params(key, SPEC, 0)
        return agent.apply(params, inputs, jnp.zeros((BATCH, 0)), method="unroll")

    q_values = jax.eval_shape(unroll, jax.random.key(0))
    assert q_values.shape == (TIME + 1, BATCH, SPEC.num_agents, SPEC.num_actions)


def test_paired_head_has_a_layer_for_every_pair_of_z_and_agent():
    head = LatentHead(SPEC.num_actions, HIDDEN, "paired")
    hidden = np.random.default_rng(0).normal(size=(BATCH, SPEC.num_agents, HIDDEN))
    hidden, latents = jnp.float32(hidden), jnp.asarray(LATENTS)
    params = random_params(lambda key: head.init(key, hidden, latents))
    kernel = params["params"]["hypernetwork"]["kernel"]
    kernel = kernel.reshape(SPEC.num_agents, LATENT_SIZE, SPEC.num_actions, HIDDEN)
    q_values = jax.jit(head.apply)(params, hidden, latents)
    for b, z in enumerate(LATENTS.argmax(-1)):
        for agent in range(SPEC.num_agents):
            expected = kernel[agent, z] @ hidden[b, agent]
            np.testing.assert_allclose(q_values[b, agent], expected, rtol=1e-5, atol=1e-5)


def test_residual_head_adds_a_small_layer_of_z_and_id_to_one_that_all_share(with_residual, inputs):
    """Of 5 entries of z and id and 8 of the hidden state, so the factor is sqrt(5 / 24)."""
    hidden, q_values = with_residual.step(random_carry(), inputs[0], LATENTS)
    head = with_residual.params["params"]["head"]
    kernel = head["hypernetwork"]["kernel"].reshape(-1, SPEC.num_actions, HIDDEN)
    bias = head["hypernetwork"]["bias"].reshape(SPEC.num_actions, HIDDEN)
    shared = hidden @ head["utilities"]["kernel"] + head["utilities"]["bias"]
    for b, z in enumerate(LATENTS.argmax(-1)):
        for agent in range(SPEC.num_agents):
            own = (5 / 24) ** 0.5 * (kernel[z] + kernel[LATENT_SIZE + agent] + bias)
            expected = shared[b, agent] + own @ hidden[b, agent]
            np.testing.assert_allclose(q_values[b, agent], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["additive", "paired"])
def test_a_head_s_scale_is_a_factor_on_its_utilities(kind):
    hidden, latents = jnp.asarray(random_carry()), jnp.asarray(LATENTS)
    plain, scaled = (LatentHead(SPEC.num_actions, HIDDEN, kind, scale) for scale in (1.0, 0.25))
    params = random_params(lambda key: plain.init(key, hidden, latents))
    expected = plain.apply(params, hidden, latents) / 4
    np.testing.assert_allclose(scaled.apply(params, hidden, latents), expected, rtol=1e-6)


def test_a_residual_head_s_scale_leaves_alone_what_all_share():
    hidden, latents = jnp.asarray(random_carry()), jnp.asarray(LATENTS)
    whole, half, none = (
        LatentHead(SPEC.num_actions, HIDDEN, "residual", scale) for scale in (1.0, 0.5, 0.0)
    )
    params = random_params(lambda key: whole.init(key, hidden, latents))
    of_all, of_half, shared = (head.apply(params, hidden, latents) for head in (whole, half, none))
    np.testing.assert_allclose(of_half, (of_all + shared) / 2, rtol=1e-5, atol=1e-6)
    layer = params["params"]["utilities"]
    expected = hidden @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(shared, expected, rtol=1e-5, atol=1e-6)


def test_a_kind_of_head_that_is_not_there_is_refused():
    head = LatentHead(SPEC.num_actions, HIDDEN, "wide")
    with pytest.raises(ConfigError, match="unknown latent head 'wide'; allowed: additive, paired"):
        head.init(jax.random.key(0), jnp.zeros((1, 2, HIDDEN)), jnp.zeros((1, LATENT_SIZE)))


def test_the_fresh_weights_of_a_residual_heads_layers_are_of_one_size():
    """A bound of four standard errors of a variance, of 4,096 weights for each z and agent."""
    head = LatentHead(num_actions=64, hidden_size=64, kind="residual")
    inputs = jnp.zeros((1, 2, 64)), jnp.zeros((1, 8))
    params = fresh_params(head, jax.random.key(0), *inputs)
    weights = head.apply(params, jnp.eye(8), 2, method="weights")
    assert weights.shape == (8, 2, 64, 64)
    of_shared = params["params"]["utilities"]["kernel"].var()
    np.testing.assert_allclose(weights.var((2, 3)).mean(), of_shared, rtol=4 * 4096**-0.5)


def test_further_layers_stand_between_the_first_and_the_gru(inputs):
    """With the identity and no bias they change nothing, as what they read is not negative."""
    deep = RecurrentAgent(HIDDEN, SPEC.num_actions, hidden_layers=3)
    plain = RecurrentAgent(HIDDEN, SPEC.num_actions)
    params = random_params(lambda key: deep.init_params(key, SPEC, LATENT_SIZE))["params"]
    further = {"further_layers_0", "further_layers_1"}
    shared = {name: weights for name, weights in params.items() if name not in further}
    assert params.keys() - shared.keys() == further
    identity = {"kernel": jnp.eye(HIDDEN), "bias": jnp.zeros(HIDDEN)}
    latents = jnp.asarray(LATENTS)

    def unroll(agent, weights):
        return jax.jit(partial(agent.apply, method="unroll"))({"params": weights}, inputs, latents)

    expected = unroll(plain, shared)
    np.testing.assert_allclose(
        unroll(deep, shared | dict.fromkeys(further, identity)), expected, atol=1e-5
    )
    assert not np.allclose(unroll(deep, params), expected, atol=0.01)


def test_a_normalised_first_layer_has_no_scale(inputs):
    """Ten times that layer's weights, or its bias moved in all units alike, changes nothing."""
    agent = RecurrentAgent(HIDDEN, SPEC.num_actions, layer_norm=True)
    params = random_params(lambda key: agent.init_params(key, SPEC, LATENT_SIZE))
    weights = params["params"]
    changed = {
        name: 10 * array + 3.0 * (name == "bias") for name, array in weights["input_layer"].items()
    }
    changed = {"params": weights | {"input_layer": changed}}
    unroll = jax.jit(partial(agent.apply, method="unroll"))
    latents = jnp.asarray(LATENTS)
    q_values = unroll(params, inputs, latents)
    np.testing.assert_allclose(unroll(changed, inputs, latents), q_values, rtol=1e-3, atol=1e-4)
    plain = RecurrentAgent(HIDDEN, SPEC.num_actions)
    without = jax.jit(partial(plain.apply, method="unroll"))(params, inputs, latents)
    assert not np.allclose(without, q_values, atol=0.01)
