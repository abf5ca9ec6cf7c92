"""What the recorded cases do not cover: r_aux, and its absence, optimisers, the learning rate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params

from maven_jax.algorithms.table import make_algorithm
from maven_jax.config import Hyperparameters, from_dict, override
from maven_jax.learning import learner
from maven_jax.types import EnvSpec, Episodes, LatentOutcome, Params

SPEC = EnvSpec(num_agents=2, num_actions=3, view_size=4, state_size=5, time_limit=3)
BATCH, LATENTS = 4, 3


def make(fidelity="paper", signal="reward"):
    config = from_dict(
        {
            "fidelity": fidelity,
            "network": {"hidden_size": 4, "mixer_embed_size": 3},
            "latent": {"size": LATENTS, "hidden_size": 4},
            "discriminator": {"kind": "feed_forward", "hidden_size": 4, "signal": signal},
        }
    )
    return config, make_algorithm(config, SPEC)


@pytest.fixture(scope="module")
def batch():
    """Episodes of 3, 3, 2 and 1 steps; the second was cut by the time limit."""
    rng = np.random.default_rng(0)
    mask = np.arange(3)[:, None] < np.array([3, 3, 2, 1])
    discount = np.ones((3, BATCH))
    discount[[2, 1, 0], [0, 2, 3]] = 0
    return Episodes(
        agents_view=jnp.float32(rng.normal(size=(4, BATCH, 2, 4))),
        action_mask=jnp.ones((4, BATCH, 2, 3), bool),
        global_state=jnp.float32(rng.normal(size=(4, BATCH, 5))),
        actions=jnp.int32(rng.integers(0, 3, size=(3, BATCH, 2))),
        reward=jnp.float32(rng.normal(size=(3, BATCH))),
        discount=jnp.float32(discount),
        mask=jnp.asarray(mask),
        latent=jnp.eye(LATENTS)[jnp.array([0, 1, 2, 0])],
    )


@pytest.fixture(scope="module")
def weights():
    _, algorithm = make()
    parts = algorithm.agent, algorithm.mixer, algorithm.discriminator
    params = Params(
        *(random_params(partial(part.init_params, spec=SPEC, latent_size=3)) for part in parts)
    )
    latent_params = random_params(partial(algorithm.latent.init_params, state_size=5))
    return params, latent_params


def metrics_of(config, algorithm, weights, batch, **changes):
    loss = jax.jit(partial(learner.loss, algorithm=algorithm, config=config))
    params, latent_params = weights
    numbers = config.hyperparameters._replace(**changes)
    return loss(params, params, latent_params, batch, numbers)[1]


@pytest.fixture(scope="module")
def known(weights):
    """Weights by which q_v and p(z) are 1/2, 1/4, 1/4 and 0.2, 0.3, 0.5 whatever they read."""
    params, latent_params = jax.tree.map(jnp.zeros_like, weights)
    head = params.discriminator["params"]["head"]["logits"]
    head["bias"] = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    latent_params["params"]["output"]["bias"] = jnp.log(jnp.array([0.2, 0.3, 0.5]))
    return params, latent_params


@pytest.mark.parametrize("fidelity", ["paper", "reference"])
def test_the_auxiliary_reward_reaches_the_target(fidelity, known, batch):
    """Over the nine steps: four of the first z, three of the second, two of the third."""
    loss = partial(metrics_of, *make(fidelity), known, batch)
    without, with_it = loss(intrinsic_weight=0.0), loss(intrinsic_weight=0.5)
    steps, log_q, log_p = np.array([4, 3, 2]), np.log([0.5, 0.25, 0.25]), np.log([0.2, 0.3, 0.5])
    auxiliary = steps @ (-log_q if fidelity == "reference" else log_q - log_p) / 9
    np.testing.assert_allclose(with_it["intrinsic_reward"], auxiliary, rtol=1e-4)
    shift = with_it["q_target"] - without["q_target"]
    np.testing.assert_allclose(shift, 0.5 * auxiliary, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_td_loss_plus_the_weighted_cross_entropy(weights, batch):
    """Where all weights are 0, every value is 0 and q_v is uniform."""
    zeros = jax.tree.map(jnp.zeros_like, weights)
    metrics = metrics_of(*make(signal="gradient"), zeros, batch, mi_weight=0.7)
    expected = (np.square(batch.reward) * batch.mask).sum() / 9 + 0.7 * np.log(3)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("signal", ["gradient", "reward"])
def test_the_bound_reaches_the_utilities_by_its_gradient_only_if_asked_to(signal, weights, batch):
    config, algorithm = make(signal=signal)

    @jax.jit
    def agent_gradient(mi_weight):
        hyperparameters = config.hyperparameters._replace(mi_weight=mi_weight)
        gradient = jax.grad(learner.loss, has_aux=True)(
            weights[0], weights[0], weights[1], batch, hyperparameters, algorithm, config
        )[0]
        return gradient.agent["params"]["input_layer"]["kernel"]

    same = np.allclose(agent_gradient(0.0), agent_gradient(5.0), rtol=1e-4, atol=1e-6)
    assert same == (signal == "reward")


def test_the_latent_policy_moves_towards_what_pays(weights):
    """One z earned more than the others: its probability rises. Entropy alone: H rises."""
    config, algorithm = make()
    latent, (_, params) = algorithm.latent, weights
    state = jnp.ones((3, SPEC.state_size))
    outcomes = LatentOutcome(state, jnp.eye(LATENTS), jnp.array([0.0, 1.0, 0.0]))

    @jax.jit
    def step(batch, entropy_weight):
        hyperparameters = config.hyperparameters._replace(latent_entropy_weight=entropy_weight)
        opt_state = latent.optimizer(hyperparameters).init(params)
        return learner.update_latent(params, opt_state, batch, hyperparameters, latent, config)[0]

    log_prob = jax.jit(lambda params: latent.log_prob(params, state, outcomes.latent)[1])
    paid = step(outcomes, config.hyperparameters.latent_entropy_weight)
    assert log_prob(paid) > log_prob(params)
    entropy = jax.jit(lambda params: latent.entropy(params, state)[0])
    spread = step(outcomes._replace(episode_return=jnp.zeros(3)), 1.0)
    assert entropy(spread) > entropy(params)


@pytest.mark.parametrize(
    ("kind", "first_steps"),
    [
        ("rmsprop", [-0.6 / (0.5 * 0.6 + 0.25), 0.8 / (0.5 * 0.8 + 0.25)]),
        ("adam", [-1, 1]),  # means of one gradient are it and its square
        ("radam", [-0.6, 0.8]),  # not rectified as yet: the mean of the gradient
    ],
)
def test_the_first_step_of_each_optimizer(kind, first_steps, variant):
    """Of a gradient of norm 10, clipped to 1."""
    numbers = {"learning_rate": 0.1, "rms_decay": 0.75, "rms_epsilon": 0.25, "max_grad_norm": 1.0}

    def step(grads):
        optimizer = learner.make_optimizer(kind, Hyperparameters(**numbers))
        return optimizer.update(grads, optimizer.init(grads))[0]

    found = variant(step)(jnp.array([6.0, -8.0]))
    np.testing.assert_allclose(found, 0.1 * np.array(first_steps), rtol=1e-5)


@pytest.mark.parametrize(
    ("duration", "rates"),
    [(0.0, [0.5, 0.5, 0.5, 0.5]), (1000.0, [0.5, 0.375, 0.0, 0.0]), (0.5, [0.5, 0.0, 0.0, 0.0])],
)
def test_the_learning_rate_falls_to_0_where_that_is_asked_for(duration, rates, variant):
    hyperparameters = Hyperparameters(learning_rate=0.5, learning_rate_steps=duration)
    steps = jnp.array([0, 250, 1000, 2000])
    found = [variant(lambda s: learner.step_size(s, hyperparameters))(step) for step in steps]
    np.testing.assert_allclose(found, rates)


@pytest.mark.slow
def test_an_update_takes_the_step_of_the_optimizer_that_is_configured(weights, batch):
    config, algorithm = make()
    config = override(config, {"training": {"optimizer": "adam"}})
    params, latent_params = weights
    numbers = Hyperparameters(learning_rate=0.1)
    optimizer = learner.make_optimizer("adam", numbers)
    arguments = latent_params, batch, numbers, algorithm, config

    @jax.jit
    def gradient_and_update(params):
        grads, _ = jax.grad(learner.loss, has_aux=True)(params, params, *arguments)
        return grads, learner.update(params, params, optimizer.init(params), *arguments)[0]

    grads, moved = jax.device_get(gradient_and_update(params))
    norm = np.sqrt(sum(np.square(g).sum() for g in jax.tree.leaves(grads)))
    scale = min(1, numbers.max_grad_norm / norm)

    def check(new, old, gradient):
        step = scale * gradient / (np.abs(scale * gradient) + 1e-8)
        np.testing.assert_allclose(new, old - 0.1 * step, rtol=1e-4, atol=2e-6)

    jax.tree.map(check, moved, params, grads)
