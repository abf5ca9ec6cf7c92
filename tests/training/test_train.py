"""`make_train`: one pure function of a key and hyperparameters."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.types import restart, termination, transition
from small_experiments import FORMS, form_config, small_config

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.config import Config, override
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters.types import Observation
from maven_jax.errors import ConfigError
from maven_jax.experiments.sweep import (
    Position,
    Sweep,
    SweepChunk,
    compile_sweep,
    place_lanes,
    run_sweep,
    seed_keys,
    spread,
    take_lanes,
)
from maven_jax.training.train import make_train, make_trainer
from maven_jax.types import Metrics, Params, TrainState

NUM_SEEDS = 3


class Trained(NamedTuple):
    config: Config
    train: Callable[..., tuple[TrainState, Metrics]]
    """Of all seeds, traced once."""
    sweep: Sweep
    first: TrainState
    chunks: list[SweepChunk]
    weights: list[Params]
    """Of all seeds, after each chunk."""
    state: TrainState
    metrics: Metrics


CONFIGS = {
    "maven": small_config("maven"),
    "rows": small_config("qmix", row_slots=11, env_steps_per_update=3.3, updates_per_evaluation=3),
}
UPDATES_PER_CHUNK = {"maven": 5, "qmix": 3}
KEYS = seed_keys(0, NUM_SEEDS)


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request) -> Trained:
    """One experiment run in chunks, and as one vmapped program."""
    config, env = CONFIGS[request.param], MStepMatrixGame(m=3)
    trainer = make_trainer(config, env)
    chex.clear_trace_counter()
    train = jax.vmap(chex.assert_max_traces(make_train(config, env), 1), in_axes=(0, None))
    traced_once = trainer._replace(
        init=chex.assert_max_traces(lambda *given: trainer.init(*given), 1),  # it is jitted itself
        chunk=chex.assert_max_traces(trainer.chunk, 1),
    )
    sweep = compile_sweep(traced_once, NUM_SEEDS)
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    chunks, weights = run_chunks(sweep, hyperparameters)
    first = sweep.init(*place_lanes((KEYS, spread(hyperparameters, NUM_SEEDS)), sweep.mesh))[0]
    train = jax.jit(train)
    return Trained(config, train, sweep, first, chunks, weights, *train(KEYS, hyperparameters))


def run_chunks(sweep, hyperparameters):
    """Every chunk, and all seeds' weights after each."""
    chunks, weights = [], []
    for chunk in run_sweep(sweep, KEYS, hyperparameters):
        chunks.append(chunk)
        weights.append(take_lanes(chunk.state.params, NUM_SEEDS))
    return chunks, weights


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["maven"], indirect=True)
def test_a_vmapped_run_agrees_with_a_single_one(trained):
    """The latter by the configuration's hyperparameters, which are the default."""
    train = jax.jit(make_train(trained.config, MStepMatrixGame(m=3)))
    _, single = train(KEYS[1])
    for name, values in single.items():
        of_seed = trained.metrics[name][1]
        np.testing.assert_allclose(of_seed[:3], values[:3], rtol=2e-3, atol=2e-4, err_msg=name)


def test_hyperparameters_are_traced(trained):
    """One program for all values; other values, other results."""
    numbers = jax.tree.map(jnp.float32, trained.config.hyperparameters)
    state, _ = trained.train(KEYS, numbers._replace(learning_rate=numbers.learning_rate * 2))
    for leaf, other in zip(
        *map(jax.tree.leaves, (state.params, trained.state.params)), strict=True
    ):
        assert not np.array_equal(leaf, other)


def test_every_seed_starts_with_weights_and_episodes_of_its_own(trained):
    for leaf in jax.tree.leaves((trained.first.params, trained.first.latent_params)):
        assert not np.array_equal(leaf[0], leaf[1])
    stored = trained.first.replay.experience.mask[:NUM_SEEDS]
    steps = trained.first.env_steps[:NUM_SEEDS]
    np.testing.assert_array_equal(stored.sum(axis=(1, 2, 3)), steps)


def test_every_seed_takes_its_steps_and_its_last_row_is_repeated(trained):
    steps = np.asarray(trained.metrics["env_steps"])
    lengths = [len(np.unique(steps[seed])) for seed in range(NUM_SEEDS)]
    for seed, length in enumerate(lengths):
        rows = steps[seed][:length]
        assert (np.diff(rows) > 0).all()
        assert rows[-1] >= 60 > rows[-2]
        assert rows[-1] == trained.state.env_steps[seed]
        chex.assert_tree_all_finite(trained.metrics)
        for values in trained.metrics.values():
            for row in values[seed, length:]:
                np.testing.assert_array_equal(row, values[seed, length - 1])
    assert min(lengths) < steps.shape[1], "no seed has a row to spare: nothing was tested"


def test_chunks_driven_by_the_host_are_the_same_run(trained):
    for name in ("env_steps", "return", "td_loss"):
        driven = np.stack([chunk.metrics[name] for chunk in trained.chunks[:3]], axis=1)
        np.testing.assert_allclose(driven, trained.metrics[name][:, :3], rtol=2e-3, atol=2e-4)
    updates = trained.chunks[0].metrics["num_updates"]
    np.testing.assert_array_equal(updates, UPDATES_PER_CHUNK[trained.config.algorithm])


def test_finished_seeds_rest_while_the_others_go_on(trained):
    for chunk, before, after in zip(
        trained.chunks[1:], trained.weights, trained.weights[1:], strict=False
    ):
        for seed in range(NUM_SEEDS):
            same = [
                np.array_equal(a[seed], b[seed])
                for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
            ]
            assert all(same) != chunk.active[seed]
    assert not trained.chunks[-1].active.all(), "all seeds ended together: nothing was tested"


def test_a_sweep_agrees_bit_for_bit_with_itself_and_goes_on_from_a_position(trained):
    """The state after a chunk, copied and put back, gives the chunks that followed."""
    expected = [(chunk.metrics, chunk.active) for chunk in trained.chunks]
    again, hyperparameters = [], trained.config.hyperparameters
    for chunk in run_sweep(trained.sweep, KEYS, hyperparameters):
        again.append((chunk.metrics, chunk.active))
        if len(again) == 2:
            plain = chunk.state._replace(key=jax.random.key_data(chunk.state.key))
            state = take_lanes(plain, NUM_SEEDS)
            state = state._replace(key=jax.random.wrap_key_data(state.key))
            position = Position(state, chunk.metrics)
    chex.assert_trees_all_equal(again, expected)
    rest = run_sweep(trained.sweep, KEYS, hyperparameters, position)
    chex.assert_trees_all_equal([(chunk.metrics, chunk.active) for chunk in rest], expected[2:])


def test_a_lane_that_turns_non_finite_rests_and_its_neighbours_go_on(trained):
    """With a learning rate that overflows, lane 1 keeps its first weights; others are as before."""
    rates = np.array([5e-4, 1e30, 5e-4])
    numbers = trained.config.hyperparameters._replace(learning_rate=rates)
    chunks, weights = run_chunks(trained.sweep, numbers)
    first = jax.tree.map(lambda x: np.asarray(x[1]), trained.first.params)
    for chunk, params in zip(chunks, weights, strict=True):
        np.testing.assert_array_equal(chunk.diverged, [False, True, False])
        assert not chunk.active[1]
        chex.assert_trees_all_equal(jax.tree.map(lambda x: x[1], params), first)
    for name in ("return", "td_loss"):
        for chunk, same in zip(chunks, trained.chunks, strict=False):
            np.testing.assert_array_equal(chunk.metrics[name][[0, 2]], same.metrics[name][[0, 2]])


@pytest.mark.slow
def test_a_game_that_is_too_long_to_unroll_trains():
    config = small_config("qmix", total_env_steps=161)
    train = jax.jit(make_train(config, MStepMatrixGame(m=40)))
    state, metrics = train(jax.random.key(0), jax.tree.map(jnp.float32, config.hyperparameters))
    assert state.env_steps > 160
    chex.assert_tree_all_finite({name: values[0] for name, values in metrics.items()})


def test_every_algorithm_is_of_some_form():
    assert {form.get("algorithm", "maven") for form in FORMS} == set(ALGORITHMS)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_trains(form):
    """Shared by two devices, a chunk moves every weight, and all metrics are finite.

    While it is traced, JAX refuses to mix types or ranks that the code does not name.
    """
    config = form_config(form, updates_per_evaluation=2)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        sweep = compile_sweep(make_trainer(config, MStepMatrixGame(m=2)), 2)
    shapes = sweep.state_shapes
    assert all(leaf.size for leaf in jax.tree.leaves(shapes))
    assert {x.dtype for x in jax.tree.leaves(shapes.params)} == {np.dtype("float32")}
    hyperparameters = config.hyperparameters._replace(intrinsic_weight=0.5, monotonicity_weight=0.5)
    given = seed_keys(0, 2), spread(hyperparameters, 2), np.full(2, sweep.total_env_steps, np.int32)
    keys, numbers, steps = place_lanes(given, sweep.mesh)
    state = sweep.init(keys, numbers)[0]
    before = take_lanes((state.params, state.latent_params), 2)
    after, (metrics, *_) = sweep.chunk(state, numbers, steps)
    chex.assert_tree_all_finite(metrics)
    assert_moved(before, (after.params, after.latent_params))


def assert_moved(before, after):
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old != new).any()


class Unseen:
    """The matrix game of two steps, of which some of what is observed is nothing."""

    num_agents, num_actions, time_limit = 2, 2, 2

    def __init__(self, *fields):
        self.env, self.fields = MStepMatrixGame(m=2), fields

    def reset(self, key):
        return self._hide(*self.env.reset(key))

    def step(self, state, action):
        return self._hide(*self.env.step(state, action))

    def _hide(self, state, timestep):
        seen = timestep.observation
        nothing = {field: getattr(seen, field)[..., :0] for field in self.fields}
        return state, timestep.replace(observation=seen._replace(**nothing))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_environment_may_show_nothing(form):
    """Traced alone: of no features there are no weights."""
    config = form_config(form, updates_per_evaluation=1)
    trainer = make_trainer(config, Unseen("global_state", "agents_view"))
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    after, _ = jax.eval_shape(trainer.chunk, state, config.hyperparameters)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert all(x.size for x in jax.tree.leaves((state.params, state.latent_params)))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["qmix", "maven_qtran"])
def test_every_weight_learns_without_a_global_state(algorithm):
    config = small_config(algorithm, updates_per_evaluation=2)
    trainer = make_trainer(config, Unseen("global_state"))
    key = jax.random.key(1)  # of 0 no unit of the discriminator's hidden layer is above zero
    state = jax.jit(trainer.init)(key, config.hyperparameters)
    after, metrics = jax.jit(trainer.chunk)(state, config.hyperparameters)
    chex.assert_tree_all_finite(metrics)
    assert_moved(state.params, after.params)


LONGEST = 2**31 - 5 * 2 * 3  # less the rounds in a chunk, environments, steps
"""The most steps that are counted: a chunk that begins one step before them counts on."""


@pytest.mark.parametrize(
    ("algorithm", "training", "m", "message"),
    [
        ("mavem", {}, 2, r"unknown algorithm 'mavem'; did you mean 'maven'\?"),
        ("qmix", {"replay_size": 3}, 2, "replay_size is 3; allowed: at least"),
        ("qmix", {}, 15, "steps is 60; allowed: more than 60: before the first update"),
        (
            "qmix",
            {"num_envs": 2, "total_env_steps": LONGEST + 1},
            3,
            f"is {LONGEST + 1}; allowed: at most {LONGEST}",
        ),
        (
            "qmix",
            {"num_envs": 10**6, "replay_size": 10**6, "updates_per_evaluation": 10**3}
            | {"total_env_steps": 2**31 - 1},
            3,
            r"training\.num_envs is 1000000; allowed: fewer",
        ),
    ],
)
def test_impossible_values_are_refused_before_tracing(algorithm, training, m, message):
    with pytest.raises(ConfigError, match=message):
        make_train(small_config(algorithm, **training), MStepMatrixGame(m=m))


def test_steps_are_counted_up_to_the_most_that_are_allowed():
    make_trainer(small_config("qmix", num_envs=2, total_env_steps=LONGEST), MStepMatrixGame(m=3))


@pytest.mark.slow
def test_how_often_and_how_long_one_evaluates_changes_nothing_that_is_learnt():
    env, weights = MStepMatrixGame(m=3), []
    for updates, episodes, each in ((5, 4, 2), (10, 7, 1)):
        config = small_config("maven", updates_per_evaluation=updates, total_env_steps=1000)
        changes = {"episodes": episodes, "episodes_per_latent": each}
        config = override(config, {"evaluation": changes})
        trainer = make_trainer(config, env)
        chunk = jax.jit(trainer.chunk)
        state = trainer.init(jax.random.key(0), config.hyperparameters)
        while state.num_updates < 10:
            state, _ = chunk(state, config.hyperparameters)
        weights.append((state.params, state.latent_params, jax.random.key_data(state.key)))
    chex.assert_trees_all_close(*weights, rtol=1e-6, atol=1e-7)


SEEN = Observation(jnp.ones((1, 1)), jnp.ones((1, 2), bool), jnp.ones(1))


class OneOrTen:
    """An episode has 1 step or 10, with probability one half each; each step pays 1."""

    num_agents, num_actions, time_limit = 1, 2, 10

    def reset(self, key):
        return (jax.random.bernoulli(key), jnp.int32(0)), restart(SEEN)

    def step(self, state, action):
        long, steps = state[0], state[1] + 1
        over = jnp.where(long, steps >= 10, True)
        ended, going = termination(jnp.float32(1), SEEN), transition(jnp.float32(1), SEEN)
        return (long, steps), jax.tree.map(lambda a, b: jnp.where(over, a, b), ended, going)


@pytest.mark.slow
def test_train_return_of_rows_is_that_of_all_their_episodes():
    """The mean over a chunk's rounds of each round's mean would be 6.1, not 5.5."""
    sizes = {"num_envs": 4, "row_slots": 20, "updates_per_evaluation": 500, "batch_size": 1}
    config = small_config("iql", **sizes, total_env_steps=10**6)
    trainer = make_trainer(config, OneOrTen())
    state = trainer.init(jax.random.key(0), config.hyperparameters)
    _, metrics = jax.jit(trainer.chunk)(state, config.hyperparameters)
    assert metrics["train_return"] == pytest.approx(5.5, abs=0.3)  # five standard errors
    assert "train_episodes" not in metrics
