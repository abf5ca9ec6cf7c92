import functools
import itertools
import json

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jaxtyping import TypeCheckError
from jumanji.testing.env_not_smoke import check_env_does_not_smoke, check_env_specs_does_not_smoke
from jumanji.types import StepType

from maven_jax.envs import MStepMatrixGame

SIZES = [(1, 2), (1, 4), (2, 2), (3, 4), (5, 2)]


@functools.cache
def compiled_play(m, good_branches):
    env = MStepMatrixGame(m, good_branches)

    def play(actions):
        state, first = env.reset(jax.random.key(0))
        _, rest = jax.lax.scan(env.step, state, actions)
        return jax.tree.map(lambda head, tail: jnp.concatenate([head[None], tail]), first, rest)

    return jax.jit(jax.vmap(play))


def episodes(m, good_branches, actions):
    """Time steps [B, m + 1] of the episodes that `actions` [B, m, 2] play, in numpy."""
    return jax.device_get(compiled_play(m, good_branches)(np.asarray(actions, np.int32)))


def test_agrees_with_every_recorded_episode(golden_dir):
    paths = sorted(golden_dir.glob("env_*.npz"))
    assert paths, f"no env_*.npz in {golden_dir}"
    for path in paths:
        case = np.load(path)
        config = json.loads(str(case["config"]))
        steps = episodes(**config, actions=case["actions"])
        last = steps.step_type == StepType.LAST
        valid = case["valid"]
        seen = np.concatenate([np.ones_like(valid[:, :1]), valid], axis=1)
        observation = steps.observation
        check = functools.partial(np.testing.assert_array_equal, err_msg=path.name)

        check(steps.reward[:, 1:][valid], case["reward"][valid])
        check(last[:, 1:][valid], case["terminated"][valid])
        check(steps.discount[:, 1:][valid], 1 - case["terminated"][valid])
        check(observation.global_state[seen], case["state"][seen])
        for agent in range(observation.agents_view.shape[-2]):
            check(observation.agents_view[seen][:, agent], case["state"][seen])


@pytest.mark.parametrize(
    ("m", "good_branches", "actions", "rewards"),
    [
        (1, 2, [(0, 0)], [1]),
        (1, 2, [(0, 1)], [0]),
        (1, 4, [(0, 1)], [1]),
        (2, 2, [(0, 0), (1, 1)], [1, 4]),
        (2, 2, [(1, 0), (1, 0)], [0]),
        (3, 2, [(0, 0), (0, 0), (1, 1)], [1, 1, 4]),
        (3, 2, [(0, 0), (0, 0), (0, 1)], [1, 1, 1]),
        (3, 2, [(0, 0), (1, 1), (1, 1)], [1, 0]),
        (3, 2, [(1, 1), (1, 1), (1, 1)], [1, 1, 1]),
        (3, 2, [(1, 1), (1, 1), (0, 0)], [1, 1, 0]),
        (3, 4, [(1, 0), (1, 0), (1, 0)], [1, 1, 1]),
        (3, 4, [(1, 0), (0, 1), (1, 0)], [1, 0]),
    ],
)
def test_hand_computed_episode(m, good_branches, actions, rewards):
    steps = jax.tree.map(lambda x: x[0], episodes(m, good_branches, [actions]))
    length = len(rewards)
    ended = [False] * length + [True] * (m + 1 - length)
    np.testing.assert_array_equal(steps.reward, [0, *rewards] + [0] * (m - length))
    np.testing.assert_array_equal(steps.step_type == StepType.LAST, ended)
    np.testing.assert_array_equal(steps.discount, 1.0 - np.array(ended))
    counts = np.minimum(np.arange(m + 1), length)
    np.testing.assert_array_equal(steps.observation.step_count, counts)


def test_hand_computed_observations():
    steps = episodes(2, 2, [[(1, 1), (1, 1)]])
    expected = [[1, 0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0, 1]]
    np.testing.assert_array_equal(steps.observation.global_state[0], expected)
    np.testing.assert_array_equal(steps.observation.agents_view[0, :, 1], expected)
    assert steps.observation.action_mask.all()


@pytest.mark.parametrize(("m", "good_branches"), SIZES)
def test_optimal_return_is_the_best_of_all_episodes(m, good_branches):
    sequences = list(itertools.product([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=m))
    returns = episodes(m, good_branches, sequences).reward.sum(axis=-1)
    assert MStepMatrixGame(m, good_branches).optimal_return == returns.max()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.sampled_from(SIZES))
def test_any_episode(data, size):
    m, _ = size
    joint_action = st.tuples(st.integers(0, 1), st.integers(0, 1))
    actions = data.draw(st.lists(joint_action, min_size=m, max_size=m))
    steps = jax.tree.map(lambda x: x[0], episodes(*size, [actions]))
    rewards, discounts = steps.reward[1:], steps.discount[1:]

    assert 0 <= rewards.sum() <= MStepMatrixGame(*size).optimal_return
    end = int(np.argmin(discounts))
    assert discounts[end] == 0
    assert (discounts[:end] == 1).all()
    assert (rewards[:end] > 0).all()
    assert rewards[end] == 0 or end == m - 1
    assert not rewards[end + 1 :].any()
    assert not discounts[end + 1 :].any()
    opened = 2 * actions[0][0] + actions[0][1]
    for branch in range(4):
        taken = steps.extras[f"branch_{branch}"]
        assert taken[0] == 0
        assert (taken[1:] == (branch == opened)).all()


@pytest.mark.parametrize(("m", "good_branches"), [(1, 2), (5, 2)])
def test_vmap_and_jit_change_nothing(m, good_branches):
    env = MStepMatrixGame(m, good_branches)
    actions = np.random.default_rng(0).integers(2, size=(3, m, 2), dtype=np.int32)
    batched = episodes(m, good_branches, actions)
    for i, sequence in enumerate(actions):
        state, timestep = env.reset(jax.random.key(0))
        timesteps = [timestep]
        for action in sequence:
            state, timestep = env.step(state, jnp.asarray(action))
            timesteps.append(timestep)
        plain = jax.tree.map(lambda *x: np.stack(x), *timesteps)
        chex.assert_trees_all_equal(plain, jax.tree.map(lambda x, i=i: x[i], batched))


@pytest.mark.parametrize(("m", "good_branches"), SIZES)
def test_jumanji_checks(m, good_branches):
    env = MStepMatrixGame(m, good_branches)
    check_env_does_not_smoke(env)
    check_env_specs_does_not_smoke(env)
    state, timestep = env.reset(jax.random.key(0))
    env.observation_spec.validate(timestep.observation)
    env.observation_spec.validate(env.observation_spec.generate_value())
    env.reward_spec.validate(timestep.reward)
    env.discount_spec.validate(timestep.discount)
    assert env.action_spec.num_values.tolist() == [env.num_actions] * env.num_agents
    after = jax.eval_shape(env.step, state, env.action_spec.generate_value())
    chex.assert_trees_all_equal_shapes_and_dtypes((state, timestep), after)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        *(("m", value, "an integer from 1") for value in (0, -3, True)),
        *(("good_branches", value, "one of .*2, 4") for value in (0, 3, True)),
    ],
)
def test_impossible_sizes_are_refused(argument, value, allowed):
    with pytest.raises(ValueError, match=rf"^{argument} must be {allowed}.* got {value}$"):
        MStepMatrixGame(**{argument: value})


@pytest.mark.parametrize("wrong", [{"m": 2.5}, {"m": "3"}, {"good_branches": "2"}])
def test_wrong_type_is_refused(wrong):
    """Under a runtime type checker the checker speaks first."""
    with pytest.raises((ValueError, TypeCheckError), match=next(iter(wrong))):
        MStepMatrixGame(**wrong)
