import importlib
import itertools

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jumanji
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis.extra.numpy import arrays
from jaxtyping import TypeCheckError
from jumanji.testing.env_not_smoke import check_env_does_not_smoke, check_env_specs_does_not_smoke
from jumanji.types import StepType
from small_experiments import refused

import maven_jax.envs
from maven_jax.cli.main import run
from maven_jax.config import Config, EnvConfig
from maven_jax.environments.registry import complete, make_env
from maven_jax.envs import MatrixGame
from maven_jax.envs.matrix_game import PAYOFFS
from maven_jax.experiments.run import load_run

SMALL = """
algorithm: qmix
env: {name: matrix_game, options: %s}
network: {hidden_size: 8, mixer_embed_size: 4}
training: {total_env_steps: 20, batch_size: 4, replay_size: 16, updates_per_evaluation: 5}
evaluation: {episodes: 4}
"""


def play_all(env):
    """Every joint action [A ** N, N], and the time steps [A ** N, 3] of playing each twice."""
    actions = list(itertools.product(range(env.num_actions), repeat=env.num_agents))

    def play(action):
        state, first = env.reset(jax.random.key(0))
        _, rest = jax.lax.scan(env.step, state, jnp.stack([action, action]))
        return jax.tree.map(lambda head, tail: jnp.concatenate([head[None], tail]), first, rest)

    actions = np.array(actions, np.int32)
    return actions, jax.device_get(jax.jit(jax.vmap(play))(actions))


def test_payoffs_of_the_named_games():
    expected = {
        "non_monotonic": [[10.4, 0, 10], [0, 10, 10], [10, 10, 10]],
        "qtran": [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]],
        "penalty": [[-100, 0, 10], [0, 2, 0], [10, 0, -100]],
        "climbing": [[11, -30, 0], [-30, 7, 6], [0, 0, 5]],
    }
    assert expected == PAYOFFS
    for game, table in expected.items():
        np.testing.assert_array_equal(MatrixGame(game).payoff, table)
    assert MatrixGame().game == "non_monotonic"


@st.composite
def tables(draw):
    num_agents, num_actions = draw(st.sampled_from([(1, 4), (2, 3), (3, 2), (33, 1)]))
    numbers = st.floats(-1e6, 1e6, width=32)
    return draw(arrays(np.float32, (num_actions,) * num_agents, elements=numbers))


@settings(max_examples=20, deadline=None)
@given(tables())
@example(np.array([0.0, 5e-39, 5e-39, -5e-39], np.float32))  # which XLA takes for zeros
def test_every_joint_action_of_any_game_pays_its_entry_and_ends_it(payoff):
    num_agents, num_actions = payoff.ndim, payoff.shape[0]
    env = MatrixGame(payoff=payoff.tolist())
    assert (env.num_agents, env.num_actions, env.time_limit) == (num_agents, num_actions, 1)
    actions, steps = play_all(env)
    entries = payoff[tuple(actions.T)]

    np.testing.assert_array_equal(steps.reward[:, 0], 0)
    np.testing.assert_array_equal(steps.reward[:, 1], entries)
    np.testing.assert_array_equal(steps.reward[:, 2], 0)
    np.testing.assert_array_equal(steps.discount, [[1, 0, 0]] * len(actions))
    last = steps.step_type == StepType.LAST
    np.testing.assert_array_equal(last, [[False, True, True]] * len(actions))
    best = entries == payoff.max()
    np.testing.assert_array_equal(steps.extras["optimal"], np.stack([0 * best, best, best], 1))
    assert env.optimal_return == payoff.max()
    shapes = [(num_agents, 1), (num_agents, num_actions), (1,)]
    for leaf, shape in zip(steps.observation, shapes, strict=True):
        np.testing.assert_array_equal(leaf, np.ones((len(actions), 3, *shape)))


def test_a_second_step_changes_nothing():
    """Also where it would have paid otherwise: agents index the table's axes in their order."""
    env = MatrixGame("climbing")
    state, _ = env.reset(jax.random.key(0))
    assert env.step(state, jnp.array([1, 2]))[1].reward == 6
    assert env.step(state, jnp.array([2, 1]))[1].reward == 0
    ended, first = env.step(state, jnp.array([0, 0]))
    again, second = env.step(ended, jnp.array([1, 2]))
    chex.assert_trees_all_equal(ended, again)
    assert (first.reward, second.reward, second.extras["optimal"]) == (11, 0, 1)


@pytest.mark.parametrize(
    "env", [MatrixGame("penalty"), MatrixGame(payoff=[1, 2]), MatrixGame(payoff=[[[5]]])], ids=repr
)
def test_jumanji_checks(env):
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


def test_forms_of_a_payoff():
    """As YAML reads it, 1e0 is a string."""
    lists, tuples, strings = [[1, 2.5], [3, 4]], ((1, 2.5), (3, 4)), [["1e0", 2.5], [3, 4]]
    for payoff in (lists, tuples, strings, np.array(lists), jnp.array(lists)):
        env = MatrixGame(payoff=payoff)
        np.testing.assert_array_equal(env.payoff, lists)
        assert env.game is None
        assert repr(env) == "MatrixGame(payoff=[[1.0, 2.5], [3.0, 4.0]])"


GAMES = "game must be one of non_monotonic, qtran, penalty, climbing, got"
NESTED = "payoff must be lists of numbers nested one level for each agent, all of the same length"
WITHIN_ITSELF = []
WITHIN_ITSELF.append(WITHIN_ITSELF)
BAD = [
    ({"game": "non_monotone"}, f"{GAMES} 'non_monotone'; did you mean 'non_monotonic'?"),
    ({"game": "zzz"}, f"{GAMES} 'zzz'"),
    ({"game": "qtran", "payoff": [1]}, "game must be left out where payoff is given, got 'qtran'"),
    *(
        ({"payoff": payoff}, f"{NESTED}, the number of actions, got {got}")
        for payoff, got in (
            (3.0, "3.0"),
            ("qtran", "'qtran'"),
            ([], "[]"),
            ([[], []], "[[], []]"),
            ([[1, 2], [3]], "[[1, 2], [3]]"),
            ([[1, 2], 3], "[[1, 2], 3]"),
            ([[1, 2, 3], [4, 5, 6]], "[[1, 2, 3], [4, 5, 6]]"),
            ([[[1, 2], [3, 4]], [[1, 2], [3]]], "[[[1, 2], "),
            ([np.ones((2, 2)), np.ones((2, 3))], ""),
            (np.ones((2, 1)), "[[1.0], [1.0]]"),
            (np.ones((99, 98)), "[[1.0, "),
            (WITHIN_ITSELF, "[["),
        )
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[line for _, line in BAD])
def test_bad_arguments_are_refused_in_a_line(arguments, message):
    with pytest.raises(ValueError, match=r"^(game|payoff) must be ") as error:
        MatrixGame(**arguments)
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "entry", [float("nan"), -float("inf"), 1e39, 10**400, "x", None, True, {"a": 1}, 1j]
)
def test_entry_that_is_no_finite_number_is_refused(entry):
    message = r"^payoff must hold numbers that are finite .*, got .* at \[1, 0\]$"
    with pytest.raises(ValueError, match=message):
        MatrixGame(payoff=[[1, 2], [entry, 4]])


@pytest.mark.parametrize("wrong", [{"game": 3}, {"game": None}, {"payoff": {"a": 1}}])
def test_wrong_type_is_refused(wrong):
    """Under a runtime type checker the checker speaks first."""
    with pytest.raises((ValueError, TypeCheckError), match=next(iter(wrong))):
        MatrixGame(**wrong)


def test_registered_with_jumanji_once(recwarn):
    """However often it is imported."""
    importlib.reload(maven_jax.envs)
    assert repr(jumanji.make("MatrixGame-v0", game="qtran")) == "MatrixGame(game='qtran')"
    env = jumanji.make("MStepMatrixGame-v0", m=5, good_branches=4)
    assert repr(env) == "MStepMatrixGame(m=5, good_branches=4)"
    assert (env.num_agents, env.num_actions, env.time_limit) == (2, 2, 5)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({}, {"game": "non_monotonic"}),
        ({"game": "qtran"}, {"game": "qtran"}),
        ({"payoff": [[1, 0], [0, 2]]}, {"payoff": [[1, 0], [0, 2]]}),
    ],
)
def test_options_that_a_run_records(options, recorded):
    config = complete(Config(env=EnvConfig("matrix_game", options)))
    assert config.env.options == recorded
    assert repr(make_env(config)) == repr(MatrixGame(**options))


@pytest.mark.slow
def test_the_command_line_trains_on_a_table_from_a_file(tmp_path):
    config, out = tmp_path / "small.yaml", tmp_path / "run"
    config.write_text(SMALL % "{payoff: [[1, 0], [0, 2.5]]}")
    arguments = ["train", str(config), "--seeds", "1", "--no-tensorboard", "--out", str(out)]
    assert run(arguments) == 0
    loaded = load_run(out)
    assert loaded.config.env.options == {"payoff": [[1, 0], [0, 2.5]]}
    assert loaded.final("extras/optimal")[0] == (loaded.final("return")[0] == 2.5)
    assert run(["evaluate", str(out)]) == 0


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{game: qtrann}", "env.options: game must be one of "),
        ("{game: 3}", "env.options.game is 3; allowed: a string"),
        ("{payoff: 3}", "env.options: payoff must be lists of numbers "),
        ("{payoff: [[1, 2], [.nan, 4]]}", "env.options: payoff must hold numbers "),
        ("{payof: [1, 2]}", "unknown option of environment matrix_game 'payof'; did you mean"),
        ("{viewer: [1, 2]}", "unknown option of environment matrix_game 'viewer'; allowed: "),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(written, message, capsys, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL % written)
    command = ["train", tmp_path / "small.yaml", "--out", tmp_path / "run"]
    assert refused(capsys, *command).startswith(message)
    assert not (tmp_path / "run").exists()
