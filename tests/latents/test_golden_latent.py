"""The recorded latent policy: its optimiser steps on replayed episodes."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maven_jax.config import Config, Hyperparameters
from maven_jax.latents import BanditLatent, CategoricalLatent
from maven_jax.learning import learner
from maven_jax.pymarl import weights as pymarl
from maven_jax.types import LatentOutcome

KINDS = ("policy", "returns")


@pytest.fixture(scope="module")
def case(golden_path):
    with np.load(golden_path) as file:
        return dict(file)


def make_latent(recorded, hidden_size):
    """The latent of a recorded configuration."""
    if recorded["kind"] == "policy":
        return CategoricalLatent(recorded["latent_dim"], hidden_size)
    return BanditLatent(
        recorded["latent_dim"],
        hidden_size,
        scale=float(recorded["reward_scaling"]),
        temperature=1.0,
        epsilon=recorded["epsilon"],
    )


def test_optimiser_steps(case):
    recorded = json.loads(str(case["config"]))

    def part(prefix):
        return {k.removeprefix(prefix): v for k, v in case.items() if k.startswith(prefix)}

    start = part("params/")
    latent = make_latent(recorded, hidden_size=start["affine1.weight"].shape[0])
    hyperparameters = Hyperparameters(
        latent_learning_rate=recorded["lr"],
        latent_return_scale=1.0,
        latent_entropy_weight=recorded["entropy_scaling"],
    )
    step = jax.jit(
        partial(learner.update_latent, latent=latent, config=Config(fidelity="reference"))
    )
    params = pymarl.latent_from_pymarl(start)
    opt_state = latent.optimizer(hyperparameters).init(params)
    unmixed = dataclasses.replace(latent, epsilon=0.0) if recorded["kind"] == "returns" else latent
    for i, indices in enumerate(case["batch_indices"]):
        replayed = (case[name][indices] for name in ("state", "latent", "returns"))
        batch = LatentOutcome(*map(jnp.asarray, replayed))
        entropy = unmixed.entropy(params, batch.initial_state).mean()
        np.testing.assert_allclose(entropy, case["out/entropy"][i], rtol=1e-5)
        params, opt_state = step(params, opt_state, batch, hyperparameters)
        if after := part(f"params_after_{i + 1}/"):
            expected = pymarl.latent_from_pymarl(after)
            for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-4)
    states = jnp.asarray(case["state"][: len(case["out/probs_or_returns_after"])])
    if isinstance(latent, BanditLatent):
        trained = latent.estimates(params, states)
    else:
        trained = latent.distribution(params, states).probs
    np.testing.assert_allclose(trained, case["out/probs_or_returns_after"], rtol=1e-4, atol=1e-5)
