"""A batch of rows gives the loss and the gradients of the same episodes one a row."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maven_jax.algorithms.table import ALGORITHMS, make_algorithm
from maven_jax.config import from_dict
from maven_jax.learning import learner
from maven_jax.types import EnvSpec, Episodes, Params

AGENTS, ACTIONS, VIEW, STATE, LATENTS = 2, 3, 3, 4, 3
SPEC = EnvSpec(AGENTS, ACTIONS, VIEW, STATE, time_limit=6)
ROWS, SLOTS = 2, 9
MOST = ROWS * (SLOTS // 2)
"""Episodes that so many slots can hold."""
DOUBLE = 1e-9
"""How far sums in another order may lie apart, of the largest entry of an array."""


class Made(NamedTuple):
    """The same episodes in both layouts."""

    rows: Episodes
    alone: Episodes


class Length(NamedTuple):
    """One episode: its steps, and whether it truly ended or was cut."""

    steps: int
    ends: bool


@st.composite
def layouts(draw) -> list[list[Length]]:
    """Rows that are filled up to their last slot, or to somewhere before it.

    An episode takes a slot more than it has steps.
    """
    rows = []
    for _ in range(ROWS):
        left, row = SLOTS, []
        while left >= 2 and (not row or draw(st.integers(0, 5))):
            steps = draw(st.integers(1, left - 1))
            row.append(Length(steps, draw(st.booleans())))
            left -= steps + 1
        rows.append(row)
    return rows


def make(layout: list[list[Length]], seed: int, discrete: bool) -> Made:
    """Random episodes of given lengths, end to end and each in a row of its own."""
    random = np.random.default_rng(seed)
    rows, alone = blank(ROWS), blank(MOST)
    number = 0
    for row, lengths in enumerate(layout):
        slot = 0
        for steps, ends in lengths:
            shown = {
                "agents_view": random.normal(size=(steps + 1, AGENTS, VIEW)),
                "action_mask": random.random((steps + 1, AGENTS, ACTIONS)) < 0.7,
                "global_state": random.normal(size=(steps + 1, STATE)),
            }
            shown["action_mask"][..., 0] = True
            done = {
                "actions": random.integers(0, ACTIONS, size=(steps, AGENTS)),
                "reward": random.normal(size=steps),
                "discount": np.append(np.ones(steps - 1), float(not ends)),
                "mask": np.ones(steps, bool),
            }
            z = np.eye(LATENTS)[number % LATENTS] if discrete else random.normal(size=LATENTS)
            for name, x in shown.items():
                rows[name][slot : slot + steps + 1, row] = x
                alone[name][: steps + 1, number] = x
            for name, x in done.items():
                rows[name][slot : slot + steps, row] = x
                alone[name][:steps, number] = x
            rows["latent"][slot : slot + steps + 1, row] = z
            alone["latent"][0, number] = z
            rows["first"][slot, row] = True
            slot, number = slot + steps + 1, number + 1
    alone |= {"latent": alone["latent"][0], "first": None}
    return Made(Episodes(**rows), Episodes(**alone))


def blank(number: int) -> dict[str, np.ndarray]:
    """Time-major rows of nothing."""
    slots, steps = (SLOTS, number), (SLOTS - 1, number)
    return {
        "agents_view": np.zeros((*slots, AGENTS, VIEW)),
        "action_mask": np.zeros((*slots, AGENTS, ACTIONS), bool),
        "global_state": np.zeros((*slots, STATE)),
        "actions": np.zeros((*steps, AGENTS), int),
        "reward": np.zeros(steps),
        "discount": np.zeros(steps),
        "mask": np.zeros(steps, bool),
        "latent": np.zeros((*slots, LATENTS)),
        "first": np.zeros(slots, bool),
    }


PAIRED = {"latent_head": "paired"}
FORMS = [
    {"algorithm": "iql"},
    {"algorithm": "vdn"},
    {"algorithm": "qmix"},
    {"algorithm": "qmix_unconstrained", "training": {"double_q": False}},
    {"algorithm": "qtran", "training": {"double_q": False}},
    {"algorithm": "maven"},
    {"discriminator": {"signal": "reward"}, "latent": {"kind": "gaussian"}, "network": PAIRED},
    {"algorithm": "maven_iql", "discriminator": {"kind": "feed_forward"}, "network": PAIRED},
    {
        "algorithm": "maven_vdn",
        "latent": {"kind": "bandit"},
        "discriminator": {"kind": "feed_forward", "reads": "greedy_actions", "signal": "reward"},
        "network": {"latent_head": "residual"},
    },
    {
        "algorithm": "maven_unconstrained",
        "latent": {"kind": "logistic"},
        "discriminator": {"kind": "feed_forward", "reads": "taken_actions", "signal": "reward"},
    },
    {
        "algorithm": "maven_qtran",
        "latent": {"kind": "uniform"},
        "discriminator": {"reads": "greedy_actions", "signal": "reward"},
    },
    {"discriminator": {"reads": "taken_actions", "signal": "reward"}},
]
"""Every algorithm, latent, head and discriminator: what is wrong of one shows beside any other."""
SIZES = {
    "network": {"hidden_size": 3, "mixer_embed_size": 2, "mixer_skip_connections": True},
    "latent": {"size": LATENTS, "hidden_size": 3},
    "discriminator": {"hidden_size": 3, "hidden_layers": 1, "recurrent_size": 3},
    "hyperparameters": {"mi_weight": 0.3, "monotonicity_weight": 0.2, "intrinsic_weight": 0.7},
}


def form_config(form: dict):
    sections = {
        key: SIZES.get(key, {}) | form.get(key, {}) for key in SIZES | form if key != "algorithm"
    }
    return from_dict({"algorithm": form.get("algorithm", "maven")} | sections)


class Losses:
    """Loss, metrics and gradients in both layouts, one program of each form."""

    def __init__(self, form: dict) -> None:
        config = form_config(form)
        algorithm = make_algorithm(config, SPEC)
        size, discriminator = algorithm.latent.size, algorithm.discriminator
        self.discrete = algorithm.latent.discrete

        def params(seed: int) -> Params:
            def drawn(part):
                return random_params(lambda key: part.init_params(key, SPEC, size), seed)

            of_discriminator = drawn(discriminator) if discriminator else {}
            return Params(drawn(algorithm.agent), drawn(algorithm.mixer), of_discriminator)

        latent_params = random_params(lambda key: algorithm.latent.init_params(key, STATE), 2)
        self.weights = params(0), params(1), latent_params
        of_batch = jax.value_and_grad(
            partial(learner.loss, algorithm=algorithm, config=config), has_aux=True
        )

        @jax.jit
        def both(weights, made, td_lambda):
            numbers = config.hyperparameters._replace(td_lambda=td_lambda, gamma=0.9)
            layouts = [batch._replace(latent=batch.latent[..., :size]) for batch in made]
            return [of_batch(*weights, batch, numbers) for batch in layouts]

        self._both = both

    def __call__(self, made: Made, td_lambda: float):
        made = jax.tree.map(jnp.asarray, made)
        weights = jax.tree.map(lambda x: jnp.asarray(x, float), self.weights)
        return jax.device_get(self._both(weights, made, td_lambda))


@pytest.fixture(scope="module", autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_every_algorithm_is_of_some_form():
    assert {form.get("algorithm", "maven") for form in FORMS} == set(ALGORITHMS)


@pytest.fixture(scope="module", params=FORMS, ids=str)
def losses(request):
    return Losses(request.param)


FULL = [[Length(1, False), Length(6, True)], [Length(8, False)]]
SHORT = [[Length(1, True)] * 4, [Length(1, False), Length(2, True), Length(3, True)]]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@example(FULL, 0.6, 0)
@example(SHORT, 1.0, 0)
@example(SHORT, 0.0, 1)
@given(layouts(), st.sampled_from([0.0, 0.6, 1.0]), st.integers(0, 2**16))
def test_rows_learn_what_their_episodes_teach(losses, layout, td_lambda, seed):
    made = make(layout, seed, losses.discrete)
    of_rows, alone = losses(made, td_lambda)
    for x, y in zip(jax.tree.leaves(of_rows), jax.tree.leaves(alone), strict=True):
        assert x.dtype == np.float64
        scale = max(1.0, np.abs(y).max(initial=0.0))
        np.testing.assert_allclose(x / scale, y / scale, rtol=0, atol=DOUBLE)
