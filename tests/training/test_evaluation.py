"""Evaluation of hand-made weights whose every z plays a known joint action."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jumanji.types import restart, termination, transition
from small_envs import Sides

from maven_jax.acting.rollout import env_spec
from maven_jax.algorithms.table import Algorithm, make_algorithm
from maven_jax.config import Config, from_dict
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters.types import Observation
from maven_jax.training.evaluation import evaluate, latent_behaviour
from maven_jax.types import NetworkParams, Params

HIDDEN, ACTIONS, LATENTS = 2, 2, 3
PROBS = np.array([0.5, 0.25, 0.25])


def hand_made_agent(view_size, preferences=None):
    """The hidden state is 1 whatever is seen; utilities depend on z, and on the agent if z = 2.

    z = 0 plays (0, 0) and z = 1 plays (1, 1) throughout, z = 2 plays (0, 1).
    """
    inputs = view_size + ACTIONS + 2
    gates = np.concatenate([np.zeros(HIDDEN), np.full(HIDDEN, -50.0), np.full(HIDDEN, 50.0)])
    if preferences is None:  # of z, then of the agent
        preferences = np.array([[1, 0], [0, 1], [0, 0], [0.1, 0], [0, 0.1]])
    return {
        "params": {
            "input_layer": {"kernel": np.zeros((inputs, HIDDEN)), "bias": np.zeros(HIDDEN)},
            "gru": {
                "input_kernel": np.zeros((HIDDEN, 3 * HIDDEN)),
                "input_bias": gates,
                "hidden_kernel": np.zeros((HIDDEN, 3 * HIDDEN)),
                "hidden_bias": np.zeros(3 * HIDDEN),
            },
            "head": {
                "hypernetwork": {
                    "kernel": np.repeat(preferences, HIDDEN, axis=1),
                    "bias": np.zeros(ACTIONS * HIDDEN),
                }
            },
        }
    }


class Made(NamedTuple):
    """Hand-made weights and what they belong to."""

    config: Config
    env: MStepMatrixGame
    algorithm: Algorithm
    params: Params
    latent_params: NetworkParams


@pytest.fixture(scope="module", params=["recurrent", "feed_forward"])
def made(request):
    config = from_dict(
        {
            "network": {"hidden_size": HIDDEN},
            "latent": {"size": LATENTS, "hidden_size": 2},
            "discriminator": {"kind": request.param, "hidden_size": 4, "recurrent_size": 4},
            "evaluation": {"episodes": 400, "episodes_per_latent": 2},
        }
    )
    env = MStepMatrixGame(m=2)
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    params = Params(
        agent=jax.tree.map(jnp.float32, hand_made_agent(spec.view_size)),
        mixer={},
        discriminator=algorithm.discriminator.init_params(jax.random.key(1), spec, LATENTS),
    )
    latent_params = jax.tree.map(
        jnp.zeros_like, algorithm.latent.init_params(jax.random.key(2), spec.state_size)
    )
    latent_params["params"]["output"]["bias"] = jnp.log(jnp.float32(PROBS))
    return Made(config, env, algorithm, params, latent_params)


@pytest.fixture(scope="module")
def metrics(made):
    parts = {"env": made.env, "algorithm": made.algorithm, "config": made.config}
    run = jax.jit(partial(evaluate, **parts))
    return run(made.params, made.latent_params, jax.random.key(0), 1.0)


def test_what_each_z_does(made):
    """z 0 plays (0, 0), z 1 plays (1, 1), z 2 plays (0, 1), which ends at once."""
    parts = {"env": made.env, "algorithm": made.algorithm, "config": made.config}
    run = jax.jit(partial(latent_behaviour, **parts, episodes=3))
    seen = run(made.params, made.latent_params, jax.random.key(0))
    np.testing.assert_allclose(seen.probs, PROBS, rtol=1e-5)
    np.testing.assert_array_equal(seen.returns, [2.0, 2.0, 0.0])
    plays = [[[1, 0], [1, 0]], [[0, 1], [0, 1]], [[1, 0], [0, 1]]]
    np.testing.assert_array_equal(seen.action_share, plays)


def test_z_is_drawn_from_the_latent_policy_and_each_has_its_return(metrics):
    """400 episodes: a share is within four standard deviations, 0.1, of its probability."""
    np.testing.assert_array_equal(metrics["return_z"], [2.0, 2.0, 0.0])
    np.testing.assert_allclose(metrics["return_uniform"], 4 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["latent_probs"], PROBS, rtol=1e-5)
    np.testing.assert_allclose(metrics["extras/branch_0"], PROBS[0], atol=0.1)
    np.testing.assert_allclose(metrics["extras/branch_3"], PROBS[1], atol=0.1)
    shares = metrics["extras/branch_0"] + metrics["extras/branch_3"]
    np.testing.assert_allclose(metrics["return"], 2 * shares, rtol=1e-5)


def test_information_is_the_entropy_where_every_z_acts_on_its_own(metrics):
    entropy = -(PROBS * np.log(PROBS)).sum()
    np.testing.assert_allclose(metrics["latent_entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["action_information"], entropy, rtol=1e-5)
    assert np.isfinite(metrics["mi_bound_test"])
    assert metrics["mi_bound_test"] < entropy - 0.1, "the discriminator is untrained"


class Noise:
    """Every view and every reward is drawn anew, at the start and at each step."""

    num_agents, num_actions, time_limit = 2, 2, 3

    def observe(self, key):
        view = jax.random.normal(key, (2, 3))
        return Observation(view, jnp.ones((2, 2), bool), view.ravel())

    def reset(self, key):
        return (key, jnp.int32(0)), restart(self.observe(key), extras={})

    def step(self, state, action):
        key, step = jax.random.split(state[0])[0], state[1] + 1
        reward, seen = jax.random.normal(key) + action.sum(), self.observe(key)
        timestep = jax.lax.cond(
            step == self.time_limit,
            lambda: termination(reward, seen, extras={}),
            lambda: transition(reward, seen, extras={}),
        )
        return (key, step), timestep


@pytest.fixture(
    scope="module",
    params=[("recurrent", "greedy_actions"), ("feed_forward", "taken_actions")],
    ids=str,
)
def noisy(request):
    """Metrics of 8 draws of large weights, whose q_v was fitted to the very episodes tested.

    First of agents that read z, then of agents that do not.
    """
    kind, reads = request.param
    config = from_dict(
        {
            "network": {"hidden_size": 4},
            "latent": {"size": 8, "hidden_size": 4},
            "discriminator": {"kind": kind, "reads": reads, "hidden_size": 4, "recurrent_size": 4},
            "evaluation": {"episodes": 2, "episodes_per_latent": 4},
        }
    )
    env = Noise()
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    optimizer = optax.adam(0.05)

    @jax.jit
    @jax.vmap
    def run(key, reads_latent):
        agent_key, discriminator_key, latent_key, play_key = jax.random.split(key, 4)
        agent = algorithm.agent.init_params(agent_key, spec, 8)
        head = agent["params"]["head"]["hypernetwork"]
        head["kernel"] = head["kernel"].at[:8].mul(10 * reads_latent)
        discriminator = algorithm.discriminator.init_params(discriminator_key, spec, 8)
        latent_params = algorithm.latent.init_params(latent_key, spec.state_size)
        latent_params = jax.tree.map(lambda x: 3 * x, latent_params)

        def test(discriminator):
            params = Params(agent, {}, discriminator)
            return evaluate(params, latent_params, play_key, 1.0, env, algorithm, config)

        def ascend(carry, _):
            discriminator, opt_state = carry
            gradient = jax.grad(lambda d: -test(d)["mi_bound_test"])(discriminator)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(discriminator, updates), opt_state), None

        carry = discriminator, optimizer.init(discriminator)
        return test(jax.lax.scan(ascend, carry, length=200)[0][0])

    keys = jax.random.split(jax.random.key(0), 8)
    return run(keys, jnp.ones(8)), run(keys, jnp.zeros(8))


@pytest.mark.slow
def test_random_starts_tell_nothing_of_z(noisy):
    """Each of the 4 starts is played with all 8 z, and where z does nothing they play alike."""
    _, deaf = noisy
    np.testing.assert_allclose(deaf["action_information"], 0, atol=1e-6)
    np.testing.assert_array_equal(deaf["return_z"], deaf["return_z"][:, :1].repeat(8, 1))


def test_the_bound_never_exceeds_the_information_of_actions_that_it_reads(noisy):
    for metrics in noisy:
        assert (metrics["mi_bound_test"] <= metrics["action_information"] + 1e-5).all()
    information, bound = noisy[0]["action_information"], noisy[0]["mi_bound_test"]
    assert information.mean() > 0.5
    assert (information <= np.log(8) + 1e-5).all()
    assert (bound > information / 2).any(), "q_v has learnt nothing: the bound was never near"


SIDES = Sides()


def zeros_of(init):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(init))


def sided(kind, size, draws=16):
    """What `evaluate` needs of the sided game, every weight 0: utilities do not depend on z."""
    config = from_dict(
        {
            "network": {"hidden_size": HIDDEN},
            "latent": {"kind": kind, "size": size, "hidden_size": 2},
            "discriminator": {"kind": "feed_forward", "hidden_size": 2, "hidden_layers": 1},
            "evaluation": {"episodes": 3, "episodes_per_latent": 4, "latent_draws": draws},
        }
    )
    env = SIDES
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    key = jax.random.key(0)
    params = Params(
        zeros_of(lambda: algorithm.agent.init_params(key, spec, size)),
        {},
        zeros_of(lambda: algorithm.discriminator.init_params(key, spec, size)),
    )
    latent_params = zeros_of(lambda: algorithm.latent.init_params(key, spec.state_size))
    return Made(config, env, algorithm, params, latent_params)


@partial(jax.jit, static_argnames=("env", "algorithm", "config"))
def by_key(params, latent_params, keys, env, algorithm, config):
    parts = env, algorithm, config
    return jax.vmap(lambda key: evaluate(params, latent_params, key, 1.0, *parts))(keys)


def evaluated(made, seeds=20):
    """Metrics by as many keys, a row each."""
    parts = {"env": made.env, "algorithm": made.algorithm, "config": made.config}
    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.device_get(by_key(made.params, made.latent_params, keys, **parts))


def reads_the_side(made, kernel, bias):
    """With the latent policy of a linear function of the side, by its hidden layer of two."""
    layers = made.latent_params["params"]
    layers["hidden_0"]["kernel"] = jnp.eye(2)
    layers["output"] = {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
    return made


def test_draws_of_a_continuous_z_are_of_the_policy_of_their_own_start():
    """z is within 0.1 of 5 on side 0 and of -5 on side 1, and agents play 0 where it is positive.

    So every draw wins from every start, and z tells nothing that the start does not.
    """
    made = reads_the_side(sided("gaussian", 1), [[5, 0], [-5, 0]], [0, -4])
    agent = jax.tree.map(jnp.float32, hand_made_agent(2, np.array([[1, 0], [0, 0], [0, 0]])))
    metrics = evaluated(made._replace(params=made.params._replace(agent=agent)))
    np.testing.assert_array_equal(metrics["return"], np.full(20, 2.0))
    np.testing.assert_array_equal(metrics["return_z"], np.full((20, 16), 2.0))
    np.testing.assert_allclose(metrics["action_information"], 0, atol=1e-6)
    entropy = 0.5 * np.log(2 * np.pi * np.e) - 4
    np.testing.assert_allclose(metrics["latent_entropy"], entropy, rtol=1e-5)
    # q_v is N(0, 1): E[log q_v] is -log(2 pi) / 2 - E[z^2] / 2
    bound = entropy - 0.5 * np.log(2 * np.pi) - 0.5 * (25 + np.exp(-8))
    errors = (metrics["mi_bound_test"] - bound) / metrics["mi_bound_test_error"]
    assert (np.abs(errors) < 6).all()  # Student's t of 15 degrees of freedom: 1 in 40,000
    assert (metrics["mi_bound_test_error"] < 0.3).all()


def test_the_bound_has_no_sampling_error_where_q_is_p():
    """z and q_v are N(0, 1): J_V and I are 0."""
    metrics = evaluated(sided("gaussian", 1))
    for name in ("mi_bound_test", "mi_bound_test_error", "action_information"):
        np.testing.assert_allclose(metrics[name], 0, atol=1e-5)


def test_the_bound_of_a_continuous_z_is_unbiased_and_its_standard_error_is_one():
    """z is logistic, q_v is N(0, 1): J_V is 4 (2 - log(2 pi) / 2 - pi^2 / 6)."""
    metrics = evaluated(sided("logistic", 4), 200)
    bound = 4 * (2 - 0.5 * np.log(2 * np.pi) - np.pi**2 / 6)
    found, deviation = metrics["mi_bound_test"].mean(), metrics["mi_bound_test"].std()
    np.testing.assert_allclose(found, bound, atol=4 * deviation / 200**0.5)
    squared = (metrics["mi_bound_test_error"] ** 2).mean() ** 0.5
    np.testing.assert_allclose(squared, deviation, rtol=0.3)


def test_one_draw_has_no_standard_error():
    metrics = evaluated(sided("gaussian", 1, draws=1))
    assert "mi_bound_test_error" not in metrics
    assert all(np.isfinite(value).all() for value in metrics.values())


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_every_distinct_start_counts_once_in_p_of_z(kind):
    """Three sampled starts and four that each z plays: shares are sevenths.

    z is 0 on side 0 and 1 on side 1; a continuous z has an entropy lower by 7 on side 1.
    """
    if kind == "categorical":
        made = reads_the_side(sided(kind, 3), [[90, 0, 0], [0, 90, 0]], [0, 0, 0])
    else:
        made = reads_the_side(sided(kind, 1), [[0, 0], [0, -7]], [0, 0])
    metrics = evaluated(made)
    if kind == "categorical":
        sides = 7 * metrics["latent_probs"][:, 1]
        shares = np.stack([7 - sides, sides, 0 * sides], axis=-1) / 7
        np.testing.assert_allclose(metrics["latent_probs"], shares, atol=1e-6)
        positive = np.where(shares > 1e-3, shares, 1.0)
        expected = -(positive * np.log(positive)).sum(-1)
        np.testing.assert_allclose(metrics["latent_entropy"], expected, atol=1e-5)
    else:
        sides = 0.5 * np.log(2 * np.pi * np.e) - metrics["latent_entropy"]
    np.testing.assert_allclose(sides, np.round(sides), atol=1e-4)
    assert set(np.round(sides)) - {0, 7}
    sampled = 3 * metrics["extras/side"]
    assert ((sides >= sampled - 1e-4) & (sides <= sampled + 4 + 1e-4)).all()
