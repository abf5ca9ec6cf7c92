"""`make_train`: one pure function of a key and hyperparameters."""

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
    sweep: Sweep
    first: TrainState
    chunks: list[SweepChunk]
    weights: list[Params]
    """Of all seeds, after each chunk."""
    state: TrainState
    metrics: Metrics
    single_metrics: Metrics


CONFIGS = {
    "maven": small_config("maven"),
    "rows": small_config("qmix", row_slots=11, updates_per_round=3, updates_per_evaluation=3),
}


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request) -> Trained:
    """One experiment run three ways: in chunks, as one vmapped program, and seed 1 on its own."""
    config, env = CONFIGS[request.param], MStepMatrixGame(m=3)
    train, trainer = make_train(config, env), make_trainer(config, env)
    chex.clear_trace_counter()
    traced_once = trainer._replace(
        init=chex.assert_max_traces(lambda *given: trainer.init(*given), 1),  # it is jitted itself
        chunk=chex.assert_max_traces(trainer.chunk, 1),
    )
    keys = seed_keys(0, NUM_SEEDS)
    sweep = compile_sweep(traced_once, NUM_SEEDS)
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    chunks, weights = [], []
    for chunk in run_sweep(sweep, keys, hyperparameters):
        chunks.append(chunk)
        weights.append(take_lanes(chunk.state.params, NUM_SEEDS))
    state, metrics = jax.jit(jax.vmap(train, in_axes=(0, None)))(keys, hyperparameters)
    _, single_metrics = jax.jit(train)(keys[1], hyperparameters)
    lanes = place_lanes((keys, spread(hyperparameters, NUM_SEEDS)), sweep.mesh)
    first = sweep.init(*lanes)[0]
    return Trained(config, sweep, first, chunks, weights, state, metrics, single_metrics)


@pytest.mark.slow
def test_a_vmapped_run_agrees_with_a_single_one(trained):
    for name, values in trained.single_metrics.items():
        np.testing.assert_allclose(
            trained.metrics[name][1][:3], values[:3], rtol=2e-3, atol=2e-4, err_msg=name
        )


def test_seeds_differ_from_the_first_weights_on(trained):
    for leaf in jax.tree.leaves((trained.first.params, trained.first.latent_params)):
        assert not np.array_equal(leaf[0], leaf[1])


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


def test_env_steps_are_the_steps_in_the_replay(trained):
    """Until the ring is full, the steps counted are those of the stored episodes."""
    stored = trained.first.replay.experience.mask[:NUM_SEEDS]
    steps = trained.first.env_steps[:NUM_SEEDS]
    np.testing.assert_array_equal(stored.sum(axis=(1, 2, 3)), steps)


def test_chunks_driven_by_the_host_are_the_same_run(trained):
    for name in ("env_steps", "return", "td_loss"):
        driven = np.stack([chunk.metrics[name] for chunk in trained.chunks[:3]], axis=1)
        np.testing.assert_allclose(driven, trained.metrics[name][:, :3], rtol=2e-3, atol=2e-4)


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


def test_a_sweep_goes_on_from_a_position_bit_for_bit(trained):
    """The state after a chunk, copied and put back, gives the chunks that followed."""
    keys = seed_keys(0, NUM_SEEDS)
    hyperparameters = trained.config.hyperparameters
    run = run_sweep(trained.sweep, keys, hyperparameters)
    second = [next(run), next(run)][-1]
    plain = second.state._replace(key=jax.random.key_data(second.state.key))
    state = take_lanes(plain, NUM_SEEDS)
    state = state._replace(key=jax.random.wrap_key_data(state.key))
    rest = run_sweep(trained.sweep, keys, hyperparameters, Position(state, second.metrics))
    chex.assert_trees_all_equal(
        [(chunk.metrics, chunk.active) for chunk in rest],
        [(chunk.metrics, chunk.active) for chunk in trained.chunks[2:]],
    )


def test_a_lane_that_turns_non_finite_rests_and_its_neighbours_go_on(trained):
    """With a learning rate that overflows, lane 1 keeps its first weights; others are as before."""
    rates = np.array([5e-4, 1e30, 5e-4])
    hyperparameters = trained.config.hyperparameters._replace(learning_rate=rates)
    chunks, weights = [], []
    for chunk in run_sweep(trained.sweep, seed_keys(0, NUM_SEEDS), hyperparameters):
        chunks.append(chunk)
        weights.append(take_lanes(chunk.state.params, NUM_SEEDS))
    for chunk, params in zip(chunks, weights, strict=True):
        np.testing.assert_array_equal(chunk.diverged, [False, True, False])
        assert not chunk.active[1]
        chex.assert_trees_all_equal(
            jax.tree.map(lambda x: x[1], params),
            jax.tree.map(lambda x: np.asarray(x[1]), trained.first.params),
        )
    for name in ("return", "td_loss"):
        for chunk, same in zip(chunks, trained.chunks, strict=False):
            np.testing.assert_array_equal(chunk.metrics[name][[0, 2]], same.metrics[name][[0, 2]])


def test_the_same_sweep_twice_agrees_bit_for_bit(trained):
    run = run_sweep(trained.sweep, seed_keys(0, NUM_SEEDS), trained.config.hyperparameters)
    again = [(chunk.metrics, chunk.active) for chunk in run]
    chex.assert_trees_all_equal(again, [(c.metrics, c.active) for c in trained.chunks])


@pytest.mark.slow
def test_hyperparameters_are_traced():
    """One program for all values; other values, other results."""
    config = small_config("qmix", total_env_steps=20)
    train = chex.assert_max_traces(make_train(config, MStepMatrixGame(m=2)), 1)
    rates = jnp.array([1e-4, 1e-2])
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    axes = jax.tree.map(lambda _: None, hyperparameters)._replace(learning_rate=0)
    sweep = jax.jit(jax.vmap(train, in_axes=(None, axes)))
    for scale in (1.0, 2.0):
        varied = hyperparameters._replace(learning_rate=rates * scale)
        state, _ = sweep(jax.random.key(0), varied)
        for leaf in jax.tree.leaves(state.params):
            assert not np.array_equal(leaf[0], leaf[1])


def test_the_target_network_is_a_copy_at_every_interval_and_still_between():
    config = small_config("qmix", updates_per_evaluation=6, target_update_interval=4)
    trainer = make_trainer(config, MStepMatrixGame(m=2))
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    first = trainer.init(jax.random.key(0), hyperparameters)
    chex.assert_trees_all_equal(first.params, first.target_params)
    chunk = jax.jit(trainer.chunk)
    second, _ = chunk(first, hyperparameters)  # copied at update 4, not since
    third, _ = chunk(second, hyperparameters)  # copied at updates 8 and 12
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(second.params, second.target_params)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(first.target_params, second.target_params)
    chex.assert_trees_all_equal(third.params, third.target_params)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "algorithm"), [(1, "maven"), (40, "qmix")])
def test_any_length_of_game_trains(m, algorithm):
    config = small_config(algorithm, total_env_steps=4 * m + 1)
    state, metrics = jax.jit(make_train(config, MStepMatrixGame(m=m)))(
        jax.random.key(0), jax.tree.map(jnp.float32, config.hyperparameters)
    )
    assert state.env_steps > 4 * m
    chex.assert_tree_all_finite({name: values[0] for name, values in metrics.items()})


def test_every_algorithm_is_of_some_form():
    assert {form.get("algorithm", "maven") for form in FORMS} == set(ALGORITHMS)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_trains(form):
    """Shared by two devices, a chunk moves every weight, and all metrics are finite."""
    config = form_config(form, updates_per_evaluation=2)
    sweep = compile_sweep(make_trainer(config, MStepMatrixGame(m=2)), 2)
    assert all(leaf.size for leaf in jax.tree.leaves(sweep.state_shapes))
    hyperparameters = config.hyperparameters._replace(intrinsic_weight=0.5, monotonicity_weight=0.5)
    given = seed_keys(0, 2), spread(hyperparameters, 2), np.full(2, sweep.total_env_steps, np.int32)
    keys, numbers, steps = place_lanes(given, sweep.mesh)
    state = sweep.init(keys, numbers)[0]
    before = take_lanes((state.params, state.latent_params), 2)
    after, (metrics, *_) = sweep.chunk(state, numbers, steps)
    chex.assert_tree_all_finite(metrics)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), before, (after.params, after.latent_params)
    )
    assert all(jax.tree.leaves(moved))


class Unseen:
    """The matrix game of two steps, of which agents, or the global state, see nothing."""

    num_agents, num_actions, time_limit = 2, 2, 2

    def __init__(self, field):
        self.env, self.field = MStepMatrixGame(m=2), field

    def reset(self, key):
        state, timestep = self.env.reset(key)
        return state, self._hide(timestep)

    def step(self, state, action):
        state, timestep = self.env.step(state, action)
        return state, self._hide(timestep)

    def _hide(self, timestep):
        seen = timestep.observation
        nothing = getattr(seen, self.field)[..., :0]
        return timestep.replace(observation=seen._replace(**{self.field: nothing}))


@pytest.mark.slow
@pytest.mark.parametrize("field", ["global_state", "agents_view"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_environment_may_show_nothing(form, field):
    """Traced alone: of no features there are no weights."""
    config = form_config(form, updates_per_evaluation=1)
    trainer = make_trainer(config, Unseen(field))
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    after, _ = jax.eval_shape(trainer.chunk, state, config.hyperparameters)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert all(x.size for x in jax.tree.leaves((state.params, state.latent_params)))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["qmix", "maven_qtran"])
def test_every_weight_learns_without_a_global_state(algorithm):
    config = small_config(algorithm, updates_per_evaluation=2)
    trainer = make_trainer(config, Unseen("global_state"))
    hyperparameters = jax.tree.map(jnp.float32, config.hyperparameters)
    key = jax.random.key(1)  # of 0 no unit of the discriminator's hidden layer is above zero
    state = jax.jit(trainer.init)(key, hyperparameters)
    after, metrics = jax.jit(trainer.chunk)(state, hyperparameters)
    chex.assert_tree_all_finite(metrics)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, after.params)
    assert all(jax.tree.leaves(moved))


def test_impossible_values_are_refused_before_tracing():
    with pytest.raises(ConfigError, match=r"unknown algorithm 'mavem'; did you mean 'maven'\?"):
        make_train(small_config("mavem"), MStepMatrixGame(m=2))
    with pytest.raises(ConfigError, match="replay_size is 3; allowed: at least"):
        make_train(small_config("qmix", replay_size=3), MStepMatrixGame(m=2))
    too_few = "total_env_steps is 60; allowed: more than 60, the steps of the rounds"
    with pytest.raises(ConfigError, match=too_few):
        make_train(small_config("qmix"), MStepMatrixGame(m=15))


def test_steps_are_counted_below_the_largest_whole_number():
    """The chunk that reaches `total_env_steps` begins one step before it, and counts on."""
    env = MStepMatrixGame(m=3)
    longest = 2**31 - 5 * 2 * 3  # rounds in a chunk, environments, steps
    make_trainer(small_config("qmix", num_envs=2, total_env_steps=longest), env)
    with pytest.raises(ConfigError, match=f"is {longest + 1}; allowed: at most {longest}"):
        make_trainer(small_config("qmix", num_envs=2, total_env_steps=longest + 1), env)
    many = small_config(
        "qmix",
        num_envs=10**6,
        replay_size=10**6,
        updates_per_evaluation=10**3,
        total_env_steps=2**31 - 1,
    )
    with pytest.raises(ConfigError, match=r"training\.num_envs is 1000000; allowed: fewer"):
        make_trainer(many, env)


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


class OneOrTen(NamedTuple):
    """An episode has 1 step or 10, with probability one half each; each step pays 1."""

    num_agents: int = 1
    num_actions: int = 2
    time_limit: int = 10

    def reset(self, key):
        return (jax.random.bernoulli(key), jnp.int32(0)), restart(SEEN)

    def step(self, state, action):
        long, steps = state[0], state[1] + 1
        over = jnp.where(long, steps >= 10, True)
        ended, going = termination(jnp.float32(1), SEEN), transition(jnp.float32(1), SEEN)
        return (long, steps), jax.tree.map(lambda a, b: jnp.where(over, a, b), ended, going)


SEEN = Observation(jnp.ones((1, 1)), jnp.ones((1, 2), bool), jnp.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 4])
def test_train_return_of_rows_is_that_of_all_their_episodes(num_envs):
    """The mean over a chunk's rounds of each round's mean would be 7.3 or 6.1, not 5.5."""
    rounds = 2000 // num_envs
    sizes = {"num_envs": num_envs, "row_slots": 20, "updates_per_evaluation": rounds}
    config = small_config("iql", **sizes, total_env_steps=10**6, batch_size=1)
    trainer = make_trainer(config, OneOrTen())
    state = trainer.init(jax.random.key(0), config.hyperparameters)
    _, metrics = jax.jit(trainer.chunk)(state, config.hyperparameters)
    assert metrics["train_return"] == pytest.approx(5.5, abs=0.3)  # five standard errors
    assert "train_episodes" not in metrics
