"""Configuration: what is read, what is refused, and in which words."""

import copy
import dataclasses
import math
import pickle
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from helpers import CUSTOM

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.config import Config, EnvConfig, from_dict, override, to_dict
from maven_jax.config.fields import flatten, with_field
from maven_jax.configs import config_names, packaged_configs
from maven_jax.environments.registry import ENVIRONMENTS, complete, make_env
from maven_jax.envs.adapters.jaxmarl_adapter import JaxMarlAdapter
from maven_jax.errors import ConfigError
from maven_jax.training.train import make_trainer
from maven_jax.validation.checks import validate
from maven_jax.validation.files import load_config


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged_configs())
def test_every_packaged_configuration_is_valid(name):
    config = load_config(name)
    if issubclass(ENVIRONMENTS[config.env.name], JaxMarlAdapter):
        pytest.importorskip("jaxmarl", reason=f"{name} needs jaxmarl, which is not installed")
    make_trainer(config, make_env(config))


def test_every_algorithm_s_name_stands_for_a_configuration():
    for name, row in ALGORITHMS.items():
        family = load_config("maven" if row.has_latent else "qmix")
        assert load_config(name) == dataclasses.replace(family, algorithm=name)
        assert name in config_names()


def test_a_configuration_is_a_static_argument():
    traced = []

    @partial(jax.jit, static_argnames="config")
    def size(x, config):
        traced.append(config)
        return x * config.env.options["payoff"][1][0]

    def made():
        return from_dict({"env": {"name": "matrix_game", "options": {"payoff": [[1, 2], [3, 4]]}}})

    assert size(jnp.float32(2.0), config=made()) == 6.0
    assert size(jnp.float32(3.0), config=made()) == 9.0
    assert len(traced) == 1
    assert len({Config(), from_dict({}), made(), made()}) == 2


def test_options_cannot_be_changed_and_equal_any_mapping_of_the_same():
    given = {"payoff": [[1, 0], [0, 2]], "game": "qtran"}
    env = EnvConfig("matrix_game", given)
    given["payoff"][0][0] = 5
    assert env.options == {"game": "qtran", "payoff": [[1, 0], [0, 2]]}
    assert env.options != given
    with pytest.raises(TypeError):
        env.options["game"] = "penalty"
    same = [copy.deepcopy(env), pickle.loads(pickle.dumps(env)), dataclasses.replace(env)]
    for array in (np.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])):
        same.append(EnvConfig("matrix_game", {"payoff": array, "game": "qtran"}))
    assert same == [env] * 5
    assert {hash(each) for each in same} == {hash(env)}


def test_yaml_round_trip(tmp_path):
    of_numpy = placed(Config(), "training.num_envs", np.int64(2))
    validate(of_numpy)
    game = Config(env=EnvConfig("matrix_game", {"payoff": [[1, 0], [0, 2.5]]}))
    for config in (load_config("maven"), game, of_numpy):
        assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(tmp_path / "empty.yaml") == Config()


def test_overrides_leave_the_rest_alone():
    config = from_dict({"training": {"batch_size": 7}, "hyperparameters": {"gamma": 1}})
    assert config.training == dataclasses.replace(Config().training, batch_size=7)
    assert config.hyperparameters == Config().hyperparameters._replace(gamma=1.0)
    assert type(config.hyperparameters.gamma) is float


def test_another_environment_takes_no_options_along():
    config = from_dict({"env": {"options": {"m": 3}}})
    assert override(config, {"env": {"name": "m_step_matrix"}}) == config
    assert override(config, {"env": {"name": "cleaner"}}).env == EnvConfig("cleaner")
    beside = {"name": "cleaner", "options": {"size": 3}}
    assert override(config, {"env": beside}).env == EnvConfig("cleaner", {"size": 3})


@pytest.mark.parametrize(
    ("written", "number"), [("2e3", 2000), ("1E6", 10**6), ("2.5e1", 25), ("3.0", 3), ("4e0", 4)]
)
def test_whole_numbers_in_scientific_notation(written, number):
    config = from_dict(yaml.safe_load(f"training: {{batch_size: {written}}}"))
    assert config.training.batch_size == number
    assert type(config.training.batch_size) is int
    game = from_dict(yaml.safe_load(f"env: {{options: {{m: {written}}}}}"))
    assert complete(game).env.options["m"] == number
    assert with_field(Config(), "training.batch_size", float(written)) == config


def test_scientific_notation_that_yaml_reads_as_a_string_is_a_number():
    overrides = yaml.safe_load("hyperparameters: {learning_rate: 5e-4}")
    assert from_dict(overrides).hyperparameters.learning_rate == 5e-4


def test_numbers_of_numpy_and_jax_are_numbers():
    overrides = {
        "env": {"options": {"m": np.int64(5)}},
        "training": {"num_envs": np.int64(2), "double_q": np.bool_(True)},
        "hyperparameters": {"gamma": np.float32(0.5), "td_lambda": jnp.float32(0.25)},
    }
    plain = {
        "env": {"options": {"m": 5}},
        "training": {"num_envs": 2, "double_q": True},
        "hyperparameters": {"gamma": 0.5, "td_lambda": 0.25},
    }
    assert repr(from_dict(overrides)) == repr(from_dict(plain))
    with pytest.raises(ConfigError, match=r"^network.hidden_size is -3; allowed: a whole number"):
        validate(placed(Config(), "network.hidden_size", np.int64(-3)))


def placed(config, field, value):
    """The configuration with a value in a field, where Python puts it without a check of types."""
    section, _, name = field.rpartition(".")
    if section == "hyperparameters":
        changed = config.hyperparameters._replace(**{name: value})
        return dataclasses.replace(config, hyperparameters=changed)
    config = copy.deepcopy(config)
    object.__setattr__(getattr(config, section) if section else config, name, value)
    return config


RATIO = "training.env_steps_per_update"
REFUSED = [
    ("algorithm", ["qmix"], "a string"),
    ("fidelity", "refrence", "paper, reference"),
    ("network.latent_head", "wide", "additive, paired, residual"),
    ("latent.kind", "normal", f"categorical, gaussian, logistic, bandit, uniform {CUSTOM}"),
    ("discriminator.reads", "actions", "policies, greedy_actions, taken_actions"),
    ("exploration.kind", "softmax", f"epsilon_greedy, team_epsilon_greedy, boltzmann {CUSTOM}"),
    ("training.optimizer", "sgd", f"rmsprop, adam, radam {CUSTOM}"),
    ("training.double_q", 1, "true or false"),
    ("training.double_q", "no", "true or false"),
    ("hyperparameters.gamma", "high", "a number"),
    ("hyperparameters.gamma", True, "a number"),
    *(
        ("training.batch_size", value, "a whole number")
        for value in ("many", True, 2.5, "1.5e0", "1e400", "-1e400", "nan", math.nan, math.inf)
    ),
    ("training.batch_size", "e3", "a whole number"),
    ("training.batch_size", 0, "a whole number from 1 to 1000000"),
    ("training.target_update_interval", 0, "a whole number from 1 to 1000000"),
    ("training.row_slots", -1, "a whole number from 0 to 1000000"),
    ("training.total_env_steps", 2**31, "a whole number from 1 to 2147483647"),
    ("training.replay_size", 31, "at least training.batch_size, which is 32"),
    (RATIO, -1.0, "a number of at least 0"),
    (RATIO, 1e99, "a number of at least 0"),
    (
        RATIO,
        8.0,
        "0 unless training.row_slots is given, since the length of an episode is not known in "
        "advance",
    ),
    ("evaluation.episodes", 0, "a whole number from 1 to 1000000"),
    ("network.mixer_hypernet_size", -1, "a whole number from 0 to 65536"),
    ("network.hidden_layers", 65, "a whole number from 1 to 64"),
    ("network.mixer_init_scale", 0.0, "a positive number"),
    ("network.latent_head_scale", -1.0, "a positive number"),
    ("latent.size", 1, "a whole number of at least 2"),
    ("latent.replay_size", 63, "at least latent.batch_size, which is 64"),
    ("latent.bandit_temperature", 0.0, "a positive number"),
    ("latent.bandit_temperature", 1e-60, "a positive number"),
    ("latent.bandit_scale", 1e39, "a positive number"),
    ("latent.bandit_epsilon", 1.5, "a number from 0 to 1"),
    ("hyperparameters.td_lambda", 1.5, "a number from 0 to 1"),
    ("hyperparameters.gamma", 1.5, "a number from 0 to 1"),
    ("hyperparameters.reward_scale", 0.0, "a positive number"),
    ("hyperparameters.temperature", 0.0, "a positive number"),
    ("hyperparameters.exploration_temperature", 0.0, "a positive number"),
    ("hyperparameters.rms_epsilon", 1e-60, "a positive number"),
    ("hyperparameters.learning_rate", 1e39, "a finite number in single precision"),
    ("hyperparameters.learning_rate", math.nan, "a finite number in single precision"),
    ("hyperparameters.target_update_rate", 0.0, "a number above 0, up to 1"),
    ("hyperparameters.mi_weight", -1.0, "a number of at least 0"),
    ("hyperparameters.monotonicity_weight", -1.0, "a number of at least 0"),
]
TWO_OF_100 = {"training.row_slots": 101, "training.num_envs": 2}
OF_ROWS = {"training.row_slots": 99, RATIO: 8.0, "training.updates_per_evaluation": 4}
REFUSED_BESIDE_OTHERS = [
    (
        {"discriminator.signal": "reward", "discriminator.kind": "feed_forward"},
        "hyperparameters.mi_weight",
        0.0,
        "a positive number where discriminator.signal is reward: it is what trains q_v",
    ),
    (
        {"training.num_envs": 33},
        "training.replay_size",
        32,
        "at least training.num_envs, which is 33",
    ),
    (
        {"training.num_envs": 70},
        "latent.replay_size",
        64,
        "at least training.num_envs, which is 70",
    ),
    (
        {"fidelity": "reference"},
        "training.row_slots",
        99,
        "0 where fidelity is reference: the published code plays one episode a row",
    ),
    *(
        (
            TWO_OF_100,
            RATIO,
            value,
            "0, or from 0.0002 to 200, the most steps that one round collects",
        )
        for value in (1e-50, 1e-05, 201.0)
    ),
    (OF_ROWS, "training.updates_per_round", 2, f"1 where {RATIO} is given"),
    (
        {"training.updates_per_round": 3},
        "training.updates_per_evaluation",
        100,
        "a multiple of training.updates_per_round, which is 3",
    ),
]


@pytest.mark.parametrize(
    ("others", "field", "value", "allowed"),
    [*(({}, *row) for row in REFUSED), *REFUSED_BESIDE_OTHERS],
)
def test_a_value_that_cannot_work_is_named_with_what_can(others, field, value, allowed):
    """In a file and in Python alike."""
    config = Config()
    for other, beside in others.items():
        config = with_field(config, other, beside)
    for put in (with_field, placed):
        with pytest.raises(ConfigError) as error:
            validate(put(config, field, value))
        assert str(error.value) == f"{field} is {value!r}; allowed: {allowed}"


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("training", None, "of type TrainingConfig"),
        ("network.hidden_size", "4", "a whole number"),
        ("training.batch_size", 32.0, "a whole number"),
        ("training.batch_size", np.float32(32), "a whole number"),
        ("training.batch_size", jnp.float32(32), "a whole number"),
        ("hyperparameters.gamma", "0.9", "a number"),
    ],
)
def test_what_a_file_may_hold_and_a_field_in_python_may_not(field, value, allowed):
    with pytest.raises(ConfigError) as error:
        validate(placed(Config(), field, value))
    assert str(error.value) == f"{field} is {value!r}; allowed: {allowed}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'; did you mean 'training'?"),
        (
            {"training.batch_size": 3},
            "unknown key 'training.batch_size'; nest it: training: {batch_size: ...}, or name the "
            "field on the command line or in a grid",
        ),
        (
            {"training": {"batchsize": 3}},
            "unknown key 'training.batchsize'; did you mean 'training.batch_size'?",
        ),
        ({"algorithm": "qmixx"}, f"unknown algorithm 'qmixx'; did you mean 'qmix'? {CUSTOM}"),
        ({"latent": 3}, "latent is 3; allowed: a mapping of fields to values"),
        ([1], "config is [1]; allowed: a mapping of fields to values"),
    ],
)
def test_wrong_keys_and_sections_are_named(overrides, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        validate(from_dict(overrides))


ODD_VALUES = (
    *(0, -1, 2**63, 10**400, 0.5, 1e308, math.inf, math.nan),
    *(None, True, "x", "\ud800", [[1], [2, 3]], {"a": 1}, object),
)


def refusal(field, value):
    """Why a configuration cannot have such a value; nothing where it can."""
    try:
        config = with_field(Config(), field, value)
        validate(config)
        hash(config)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("field", flatten(to_dict(Config())))
def test_any_value_of_any_field_works_or_is_refused_in_one_line(field):
    assert not any("\n" in refusal(field, value) for value in ODD_VALUES)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_of_a_latent_is_checked_where_there_is_none(algorithm):
    odd = {"latent": {"size": 1, "batch_size": 0, "bandit_epsilon": 2.0}}
    odd |= {"discriminator": {"hidden_size": 0}, "training": {"num_envs": 600}}
    config = from_dict({"algorithm": algorithm, **odd})
    if algorithm.startswith("maven"):
        with pytest.raises(ConfigError, match=r"latent\.batch_size is 0"):
            validate(config)
    else:
        validate(config)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^unknown config 'mavn'; did you mean 'maven'\? \(custom: "
    ):
        load_config("mavn")
    with pytest.raises(ConfigError, match=r"nothing\.yaml' is not a file$"):
        load_config(tmp_path / "nothing.yaml")


ALIASES_OF_ALIASES = "a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]" + "".join(
    f"\na{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
)
BROKEN = "is not valid YAML"
IN_CIRCLES = "config is nested too deeply, or holds itself"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {batch_size: 3\nlatent: [", BROKEN),
        ("algorithm: maven\nalgorithm: qmix", BROKEN),
        ("a: 2021-13-45", BROKEN),
        ("a: !!timestamp x", BROKEN),
        ("a: !!bool x", BROKEN),
        ("training: {<<: {batch_size: 4}, <<: {replay_size: 64}}", BROKEN),
        ("training: {<<: {batch_size: 4, batch_size: 5}}", BROKEN),
        ("training: {<<: {batch_size: 4}, replay_size: 64, replay_size: 65}", BROKEN),
        ("training: {<<: 3}", BROKEN),
        pytest.param("[" * 600, BROKEN, id="brackets"),
        ("env: {options: &a {m: *a}}", IN_CIRCLES),
        ("env: &a {options: *a}", IN_CIRCLES),
        pytest.param(ALIASES_OF_ALIASES, "holds more than 100000 values", id="aliases"),
        pytest.param(f"algorithm: {list(range(300))}", "^algorithm is ", id="large"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_a_short_line(text, message, tmp_path):
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_config(tmp_path / "odd.yaml")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "training"),
    [
        (
            "training: {<<: &small {batch_size: 4, replay_size: 16}, replay_size: 64}",
            {"batch_size": 4, "replay_size": 64},
        ),
        (
            "latent: &small {batch_size: 4, replay_size: 16}\n"
            "training: {replay_size: 64, <<: *small}",
            {"batch_size": 4, "replay_size": 64},
        ),
        (
            "training: {<<: [{batch_size: 4}, {batch_size: 5, replay_size: 9}], num_envs: 2}",
            {"batch_size": 4, "replay_size": 9, "num_envs": 2},
        ),
        (
            "latent: &a {<<: &b {<<: {batch_size: 3}, batch_size: 4, replay_size: 8}, size: 5}\n"
            "training: {<<: *b, num_envs: 2}",
            {"batch_size": 4, "replay_size": 8, "num_envs": 2},
        ),
    ],
)
def test_what_stands_beside_a_merge_key_wins(text, training, tmp_path):
    (tmp_path / "merged.yaml").write_text(text)
    loaded = load_config(tmp_path / "merged.yaml").training
    assert loaded == dataclasses.replace(Config().training, **training)
