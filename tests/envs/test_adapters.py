"""Environments of other libraries: step for step what they are, and how their episodes end."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxmarl.environments import (
    Hanabi,
    HeuristicEnemySMAX,
    Overcooked,
    SimpleReferenceMPE,
    SimpleSpeakerListenerMPE,
    SimpleSpreadMPE,
)
from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO
from jumanji.environments.routing import cleaner, connector, lbf, robot_warehouse
from jumanji.environments.routing.robot_warehouse.utils import is_collision
from PIL import Image
from small_envs import OPTIONS, small_env

from maven_jax import check_env, from_dict
from maven_jax.acting.random_play import random_episode
from maven_jax.environments.registry import ENVIRONMENTS, default_options, make_env
from maven_jax.reports.render import check_gif, write_gif

NUM_EPISODES = 160
LARGEST_FEATURE = 10


class Wrapped(NamedTuple):
    """An environment made without the adapter, at its own time limit."""

    env: Any
    truly_ended: Callable[[Any, Any, Any], Any]
    """From its state before, its state after and the actions."""
    ends: bool = True
    """Whether random play comes to a true end."""
    state: Callable[[Any], Any] = lambda env_state: env_state
    """Its own state, of the adapter's `env_state`."""


def warehouse_ended(before, after, actions):
    collide = jax.vmap(lambda agent, i: is_collision(after.grid, agent, i), in_axes=(0, 0))
    return collide(after.agents, jnp.arange(actions.size)).any()


def cleaner_ended(before, after, actions):
    legal = before.action_mask[jnp.arange(actions.size), actions].all()
    return ~legal | ~(after.grid == cleaner.constants.DIRTY).any()


def smax_ended(before, after, actions):
    alive = after.state.unit_alive
    return ~alive[:3].any() | ~alive[3:].any()


def hanabi_ended(before, after, actions):
    table = after.state
    built, players = table.fireworks.sum(), len(table.player_hands)
    is_last = table.last_round_count > players  # the move that drew the last card counts as one
    return ~table.life_tokens.any() | (built == 2 * 2) | is_last


def never(before, after, actions):
    return jnp.array(False)


def overcooked():
    with pytest.deprecated_call():
        return Overcooked(max_steps=50)


WRAPPED = {
    "level_based_foraging": lambda: Wrapped(
        lbf.LevelBasedForaging(lbf.generator.RandomGenerator(5, 2, 1, 5, 2, True), time_limit=40),
        lambda before, after, actions: after.food_items.eaten.all(),
    ),
    "robot_warehouse": lambda: Wrapped(
        robot_warehouse.RobotWarehouse(
            robot_warehouse.generator.RandomGenerator(1, 3, 1, 2, 1, 2), time_limit=30
        ),
        warehouse_ended,
    ),
    "connector": lambda: Wrapped(
        connector.Connector(connector.generator.RandomWalkGenerator(5, 3), time_limit=12),
        lambda before, after, actions: jax.vmap(connector.utils.connected_or_blocked)(
            after.agents, after.action_mask
        ).all(),
    ),
    "cleaner": lambda: Wrapped(
        cleaner.Cleaner(cleaner.generator.RandomGenerator(3, 3, 2), time_limit=16), cleaner_ended
    ),
    # JaxMARL's episodes have one step more than `max_steps`
    "smax": lambda: Wrapped(
        HeuristicEnemySMAX(scenario=MAP_NAME_TO_SCENARIO["3m"], max_steps=15), smax_ended
    ),
    "mpe_spread": lambda: Wrapped(
        SimpleSpreadMPE(num_agents=2, num_landmarks=2, max_steps=24), never, ends=False
    ),
    "mpe_speaker_listener": lambda: Wrapped(
        SimpleSpeakerListenerMPE(max_steps=24), never, ends=False
    ),
    "mpe_reference": lambda: Wrapped(SimpleReferenceMPE(max_steps=24), never, ends=False),
    "hanabi": lambda: Wrapped(
        Hanabi(num_colors=2, num_ranks=2, hand_size=2, num_cards_of_rank=np.array([3, 1])),
        hanabi_ended,
        state=lambda env_state: env_state.state,
    ),
    "overcooked": lambda: Wrapped(
        overcooked(), never, ends=False, state=lambda env_state: env_state.state
    ),
}


class Step(NamedTuple):
    """What one of the two says of a step."""

    reward: Any
    last: Any
    env_state: Any


class Played(NamedTuple):
    """Steps `[E T ...]`; `active` are those up to the episode's end."""

    ours: Step
    theirs: Step
    ended: Any
    discount: Any
    extras: Any
    can_act: Any
    largest: Any
    """Of the absolute features of views and states, before and after."""
    active: Any


def own_reset(env, key):
    result = env.reset(key)
    return result[1] if hasattr(env, "agents") else result[0]


def own_step(env, key, env_state, actions) -> Step:
    """By jumanji's interface or by JaxMARL's, whose `step` starts anew at the end."""
    if not hasattr(env, "agents"):
        env_state, timestep = env.step(env_state, actions)
        return Step(timestep.reward.sum(), timestep.last(), env_state)
    named = {agent: actions[i] for i, agent in enumerate(env.agents)}
    before = env_state
    _, env_state, rewards, dones, _ = env.step(key, before, named)
    if isinstance(env, HeuristicEnemySMAX | SimpleSpeakerListenerMPE):  # one reward of all
        return Step(rewards[env.agents[0]], dones["__all__"], env_state)
    if isinstance(env, Hanabi):  # without a limit
        last = dones["__all__"] | (before.step + 1 >= OPTIONS["hanabi"]["time_limit"])
        return Step(rewards["agent_0"], last, env_state)
    if isinstance(env, Overcooked):
        return Step(rewards["agent_0"], dones["__all__"], env_state)
    return Step(sum(rewards.values()), dones["__all__"], env_state)


@pytest.fixture(scope="module", params=sorted(WRAPPED))
def played(request):
    """Random episodes by the adapter and, with the same keys and actions, by what it wraps."""
    adapter, wrapped = small_env(request.param), WRAPPED[request.param]()

    def begin(reset_key, state, first):
        return own_reset(wrapped.env, jax.random.split(reset_key)[1])

    def read(own, step):
        state, after, timestep = step.state, step.next_state, step.timestep
        step_key = jax.random.split(state.key)[1]
        theirs = own_step(wrapped.env, step_key, own, step.actions)
        ours = Step(timestep.reward, timestep.last(), wrapped.state(after.env_state))
        seen = [(x.agents_view, x.global_state) for x in (step.observation, timestep.observation)]
        row = Played(
            ours=ours,
            theirs=theirs,
            ended=wrapped.truly_ended(state.env_state, after.env_state, step.actions),
            discount=timestep.discount,
            extras=timestep.extras,
            can_act=step.observation.action_mask.any(-1).all(),
            largest=jnp.stack([abs(x.astype(float)).max() for x in jax.tree.leaves(seen)]).max(),
            active=step.active,
        )
        return theirs.env_state, row

    def play(key):
        return random_episode(adapter, key, begin, read)[1]

    rows = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(3), NUM_EPISODES))
    raw = jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, rows)
    return wrapped, jax.device_get(raw)


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


@pytest.mark.slow
def test_transitions_are_those_of_the_wrapped_environment(played):
    """At least 1,000 steps; after its last step JaxMARL's state is of the next episode."""
    _, (ours, theirs, *_, active) = played
    assert active.sum() >= 1000
    np.testing.assert_array_equal(ours.last[active], theirs.last[active])
    np.testing.assert_allclose(ours.reward[active], theirs.reward[active], rtol=1e-5, atol=1e-6)
    going_on = active & ~ours.last
    chex.assert_trees_all_close(
        *(jax.tree.map(lambda x: x[going_on], s.env_state) for s in (ours, theirs)), rtol=1e-5
    )


def test_the_discount_is_0_at_true_ends_alone(played):
    """Also where the wrapped environment reports its time limit as an end."""
    wrapped, rows = played
    last, active = rows.ours.last, rows.active
    np.testing.assert_array_equal(active, np.cumsum(last, axis=1) - last == 0)
    np.testing.assert_array_equal(rows.discount[active], 1.0 - rows.ended[active])
    at_limit = active[:, -1]
    assert last[:, -1][at_limit].all()
    assert (rows.discount[:, -1][at_limit] == 1).any()
    assert rows.ended[active].any() == wrapped.ends


def test_every_agent_can_always_do_something_and_sees_a_few_units_alone(played):
    """What networks read, views and states, is small at every step."""
    _, rows = played
    assert rows.can_act[rows.active].all()
    assert (rows.largest[rows.active] <= LARGEST_FEATURE).all()


def test_extras_are_of_the_episode_so_far(played):
    _, rows = played
    active, reward = rows.active, rows.ours.reward
    (name,) = rows.extras.keys() - {"shaped_return"}
    extra = rows.extras[name]
    final = extra[np.arange(NUM_EPISODES), np.argmax(rows.ours.last, axis=1)]
    returns = (reward * active).sum(1)
    if name == "deliveries":
        np.testing.assert_allclose(final, returns, rtol=1e-5)
    elif name == "win_rate":
        assert set(final.tolist()) <= {0.0, 1.0}
        np.testing.assert_array_equal(final == 1, returns >= 1.9)
    elif name in ("food_share", "score"):
        np.testing.assert_allclose(final, returns, atol=1e-5)
    elif name in ("distance", "goal_distance"):
        assert (final > 0).all()
    else:
        assert ((final >= 0) & (final <= 1)).all()
        assert (np.diff(extra, axis=1)[active[:, 1:]] >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_nothing_is_wrong_with_it(name):
    """Views and states are small where the game is a grid."""
    env = small_env(name)
    assert check_env(env, num_episodes=4) == []
    _, first = jax.eval_shape(env.reset, jax.random.key(0))
    floats = name in ("smax", "hanabi") or name.startswith("mpe_")
    expected = jnp.float32 if floats else jnp.int8
    assert first.observation.agents_view.dtype == expected
    assert first.observation.global_state.dtype == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_an_episode_is_drawn_by_the_environments_own_viewer(name, tmp_path, capsys):
    env = small_env(name)
    check_gif(env, tmp_path / "new" / "x.gif")
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state, timestep = reset(jax.random.key(0))
    states = [state]
    for first in (1, 2):  # a move, then another one, which change something
        moves = timestep.observation.action_mask[:, first:5]
        state, timestep = step(state, jnp.argmax(moves, -1) + first)
        states.append(state)
    write_gif(env, states, tmp_path / "new" / "x.gif")
    with Image.open(tmp_path / "new" / "x.gif") as image:
        assert image.n_frames == 3
    assert capsys.readouterr().out == ""


UP, DOWN, RIGHT, LEFT, STAY, INTERACT = range(6)
FILL = [LEFT, INTERACT, RIGHT, UP, INTERACT]
"""From beside the onions at the left into the pot."""
FETCH_A_PLATE = [LEFT, DOWN, DOWN, INTERACT, UP, RIGHT, UP, *[STAY] * 14, INTERACT]
"""From the pot, and back to take the soup, which has cooked for 20 steps then."""
SERVE = [DOWN, RIGHT, DOWN, INTERACT]


@functools.cache
def cooked():
    """The steps of one cook who makes a soup, and the layers that JaxMARL shows."""
    env = small_env("overcooked")
    moves = jnp.array([*FILL, LEFT, *FILL, LEFT, *FILL, *FETCH_A_PLATE, *SERVE])

    def step(state, move):
        state, timestep = env.step(state, jnp.array([move, STAY]))
        theirs = jnp.stack(list(env.env.get_obs(state.env_state.state).values()))
        return state, (timestep, theirs)

    state, _ = env.reset(jax.random.key(0))
    return jax.device_get(jax.jit(lambda state: jax.lax.scan(step, state, moves))(state)[1])


def test_one_cook_serves_a_soup():
    """Shaped: 3 for each of three onions, 3 for the plate and 5 for the soup; the reward: 20."""
    steps, _ = cooked()
    assert steps.reward.tolist() == [0.0] * 42 + [20.0]
    rises = enumerate(np.diff(steps.extras["shaped_return"], prepend=0).tolist())
    paid = [(step, reward) for step, reward in rises if reward]
    assert paid == [(4, 3), (10, 3), (16, 3), (20, 3), (38, 5)]
    assert steps.extras["soups"].tolist() == [0.0] * 42 + [1.0]


def test_the_cooking_time_of_a_pot_is_in_two_layers():
    """JaxMARL has it in one, its layer 20, from 19 to 0 after the third onion."""
    steps, theirs = cooked()
    seen, theirs = steps.observation, theirs.astype(int)
    ours = seen.agents_view.reshape(*theirs.shape[:-1], 27).astype(int)
    np.testing.assert_array_equal(seen.global_state, seen.agents_view[:, 0])
    np.testing.assert_array_equal(np.delete(ours, (20, 26), -1), np.delete(theirs, 20, -1))
    left = (5 * ours[..., 20] + ours[..., 26]).max(axis=(2, 3))
    expected = [0] * 16 + [*range(19, 0, -1)] + [0] * 8
    assert left.T.tolist() == [expected] * 2
    assert ours.max() <= 4


def test_overcooked_starts_are_drawn_where_asked():
    drawn, fixed = (
        jax.vmap(ENVIRONMENTS["overcooked"](random_reset=random).reset)(
            jax.random.split(jax.random.key(0), 8)
        )[0].env_state.state.agent_pos
        for random in (True, False)
    )
    assert (fixed == fixed[0]).all()
    assert (drawn != drawn[0]).any()


def foraging_reward(levels, foods, loaders, normalize):
    """The team's, where the first agents load the first piece, and the others do nothing."""
    options = {"num_agents": len(levels), "penalty": 1.0, "normalize_reward": normalize}
    env = make_env(from_dict({"env": {"name": "level_based_foraging", "options": options}}))
    state, _ = env.reset(jax.random.key(0))
    inner = state.env_state
    beside, away = [[1, 2], [3, 2]], [[0, 0], [7, 7]]  # of the first piece, at 2, 2
    places = jnp.array([*beside[:loaders], *away][: len(levels)])
    agents = inner.agents.replace(position=places, level=jnp.array(levels))
    pieces = inner.food_items.replace(position=jnp.array([[2, 2], [5, 5]]), level=jnp.array(foods))
    state = state._replace(env_state=inner.replace(agents=agents, food_items=pieces))
    actions = jnp.where(jnp.arange(len(levels)) < loaders, 5, 0)
    return float(env.step(state, actions)[1].reward)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "foods", "loaders", "expected", "unnormalised"),
    [
        ([1, 1], [2, 2], 1, -2 / (1 * 4), -2),  # two agents; a load of level 1, all food of level 4
        ([2, 2], [4, 4], 1, -2 / (2 * 8), -2),
        ([1, 2], [3, 2], 1, -2 / (1 * 5), -2),
        ([1, 1, 2], [4, 2], 2, -3 / (2 * 6), -3),
        ([1, 2], [3, 2], 2, 3 / 5, 3 * 3),  # eaten
        ([1, 2], [3, 2], 0, 0, 0),
    ],
)
def test_a_load_that_is_too_weak_costs_what_the_docstring_says(
    levels, foods, loaders, expected, unnormalised
):
    rewards = [foraging_reward(levels, foods, loaders, normalize) for normalize in (True, False)]
    np.testing.assert_allclose(rewards, [expected, unnormalised], rtol=1e-6)


def test_foraging_has_grids_as_views_where_asked():
    """Levels of agents, levels of food and free cells, 5 by 5 around the agent in the middle."""
    env = ENVIRONMENTS["level_based_foraging"](fov=2, grid_observation=True)
    _, first = env.reset(jax.random.key(0))
    assert first.observation.agents_view.shape == (2, 3 * 5 * 5)
    agents, food, free = np.moveaxis(first.observation.agents_view.reshape(2, 3, 5, 5), 1, 0)
    np.testing.assert_array_equal(
        agents[:, 2, 2], env.reset(jax.random.key(0))[0].env_state.agents.level
    )
    assert not (free & ((agents > 0) | (food > 0))).any()


@pytest.mark.parametrize(
    ("players", "asked", "cards", "actions"),
    [(2, 0, 5, 21), (3, 0, 5, 31), (4, 0, 4, 39), (5, 0, 4, 49), (4, 5, 5, 41)],
)
def test_a_hand_of_hanabi_is_as_large_as_asked_or_as_the_rules_have_it(
    players, asked, cards, actions
):
    """Actions: a card to discard or to play, 5 colours and 5 ranks to each other player, none."""
    env = ENVIRONMENTS["hanabi"](num_agents=players, hand_size=asked)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    assert state.env_state.state.player_hands.shape == (players, cards, 5, 5)
    assert env.num_actions == actions == 2 * cards + (players - 1) * (5 + 5) + 1


def stepped(env, action, steps):
    """States and timesteps where all agents repeat one action."""

    def step(state, _):
        state, timestep = env.step(state, jnp.full(env.num_agents, action))
        return state, (state.env_state, timestep)

    return jax.jit(lambda key: jax.lax.scan(step, env.reset(key)[0], length=steps)[1])(
        jax.random.key(0)
    )


@pytest.mark.slow
def test_smax_walls_and_enemies_are_harmless_where_asked():
    """West for 8 steps: the wall is 8 away, and a marine walks 1.6 a step."""
    west = 3
    state, _ = stepped(small_env("smax"), west, 8)
    assert not state.state.unit_alive[-1, :3].any()
    env = ENVIRONMENTS["smax"](walls_cause_death=False, enemy_shoots=False, see_enemy_actions=False)
    state, timestep = stepped(env, west, 30)
    assert state.state.unit_alive.all()
    assert (state.state.unit_health == 45).all()
    views = np.asarray(timestep.observation.agents_view)[..., : 5 * 13].reshape(30, 3, 5, 13)
    seen = views[..., 0] > 0
    moves = np.abs(views[..., 3:5]).max(-1)  # two allies, then three enemies
    assert seen[:, :, 2:].any()
    assert (moves[:, :, :2] > 0)[seen[:, :, :2]].any()
    assert not moves[:, :, 2:].any()


def test_smax_pays_for_the_end_alone_in_self_play():
    env = ENVIRONMENTS["smax"](
        attack_mode="random", use_self_play_reward=True, won_battle_bonus=5.0, time_limit=40
    )
    assert env.env.attack_mode == "random"
    _, timestep = stepped(env, 4, 40)
    end = int(np.argmax(timestep.last()))
    assert timestep.discount[end] == 0
    assert timestep.reward[: end + 1].tolist() == [0.0] * end + [-5.0]


def test_smax_has_conic_views_where_asked():
    """Two units in each of 32 directions of 13 features each, and 10 of the agent's own."""
    env = ENVIRONMENTS["smax"](observation_type="conic")
    _, first = jax.eval_shape(env.reset, jax.random.key(0))
    assert first.observation.agents_view.shape == (3, 2 * 32 * 13 + 10)


def test_spread_has_as_many_landmarks_as_asked():
    env = ENVIRONMENTS["mpe_spread"](num_agents=2, num_landmarks=4)
    state, first = env.reset(jax.random.key(0))
    positions = np.asarray(state.env_state.p_pos)
    assert positions.shape == (2 + 4, 2)
    assert first.observation.agents_view.shape == (2, 4 + 2 * 4 + 2 + 2)
    apart = np.linalg.norm(positions[2:, None] - positions[None, :2], axis=-1)
    np.testing.assert_allclose(first.extras["distance"], apart.min(-1).sum(), rtol=1e-5)


def test_connector_pays_what_is_asked_on_uniform_grids():
    env = ENVIRONMENTS["connector"](
        5, 3, generator="uniform", connected_reward=4.0, penalty_per_timestep=0.5, time_limit=12
    )
    assert type(env.env._generator) is connector.generator.UniformRandomGenerator

    def read(carried, step):
        before, after = (s.env_state.agents.connected for s in (step.state, step.next_state))
        return carried, (step.active, before, after, step.timestep.reward)

    def play(key):
        return random_episode(env, key, lambda *_: 0, read)[1]

    active, before, after, reward = jax.device_get(
        jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(1), 32))
    )
    expected = 4.0 * (after & ~before).sum(-1) - 0.5 * (~before).sum(-1)
    np.testing.assert_allclose(reward[active], expected[active], rtol=1e-6)
    assert (expected[active] > 0).any()


@pytest.mark.slow
def test_a_card_that_fits_pays_and_the_last_life_takes_it_back():
    """Two cards a hand: actions 0 and 1 discard, 2 and 3 play, the last one does nothing."""
    options = {"num_colors": 2, "num_ranks": 2, "hand_size": 2, "life_tokens": 1}
    env = ENVIRONMENTS["hanabi"](**options)
    state, first = jax.jit(env.reset)(jax.random.key(1))
    hands, nothing = state.env_state.state.player_hands, env.num_actions - 1
    assert first.observation.action_mask[0].tolist()[:4] == [False, False, True, True]
    assert first.observation.action_mask[1].tolist() == [False] * nothing + [True]
    np.testing.assert_array_equal(first.observation.agents_view[1][:8], hands[0].ravel())
    np.testing.assert_array_equal(first.observation.global_state[-10:-2], hands[0].ravel())
    np.testing.assert_array_equal(first.observation.global_state[-2:], [1, 0])
    assert hands[:, 0, 0, 0].tolist() == [1, 1]  # each holds a 1 of the first colour
    after, second = jax.jit(env.step)(state, jnp.array([2, nothing]))
    assert (second.reward, second.discount, second.extras["score"]) == (1, 1, 1)
    assert second.observation.action_mask[:, -1].tolist() == [True, False]
    _, third = jax.jit(env.step)(after, jnp.array([nothing, 2]))
    assert (third.reward, third.discount, third.extras["score"]) == (-1, 0, 0)


def test_a_word_of_the_speaker_is_what_the_listener_sees_next():
    env = ENVIRONMENTS["mpe_speaker_listener"]()
    state, first = jax.jit(env.reset)(jax.random.key(0))
    speaker, listener = np.asarray(first.observation.agents_view)
    np.testing.assert_allclose(np.sort(speaker), [0] * 8 + [0.15, 0.15, 0.65], rtol=1e-6)
    assert speaker[:3].argmax() == state.env_state.goal
    np.testing.assert_array_equal(listener[-3:], 0)
    assert first.observation.action_mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    _, after = jax.jit(env.step)(state, jnp.array([2, 0]))
    np.testing.assert_array_equal(after.observation.agents_view[1, -3:], [0, 0, 1])
    distance = after.extras["goal_distance"]
    np.testing.assert_allclose(after.reward, -(distance**2), rtol=1e-5)


def test_each_sees_the_other_s_goal_and_hears_its_word():
    """The first agent goes left and says word 7, the second waits and says word 0."""
    env = ENVIRONMENTS["mpe_reference"]()
    assert env.num_actions == 5 * 10
    state, first = jax.jit(env.reset)(jax.random.key(0))
    of_goals = first.observation.agents_view[:, 8:11]
    assert of_goals.argmax(-1).tolist() == state.env_state.goal[::-1].tolist()
    np.testing.assert_array_equal(first.observation.agents_view[:, 11:], 0)
    assert first.observation.action_mask.all()
    _, after = jax.jit(env.step)(state, jnp.array([1 + 5 * 7, 0]))
    assert (after.observation.agents_view[:, 0] < 0).tolist() == [True, False]
    np.testing.assert_array_equal(after.observation.agents_view[:, 11:], np.eye(10)[[0, 7]])
    assert after.extras["goal_distance"] > 0
    np.testing.assert_allclose(after.reward, -2 * after.extras["goal_distance"], rtol=1e-6)


def test_connector_shows_each_agent_its_own_head_and_target():
    env = small_env("connector")
    state, timestep = jax.jit(env.reset)(jax.random.key(0))
    agents = state.env_state.agents
    views = np.asarray(timestep.observation.agents_view).reshape(3, 5, 5, 5)
    for i in range(3):
        head, target, heads, targets, _ = views[i]
        assert np.argwhere(head).tolist() == [list(agents.position[i])]
        assert np.argwhere(target).tolist() == [list(agents.target[i])]
        assert heads.sum() == targets.sum() == 2
    moves = jnp.argmax(timestep.observation.action_mask[:, 1:], -1) + 1
    state, timestep = jax.jit(env.step)(state, moves)
    paths = np.asarray(timestep.observation.agents_view).reshape(3, 5, 5, 5)[:, 4]
    assert (paths == paths[0]).all()
    assert paths[0].sum() == (state.env_state.agents.position != agents.position).any(-1).sum()


FULL = {"shelf_rows": 1, "column_height": 1, "num_agents": 40, "request_queue_size": 1}
"""As many robots as the warehouse has cells."""

BAD = [
    ("level_based_foraging", {"grid_size": 4}, "grid_size is 4; allowed: a whole number from 5"),
    ("level_based_foraging", {"num_food": 9}, "food"),
    ("level_based_foraging", {"time_limit": 0}, "time_limit is 0; allowed: a whole number from 1"),
    ("level_based_foraging", {"max_agent_level": 100}, "max_agent_level is 100; allowed"),
    ("level_based_foraging", {"penalty": float("nan")}, "penalty is nan; allowed: a number from"),
    ("cleaner", {"penalty_per_timestep": -5.0}, "penalty_per_timestep is -5.0; allowed: a number"),
    ("cleaner", {"size": True}, "size is True; allowed: a whole number from 3"),
    (
        "robot_warehouse",
        {"shelf_rows": 7, "column_height": 20},
        "height make 149 cells; allowed: 127",
    ),
    ("robot_warehouse", FULL | {"num_agents": 41}, "is 41; allowed: a whole number from 1 to 40"),
    ("robot_warehouse", {"shelf_columns": 2}, "`shelf_columns`, must be an odd number"),
    ("robot_warehouse", {"request_queue_size": 0}, "request_queue_size is 0; allowed"),
    ("connector", {"num_agents": 100}, "num_agents is 100; allowed: a whole number from 1 to 50"),
    ("connector", {"generator": "maze"}, "generator is 'maze'; allowed: random_walk, uniform"),
    ("smax", {"scenario": "3n"}, "scenario is '3n'; allowed: 10m_vs_11m, 25m"),
    ("smax", {"attack_mode": "weakest"}, "attack_mode is 'weakest'; allowed: closest, random"),
    ("smax", {"observation_type": "grid"}, "observation_type is 'grid'; allowed: conic, unit_list"),
    ("mpe_spread", {"local_ratio": 2.0}, "local_ratio is 2.0; allowed: a number from 0 to 1"),
    (
        "hanabi",
        {"num_colors": 1, "num_ranks": 2, "hand_size": 2},
        "make 4 cards to deal; allowed: 3",
    ),
    ("hanabi", {"num_agents": 5, "num_colors": 2}, "make 20 cards to deal; allowed: 19"),
    ("hanabi", {"num_ranks": 1}, "num_ranks is 1; allowed: a whole number from 2 to 5"),
    ("hanabi", {"hand_size": 6}, "hand_size is 6; allowed: a whole number from 0 to 5"),
    ("overcooked", {"layout": "ring"}, "layout is 'ring'; allowed: asymm_advantages, coord_ring"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD, ids=str)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        ENVIRONMENTS[name](**options)
    assert "\n" not in str(error.value)


def test_as_many_robots_as_cells_have_a_cell_each():
    state, _ = jax.jit(ENVIRONMENTS["robot_warehouse"](**FULL).reset)(jax.random.key(0))
    position = state.env_state.agents.position
    assert len(set(zip(position.x.tolist(), position.y.tolist(), strict=True))) == 40


TOO_SMALL_OR_LARGE = {int: (-(2**63), -1, 2**63, 10**400), float: (-1.0, 1e30, float("inf"))}
NUMBERS = [
    (name, option, value)
    for name in ENVIRONMENTS
    for option, default in default_options(name).items()
    if type(default) in TOO_SMALL_OR_LARGE
    for value in TOO_SMALL_OR_LARGE[type(default)]
]


@pytest.mark.parametrize(("name", "option", "value"), NUMBERS)
def test_every_number_has_a_smallest_and_a_largest_value(name, option, value):
    with pytest.raises(ValueError, match=option) as error:
        ENVIRONMENTS[name](**{option: value})
    assert "\n" not in str(error.value)


def test_without_jaxmarl_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jaxmarl", None)
    with pytest.raises(ValueError, match=r"needs JaxMARL .* pip install 'maven-jax\[smax\]'"):
        ENVIRONMENTS["smax"]()


def test_every_option_has_a_default():
    """`maven-jax train` lists them as options of its own."""
    for make in ENVIRONMENTS.values():
        for parameter in inspect.signature(make).parameters.values():
            assert parameter.default is not inspect.Parameter.empty
