"""Configuration: what is read, what is refused, and in which words."""

import copy
import dataclasses
import pickle
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from maven_jax.algorithms.table import ALGORITHMS
from maven_jax.config import Config, EnvConfig, from_dict, override, to_dict
from maven_jax.config.fields import flatten
from maven_jax.configs import config_names, packaged_configs
from maven_jax.environments.registry import ENVIRONMENTS, complete, make_env
from maven_jax.envs.adapters.jaxmarl_adapter import JaxMarlAdapter
from maven_jax.errors import ConfigError
from maven_jax.training.train import make_trainer
from maven_jax.validation.checks import validate
from maven_jax.validation.files import load_config


def test_the_published_configurations_are_packaged():
    assert {"maven", "qmix"} <= set(packaged_configs())


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged_configs())
def test_every_packaged_configuration_is_valid(name):
    config = load_config(name)
    if issubclass(ENVIRONMENTS[config.env.name], JaxMarlAdapter):
        pytest.importorskip("jaxmarl", reason=f"{name} needs jaxmarl, which is not installed")
    make_trainer(config, make_env(config))


def test_yaml_round_trip():
    config = load_config("maven")
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_a_configuration_is_a_static_argument():
    traced = []

    @partial(jax.jit, static_argnames="config")
    def size(x, config):
        traced.append(config)
        return x * config.env.options["payoff"][1][0]

    def made():
        table = {"name": "matrix_game", "options": {"payoff": [[1, 2], [3, 4]]}}
        return from_dict({"env": table})

    assert size(jnp.float32(2.0), config=made()) == 6.0
    assert size(jnp.float32(3.0), config=made()) == 9.0
    assert len(traced) == 1
    assert hash(Config()) == hash(Config())
    assert len({Config(), from_dict({}), made(), made()}) == 2


def test_options_cannot_be_changed_and_equal_any_mapping_of_the_same():
    given = {"payoff": [[1, 0], [0, 2]], "game": "qtran"}
    env = EnvConfig("matrix_game", given)
    given["payoff"][0][0] = 5
    assert env.options == {"game": "qtran", "payoff": [[1, 0], [0, 2]]}
    assert env.options != given
    with pytest.raises(TypeError):
        env.options["game"] = "penalty"
    for same in (copy.deepcopy(env), pickle.loads(pickle.dumps(env)), dataclasses.replace(env)):
        assert same == env
        assert hash(same) == hash(env)


def test_options_come_back_from_yaml():
    config = Config(env=EnvConfig("matrix_game", {"payoff": [[1, 0], [0, 2.5]]}))
    text = yaml.safe_dump(to_dict(config))
    assert from_dict(yaml.safe_load(text)) == config


def test_another_environment_takes_no_options_along():
    config = from_dict({"env": {"options": {"m": 3}}})
    assert override(config, {"env": {"name": "m_step_matrix"}}) == config
    assert override(config, {"env": {"name": "cleaner"}}).env == EnvConfig("cleaner")
    beside = {"name": "cleaner", "options": {"size": 3}}
    assert override(config, {"env": beside}).env == EnvConfig("cleaner", {"size": 3})


def test_overrides_leave_the_rest_alone():
    config = from_dict({"training": {"batch_size": 7}, "hyperparameters": {"gamma": 1}})
    assert config.training == dataclasses.replace(Config().training, batch_size=7)
    assert config.hyperparameters == Config().hyperparameters._replace(gamma=1.0)
    assert type(config.hyperparameters.gamma) is float


def test_scientific_notation_that_yaml_reads_as_a_string_is_a_number():
    overrides = yaml.safe_load("hyperparameters: {learning_rate: 5e-4}")
    assert from_dict(overrides).hyperparameters.learning_rate == 5e-4


@pytest.mark.parametrize(
    ("written", "number"), [("2e3", 2000), ("1E6", 10**6), ("2.5e1", 25), ("3.0", 3), ("4e0", 4)]
)
def test_whole_numbers_in_scientific_notation(written, number):
    config = from_dict(yaml.safe_load(f"training: {{batch_size: {written}}}"))
    assert config.training.batch_size == number
    assert type(config.training.batch_size) is int
    game = from_dict(yaml.safe_load(f"env: {{options: {{m: {written}}}}}"))
    assert complete(game).env.options["m"] == number
    assert override(Config(), {"training": {"batch_size": float(written)}}) == config


@pytest.mark.parametrize("value", ["1.5e0", "2.5", "1e400", "-1e400", "nan", ".nan", ".inf", "e3"])
def test_other_numbers_are_no_whole_numbers(value):
    with pytest.raises(ConfigError, match=r"training.batch_size is .*; allowed: a whole number"):
        from_dict(yaml.safe_load(f"training: {{batch_size: {value}}}"))


@pytest.mark.parametrize("value", [32.0, np.float32(32), jnp.float32(32), "32"])
def test_a_whole_number_in_python_is_an_integer(value):
    training = dataclasses.replace(Config().training)
    object.__setattr__(training, "batch_size", value)  # whose type the tests check when it is made
    with pytest.raises(ConfigError, match=r"batch_size is .*32.*; allowed: a whole number"):
        validate(dataclasses.replace(Config(), training=training))


def test_every_algorithm_s_name_stands_for_a_configuration():
    for name, row in ALGORITHMS.items():
        family = load_config("maven" if row.has_latent else "qmix")
        assert load_config(name) == dataclasses.replace(family, algorithm=name)
        assert name in config_names()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'; did you mean 'training'?"),
        (
            {"training": {"batchsize": 3}},
            "unknown key 'training.batchsize'; did you mean 'training.batch_size'?",
        ),
        (
            {"training": {"batch_size": "many"}},
            "training.batch_size is 'many'; allowed: a whole number",
        ),
        (
            {"training": {"batch_size": True}},
            "training.batch_size is True; allowed: a whole number",
        ),
        ({"training": {"batch_size": 2.5}}, "training.batch_size is 2.5; allowed: a whole number"),
        ({"training": {"double_q": 1}}, "training.double_q is 1; allowed: true or false"),
        (
            {"hyperparameters": {"gamma": "high"}},
            "hyperparameters.gamma is 'high'; allowed: a number",
        ),
        (
            {"latent": {"kind": "normal"}},
            "latent.kind is 'normal'; allowed: categorical, gaussian, logistic, bandit, uniform",
        ),
        (
            {"discriminator": {"reads": "actions"}},
            "discriminator.reads is 'actions'; allowed: policies, greedy_actions, taken_actions",
        ),
        (
            {"exploration": {"kind": "softmax"}},
            "exploration.kind is 'softmax'; "
            "allowed: epsilon_greedy, team_epsilon_greedy, boltzmann",
        ),
        (
            {"network": {"latent_head": "wide"}},
            "network.latent_head is 'wide'; allowed: additive, paired, residual",
        ),
        ({"latent": 3}, "latent is 3; allowed: a mapping of fields to values"),
        ([1], "config is [1]; allowed: a mapping of fields to values"),
    ],
)
def test_wrong_keys_and_types_are_named(overrides, message):
    with pytest.raises(ConfigError) as error:
        from_dict(overrides)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"training": {"batch_size": 0}},
            "training.batch_size is 0; allowed: a whole number from 1 to 1000000",
        ),
        (
            {"training": {"batch_size": 32, "replay_size": 31}},
            "training.replay_size is 31; allowed: at least training.batch_size, which is 32",
        ),
        (
            {"training": {"total_env_steps": 2**31}},
            "training.total_env_steps is 2147483648; allowed: a whole number from 1 to 2147483647",
        ),
        (
            {"latent": {"batch_size": 65, "replay_size": 64}},
            "latent.replay_size is 64; allowed: at least latent.batch_size, which is 65",
        ),
        (
            {
                "discriminator": {"signal": "reward", "kind": "feed_forward"},
                "hyperparameters": {"mi_weight": 0},
            },
            "hyperparameters.mi_weight is 0.0; allowed: a positive number where "
            "discriminator.signal is reward: it is what trains q_v",
        ),
        (
            {"training": {"num_envs": 33, "replay_size": 32}},
            "training.replay_size is 32; allowed: at least training.num_envs, which is 33",
        ),
        (
            {"training": {"num_envs": 70}, "latent": {"replay_size": 64}},
            "latent.replay_size is 64; allowed: at least training.num_envs, which is 70",
        ),
        (
            {"network": {"mixer_hypernet_size": -1}},
            "network.mixer_hypernet_size is -1; allowed: a whole number from 0 to 65536",
        ),
        (
            {"network": {"hidden_layers": 65}},
            "network.hidden_layers is 65; allowed: a whole number from 1 to 64",
        ),
        (
            {"network": {"mixer_init_scale": 0}},
            "network.mixer_init_scale is 0.0; allowed: a positive number",
        ),
        (
            {"network": {"latent_head_scale": -1}},
            "network.latent_head_scale is -1.0; allowed: a positive number",
        ),
        (
            {"training": {"row_slots": -1}},
            "training.row_slots is -1; allowed: a whole number from 0 to 1000000",
        ),
        (
            {"fidelity": "reference", "training": {"row_slots": 99}},
            "training.row_slots is 99; allowed: 0 where fidelity is reference: the published code "
            "plays one episode a row",
        ),
        (
            {"training": {"env_steps_per_update": 8}},
            "training.env_steps_per_update is 8.0; allowed: 0 unless training.row_slots is given, "
            "since the length of an episode is not known in advance",
        ),
        (
            {"training": {"env_steps_per_update": -1, "row_slots": 99}},
            "training.env_steps_per_update is -1.0; allowed: a number of at least 0",
        ),
        *(
            (
                {"training": {"env_steps_per_update": value, "row_slots": 101, "num_envs": 2}},
                f"training.env_steps_per_update is {value}; allowed: 0, or from 0.0002 to 200, "
                "the most steps that one round collects",
            )
            for value in (1e-50, 1e-05, 201.0)
        ),
        (
            {"training": {"env_steps_per_update": 1e99, "row_slots": 99}},
            "training.env_steps_per_update is 1e+99; allowed: a number of at least 0",
        ),
        (
            {
                "training": {
                    "env_steps_per_update": 8,
                    "row_slots": 99,
                    "updates_per_round": 2,
                    "updates_per_evaluation": 4,
                }
            },
            "training.updates_per_round is 2; allowed: 1 where training.env_steps_per_update is "
            "given",
        ),
        (
            {"training": {"updates_per_round": 3}},
            "training.updates_per_evaluation is 100; allowed: a multiple of "
            "training.updates_per_round, which is 3",
        ),
        (
            {"hyperparameters": {"td_lambda": 1.5}},
            "hyperparameters.td_lambda is 1.5; allowed: a number from 0 to 1",
        ),
        (
            {"hyperparameters": {"reward_scale": 0.0}},
            "hyperparameters.reward_scale is 0.0; allowed: a positive number",
        ),
        ({"latent": {"size": 1}}, "latent.size is 1; allowed: a whole number of at least 2"),
        (
            {"hyperparameters": {"gamma": 1.5}},
            "hyperparameters.gamma is 1.5; allowed: a number from 0 to 1",
        ),
        (
            {"hyperparameters": {"temperature": 0.0}},
            "hyperparameters.temperature is 0.0; allowed: a positive number",
        ),
        (
            {"hyperparameters": {"rms_epsilon": 1e-60}},
            "hyperparameters.rms_epsilon is 1e-60; allowed: a positive number",
        ),
        (
            {"hyperparameters": {"learning_rate": 1e39}},
            "hyperparameters.learning_rate is 1e+39; allowed: a finite number in single precision",
        ),
        (
            {"hyperparameters": {"target_update_rate": 0.0}},
            "hyperparameters.target_update_rate is 0.0; allowed: a number above 0, up to 1",
        ),
        (
            {"hyperparameters": {"mi_weight": -1.0}},
            "hyperparameters.mi_weight is -1.0; allowed: a number of at least 0",
        ),
        (
            {"hyperparameters": {"learning_rate": float("nan")}},
            "hyperparameters.learning_rate is nan; allowed: a finite number in single precision",
        ),
        (
            {"latent": {"bandit_temperature": 0.0}},
            "latent.bandit_temperature is 0.0; allowed: a positive number",
        ),
        (
            {"latent": {"bandit_temperature": 1e-60}},
            "latent.bandit_temperature is 1e-60; allowed: a positive number",
        ),
        (
            {"latent": {"bandit_scale": 1e39}},
            "latent.bandit_scale is 1e+39; allowed: a positive number",
        ),
        (
            {"latent": {"bandit_epsilon": 1.5}},
            "latent.bandit_epsilon is 1.5; allowed: a number from 0 to 1",
        ),
        (
            {"hyperparameters": {"exploration_temperature": 0.0}},
            "hyperparameters.exploration_temperature is 0.0; allowed: a positive number",
        ),
        (
            {"hyperparameters": {"monotonicity_weight": -1.0}},
            "hyperparameters.monotonicity_weight is -1.0; allowed: a number of at least 0",
        ),
    ],
)
def test_values_that_cannot_work_are_named(overrides, message):
    with pytest.raises(ConfigError) as error:
        validate(from_dict(overrides))
    assert str(error.value) == message


ODD_VALUES = (
    *(0, -1, 2**63, 10**400, 0.5, 1e308, float("inf"), float("nan")),
    *(None, True, "x", "\ud800", [[1], [2, 3]], {"a": 1}, object),
)


def test_any_value_of_any_field_works_or_is_settled_in_one_line():
    settled = 0
    for field in flatten(to_dict(Config())):
        *sections, name = field.split(".")
        for value in ODD_VALUES:
            plain = {name: value}
            for section in reversed(sections):
                plain = {section: plain}
            try:
                config = from_dict(plain)
                validate(config)
                hash(config)
            except ConfigError as error:
                settled += "\n" not in str(error)
                continue
            settled += 1
    assert settled == len(flatten(to_dict(Config()))) * len(ODD_VALUES)


def test_nothing_of_a_latent_is_checked_where_there_is_none():
    odd = {"latent": {"size": 1, "batch_size": 0, "bandit_epsilon": 2.0}}
    odd |= {"discriminator": {"hidden_size": 0}, "training": {"num_envs": 600}}
    for algorithm in ALGORITHMS:
        config = from_dict({"algorithm": algorithm, **odd})
        if algorithm.startswith("maven"):
            with pytest.raises(ConfigError, match=r"latent\.batch_size is 0"):
                validate(config)
        else:
            validate(config)
    many = {"algorithm": "maven", "training": {"num_envs": 600}}
    with pytest.raises(ConfigError, match=r"latent\.replay_size is 512; allowed: at least"):
        validate(from_dict(many))


def test_an_unknown_algorithm_is_named():
    with pytest.raises(ConfigError, match=r"unknown algorithm 'qmixx'; did you mean 'qmix'\?"):
        validate(from_dict({"algorithm": "qmixx"}))


def test_a_misspelt_name_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"unknown config 'mavn'; did you mean 'maven'\?"):
        load_config("mavn")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml' is not a file"):
        load_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "training: {batch_size: 3\nlatent: [",
        "algorithm: maven\nalgorithm: qmix",
        "a: 2021-13-45",
        "a: !!timestamp x",
        "a: !!bool x",
        "training: {<<: {batch_size: 4}, <<: {replay_size: 64}}",
        "training: {<<: {batch_size: 4, batch_size: 5}}",
        "training: {<<: {batch_size: 4}, replay_size: 64, replay_size: 65}",
        "training: {<<: 3}",
        "[" * 5000,
    ],
)
def test_broken_yaml_is_one_line(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not valid YAML") as error:
        load_config(path)
    assert "\n" not in str(error.value)


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
    path = tmp_path / "merged.yaml"
    path.write_text(text)
    assert load_config(path).training == dataclasses.replace(Config().training, **training)


@pytest.mark.parametrize("text", ["env: {options: &a {m: *a}}", "env: &a {options: *a}"])
def test_a_file_that_holds_itself_is_one_line(text, tmp_path):
    path = tmp_path / "circle.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="config is nested too deeply, or holds itself"):
        load_config(path)


def test_an_empty_file_is_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(path) == Config()


def test_aliases_of_aliases_fill_no_memory(tmp_path):
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    path = tmp_path / "large.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="holds more than 100000 values") as error:
        load_config(path)
    assert len(str(error.value)) < 300


def test_a_large_value_is_shown_in_part():
    with pytest.raises(ConfigError, match="algorithm is ") as error:
        from_dict({"algorithm": [list(range(1000))] * 1000})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (None, {"fidelity": "refrence"}, "fidelity is 'refrence'; allowed: paper, reference"),
        (None, {"algorithm": ["qmix"]}, "algorithm is ['qmix']; allowed: a string"),
        (None, {"training": None}, "training is None; allowed: of type TrainingConfig"),
        (
            "network",
            {"latent_head": "x"},
            "network.latent_head is 'x'; allowed: additive, paired, residual",
        ),
        ("network", {"hidden_size": np.int64(-3)}, "network.hidden_size is -3; allowed"),
        ("network", {"hidden_size": "4"}, "network.hidden_size is '4'; allowed: a whole number"),
        ("network", {"hidden_size": 4.0}, "network.hidden_size is 4.0; allowed: a whole number"),
        ("network", {"hidden_size": True}, "network.hidden_size is True; allowed: a whole number"),
        ("latent", {"kind": "x"}, "latent.kind is 'x'; allowed: categorical"),
        ("discriminator", {"reads": "x"}, "discriminator.reads is 'x'; allowed: policies"),
        ("exploration", {"kind": "x"}, "exploration.kind is 'x'; allowed: epsilon_greedy"),
        ("training", {"optimizer": "sgd"}, "training.optimizer is 'sgd'; allowed: rmsprop, adam"),
        ("training", {"double_q": "no"}, "training.double_q is 'no'; allowed: true or false"),
        ("training", {"target_update_interval": np.int32(0)}, "is 0; allowed: a whole number from"),
        ("evaluation", {"episodes": np.int64(0)}, "evaluation.episodes is 0; allowed: a whole"),
        ("hyperparameters", {"gamma": "0.9"}, "hyperparameters.gamma is '0.9'; allowed: a number"),
        ("hyperparameters", {"gamma": True}, "hyperparameters.gamma is True; allowed: a number"),
    ],
)
def test_what_python_puts_into_a_field_is_checked(section, values, message):
    if section == "hyperparameters":
        values = {section: Config().hyperparameters._replace(**values)}
    elif section:
        values = {section: with_any(getattr(Config(), section), values)}
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate(with_any(Config(), values))


def with_any(section, values):
    """As `dataclasses.replace` would, where no test checks types."""
    changed = copy.copy(section)
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed


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
    config = from_dict(overrides)
    assert repr(config) == repr(from_dict(plain))
    sizes = with_any(Config().training, {"num_envs": np.int64(2)})
    config = dataclasses.replace(Config(), training=sizes)
    validate(config)
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_options_that_are_arrays_hash():
    payoff = [[1.0, 0.0], [0.0, 2.0]]
    for array in (np.array(payoff), jnp.array(payoff)):
        config = EnvConfig("matrix_game", {"payoff": array})
        assert config == EnvConfig("matrix_game", {"payoff": payoff})
        assert hash(config) == hash(EnvConfig("matrix_game", {"payoff": payoff}))
