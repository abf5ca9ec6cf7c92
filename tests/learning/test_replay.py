import chex
import jax
import numpy as np
import pytest

from maven_jax.episodes import latent_outcome, swap_time_and_batch
from maven_jax.learning.replay import add_where, make_replay
from maven_jax.types import Episodes

TIME, AGENTS, ACTIONS, CAPACITY = 3, 2, 4, 5


def episode(number, *batch):
    """An episode that holds `number` in every entry, and its parity in the masks."""

    def full(dtype, *shape):
        return np.full((*batch, *shape), number % 2 if dtype is bool else number, dtype)

    return Episodes(
        agents_view=full(np.float32, TIME + 1, AGENTS, 6),
        action_mask=full(bool, TIME + 1, AGENTS, ACTIONS),
        global_state=full(np.float32, TIME + 1, 7),
        actions=full(np.int32, TIME, AGENTS),
        reward=full(np.float32, TIME),
        discount=full(np.float32, TIME),
        mask=full(bool, TIME),
        latent=full(np.float32, 2),
    )


def batched(*numbers):
    """Episodes with a leading axis, as they are added."""
    return jax.tree.map(lambda *x: np.stack(x), *map(episode, numbers))


class Ring:
    """A replay of `CAPACITY` episodes, compiled."""

    def __init__(self, batch_size):
        replay = make_replay(CAPACITY, batch_size)
        self.init, self.add = jax.jit(replay.init), jax.jit(replay.add)
        self.sample = jax.jit(lambda state, key: replay.sample(state, key).experience)
        self.draws = jax.jit(jax.vmap(lambda *args: self.sample(*args).reward, in_axes=(None, 0)))

    def after(self, count):
        """The state after adding the episodes 0, 1, ... in turn."""
        state = self.init(episode(0))
        for number in range(count):
            state = self.add(state, batched(number))
        return state

    def drawn(self, state):
        """The numbers of the episodes that 2000 samples hold."""
        return self.draws(state, KEYS)[..., 0].ravel()

    def stored(self, state):
        return set(self.drawn(state).tolist())


KEYS = jax.random.split(jax.random.key(0), 2000)


@pytest.fixture(scope="module")
def ring():
    return Ring(batch_size=4)


@pytest.mark.parametrize("count", [1, 3, CAPACITY, 7, 2 * CAPACITY + 1])
def test_the_newest_items_are_drawn_one_as_often_as_another(ring, count):
    numbers, counts = np.unique(ring.drawn(ring.after(count)), return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(max(0, count - CAPACITY), count))
    mean = 8000 / len(counts)
    assert (np.abs(counts - mean) < 5 * mean**0.5).all()


def test_several_items_are_added_in_order(ring):
    assert ring.stored(ring.add(ring.after(3), batched(3, 4, 5, 6))) == {2, 3, 4, 5, 6}


def test_items_come_back_whole(ring):
    sample = ring.sample(ring.after(7), jax.random.key(0))
    for b, number in enumerate(sample.reward[:, 0]):
        item = jax.tree.map(lambda x, b=b: x[b], sample)
        expected = episode(int(number))
        chex.assert_trees_all_equal(item, expected)
        chex.assert_trees_all_equal_dtypes(item, expected)


def test_arrays_of_no_elements_come_back_but_are_not_stored(ring):
    """As the latent of QMIX, or the state of an environment without one."""

    def bare(items, *batch):
        return items._replace(
            latent=np.zeros((*batch, 0), np.float32),
            global_state=np.zeros((*batch, TIME + 1, 0), np.int8),
        )

    state = ring.add(ring.init(bare(episode(0))), bare(batched(3, 4), 2))
    assert all(leaf.size for leaf in jax.tree.leaves(state))
    sample = ring.sample(state, jax.random.key(0))
    assert set(sample.reward[:, 0].tolist()) <= {3, 4}
    assert (sample.latent.shape, sample.latent.dtype) == ((4, 0), np.float32)
    assert (sample.global_state.shape, sample.global_state.dtype) == ((4, TIME + 1, 0), np.int8)


@pytest.mark.parametrize(
    ("counted", "stored"),
    [
        ([], {0, 1, 2}),
        ([11], {0, 1, 2, 11}),
        ([10, 12, 15], {1, 2, 10, 12, 15}),
        ([10, 11, 12, 13, 14, 15, 16], {12, 13, 14, 15, 16}),
    ],
)
def test_those_that_are_counted_are_added_in_order(ring, counted, stored):
    """Of more than there is room for, the last ones."""
    items = batched(*range(10, 17))
    flags = np.isin(np.arange(10, 17), counted)
    state = jax.jit(add_where)(flags, ring.after(3), items)
    assert ring.stored(state) == stored
    assert state.current_index == (3 + len(counted)) % CAPACITY
    kept = sorted(stored)[2 - CAPACITY :]
    assert ring.stored(ring.add(state, batched(20, 21))) == {*kept, 20, 21}


@pytest.mark.parametrize("flag", [True, False])
def test_one_flag_is_that_of_all_items(ring, flag):
    added = jax.jit(add_where)(np.array(flag), ring.after(3), batched(8, 9))
    expected = ring.add(ring.after(3), batched(8, 9)) if flag else ring.after(3)
    chex.assert_trees_all_equal(added, expected)


def test_rings_of_several_seeds_take_what_each_counts(ring):
    state = ring.after(3)
    flags = np.array([[True, False], [True, True]])
    several = jax.jit(jax.vmap(add_where, in_axes=(0, None, None)))(flags, state, batched(8, 9))
    np.testing.assert_array_equal(several.current_index, [4, 0])
    np.testing.assert_array_equal(several.is_full, [False, True])


def test_a_batch_is_no_larger_than_the_replay():
    with pytest.raises(ValueError, match="sample_batch_size must be less than or equal"):
        Ring(batch_size=CAPACITY + 1)


def test_different_keys_draw_different_batches(ring):
    state = ring.after(5)
    first, again, other = (ring.sample(state, jax.random.key(seed)).reward for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.fixture
def time_major():
    """Two different episodes side by side: `T B ...`."""
    episodes = swap_time_and_batch(episode(1, 2))
    rewards = np.arange(TIME * 2.0).reshape(TIME, 2)
    states = np.arange((TIME + 1) * 2 * 7.0).reshape(TIME + 1, 2, 7)
    return episodes._replace(reward=rewards, global_state=states, latent=np.eye(2))


def test_swap_time_and_batch(time_major):
    swap = jax.jit(swap_time_and_batch)
    swapped = swap(time_major)
    np.testing.assert_array_equal(swapped.reward, time_major.reward.T)
    np.testing.assert_array_equal(swapped.latent, time_major.latent)
    assert swapped.agents_view.shape == (2, TIME + 1, AGENTS, 6)
    chex.assert_trees_all_equal(swap(swapped), time_major)


def test_latent_outcome(time_major):
    outcome = latent_outcome(time_major)
    np.testing.assert_array_equal(outcome.episode_return, [0 + 2 + 4, 1 + 3 + 5])
    np.testing.assert_array_equal(outcome.initial_state, time_major.global_state[0])
    np.testing.assert_array_equal(outcome.latent, time_major.latent)
