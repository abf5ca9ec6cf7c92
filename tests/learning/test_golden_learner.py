"""Recorded batches through the learner: forward values, losses, gradients, three optimiser steps.

The cases were recorded from the authors' published code, so the `reference` fidelity is on.
"""

import json
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maven_jax.algorithms.objectives import mixed, select
from maven_jax.algorithms.table import make_algorithm
from maven_jax.config import Hyperparameters, from_dict
from maven_jax.episodes import swap_time_and_batch
from maven_jax.learning import learner
from maven_jax.pymarl import weights as pymarl
from maven_jax.types import EnvSpec, Episodes, Params

KINDS = ("iql", "vdn", "qmix", "qtran", "maven")


class Case:
    """One recorded case, read as this library's types."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = dict(file)
        self.recorded = json.loads(str(self.arrays["config"]))
        r = self.recorded
        self.config = from_dict(
            {
                "algorithm": r["kind"],
                "fidelity": "reference",
                "network": {
                    "hidden_size": r["rnn_hidden_dim"],
                    "mixer_embed_size": r["mixing_embed_dim"],
                    "mixer_skip_connections": r["skip_connections"],
                },
                "latent": {"size": r["latent_dim"]},
                "discriminator": {
                    "kind": "recurrent" if r["rnn_discrim"] else "feed_forward",
                    "hidden_size": r["discrim_size"],
                    "hidden_layers": r["discrim_layers"],
                    "recurrent_size": r["rnn_agg_size"],
                    "reads": "greedy_actions" if r["hard_qs"] else "policies",
                    "signal": "reward" if r["mi_intrinsic"] else "gradient",
                },
                "training": {"double_q": r["double_q"]},
            }
        )
        self.hyperparameters = jax.tree.map(
            jnp.float32,
            Hyperparameters(
                learning_rate=r["lr"],
                rms_decay=r["optim_alpha"],
                rms_epsilon=r["optim_eps"],
                max_grad_norm=r["grad_norm_clip"],
                gamma=r["gamma"],
                mi_weight=r["mi_loss"],
                intrinsic_weight=r["mi_scaler"],
                optimum_weight=r["opt_loss"],
                nonoptimum_weight=r["nopt_min_loss"],
            ),
        )
        spec = EnvSpec(r["num_agents"], r["num_actions"], r["obs_dim"], r["state_dim"], r["time"])
        self.algorithm = make_algorithm(self.config, spec)
        self.latent_params = self.algorithm.latent.init_params(jax.random.key(0), spec.state_size)
        self.loss = partial(learner.loss, algorithm=self.algorithm, config=self.config)

    def params(self, prefix: str) -> Params:
        discriminator = {}
        if self.algorithm.discriminator is not None:
            # It has no target network: the target's weights are never read.
            source = self.part(prefix, "discrim") or self.part("params", "discrim")
            discriminator = pymarl.discriminator_from_pymarl(source, self.part(prefix, "rnn_agg"))
        return Params(
            agent=pymarl.agent_from_pymarl(self.part(prefix, "agent")),
            mixer=pymarl.mixer_from_pymarl(self.part(prefix, "mixer")),
            discriminator=discriminator,
        )

    def part(self, *folders: str) -> dict[str, np.ndarray]:
        start = "/".join(folders) + "/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    @cached_property
    def batch(self) -> Episodes:
        recorded = jax.tree.map(jnp.asarray, self.part("batch"))
        ended = recorded["terminated"]
        before = jnp.pad(ended, ((0, 0), (1, 0)))[:, :-1]
        return swap_time_and_batch(
            Episodes(
                agents_view=recorded["obs"],
                action_mask=recorded["action_mask"],
                global_state=recorded["global_state"],
                actions=recorded["actions"].astype(jnp.int32),
                reward=recorded["reward"],
                discount=1.0 - ended,
                mask=recorded["filled"][:, :-1] & ~before,
                latent=recorded.get("latent", jnp.zeros((ended.shape[0], 0))),
            )
        )


@pytest.fixture(scope="module")
def case(golden_path) -> Case:
    return Case(golden_path)


def largest_relative_error(actual, expected) -> float:
    """Largest error of each array over its largest entry; the worst of the tree."""

    def error(a, b):
        a, b = np.asarray(a), np.asarray(b)
        return np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)

    return max(jax.tree.leaves(jax.tree.map(error, actual, expected)))


@pytest.mark.slow
def test_forward_values(case):
    params, batch = case.params("params"), case.batch
    q_values = jax.jit(partial(learner.utilities, case.algorithm))(params, batch)
    filled = np.moveaxis(case.arrays["batch/filled"], 0, 1)
    expected = np.moveaxis(case.arrays["out/q_values"], 0, 1)
    np.testing.assert_allclose(q_values[filled], expected[filled], rtol=1e-5, atol=1e-6)
    if "out/q_tot" not in case.arrays:  # there is none: IQL mixes nothing, QTRAN's is not recorded
        return

    @jax.jit
    def mix(q_values, batch):
        chosen = select(q_values[:-1], batch.actions)
        state = batch.global_state[:-1]
        return mixed(case.algorithm.mixer, params.mixer, chosen, state, batch.latent)

    q_tot = mix(q_values, batch)
    expected = np.moveaxis(case.arrays["out/q_tot"], 0, 1)
    mask = np.asarray(batch.mask)
    np.testing.assert_allclose(q_tot[mask], expected[mask], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_clipped_gradient(case):
    grads, metrics = jax.jit(jax.grad(case.loss, has_aux=True))(
        case.params("params"),
        case.params("target_params"),
        case.latent_params,
        case.batch,
        case.hyperparameters,
    )
    # The recorded arrays have the norm of `out/grad_norm`, so clipping was still to come; clipping
    # both sides compares them either way.
    clip = optax.clip_by_global_norm(case.hyperparameters.max_grad_norm)
    clipped = jax.jit(lambda grads: clip.update(grads, clip.init(grads))[0])
    assert largest_relative_error(clipped(grads), clipped(case.params("grads"))) < 1e-4
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(jax.device_get(grads))))
    np.testing.assert_allclose(norm, case.arrays["out/grad_norm"][0], rtol=1e-5)
    assert np.isfinite(metrics["loss"])


@pytest.mark.slow
def test_three_optimiser_steps(case):
    params, target_params = case.params("params"), case.params("target_params")
    opt_state = learner.make_optimizer("rmsprop", case.hyperparameters).init(params)
    step = jax.jit(partial(learner.update, algorithm=case.algorithm, config=case.config))
    history = []
    for _ in range(case.arrays["out/loss"].shape[0]):
        params, opt_state, metrics = step(
            params, target_params, opt_state, case.latent_params, case.batch, case.hyperparameters
        )
        history.append(metrics)
    agents = case.recorded["num_agents"]
    recorded = {
        "loss": case.arrays["out/loss"],
        "grad_norm": case.arrays["out/grad_norm"],
        "td_error_abs": case.arrays["out/td_error_abs"],
        "q_taken": case.arrays["out/q_taken_mean"] * agents,
        "q_target": case.arrays["out/target_mean"] * agents,
    }
    if case.recorded["kind"] == "qtran":  # one column an agent; q_taken there is of the utilities
        recorded["td_error_abs"] = case.arrays["out/td_error_abs"] / agents
        recorded["q_target"] = case.arrays["out/target_mean"]
        del recorded["q_taken"]
    if "out/discrim_loss" in case.arrays:
        recorded["discriminator_loss"] = case.arrays["out/discrim_loss"]
    for name, expected in recorded.items():
        actual = [metrics[name] for metrics in history]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    expected = case.params(f"params_after_{len(history)}")
    for actual, wanted in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-4)
