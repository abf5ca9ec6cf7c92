"""Environments by name: `module:Class` wherever a name is taken, and in a run's folder."""

import importlib
import json
import sys

import pytest
from small_experiments import refused

from maven_jax import check_env
from maven_jax.cli.main import run
from maven_jax.config import from_dict
from maven_jax.environments.registry import class_name, complete, make_env
from maven_jax.envs import MStepMatrixGame
from maven_jax.envs.adapters import MpeSpread
from maven_jax.errors import ConfigError
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.grid import Part, make_lanes
from maven_jax.experiments.options import Options
from maven_jax.experiments.plan import Plan, train_plan
from maven_jax.experiments.run import load_run
from maven_jax.experiments.runner import continue_run

MODULE = """
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jumanji.types import StepType, TimeStep


class Observation(NamedTuple):
    agents_view: jax.Array
    action_mask: jax.Array
    global_state: jax.Array


class TwoStep:
    num_agents, num_actions = 2, 2

    def __init__(self, time_limit: int = 2, bonus: float = 0.5, shape=None, **names):
        self.time_limit, self.bonus, self.names = time_limit, bonus, names

    def reset(self, key):
        return jnp.int32(0), self._timestep(jnp.int32(0), jnp.float32(0))

    def step(self, state, action):
        return state + 1, self._timestep(state + 1, self.bonus * action.all())

    def _timestep(self, count, reward):
        view = jnp.full(2, count, jnp.float32)
        last = count >= self.time_limit
        kind = jnp.where(last, StepType.LAST, jnp.where(count, StepType.MID, StepType.FIRST))
        seen = Observation(view[:, None], jnp.ones((2, 2), bool), view)
        return TimeStep(
            step_type=kind, reward=reward, discount=1.0 - last, observation=seen, extras={}
        )


class Strict(TwoStep):
    def __init__(self, size: int):
        if size > 9:
            raise RuntimeError("size is too large")
        super().__init__(size, 1.0)


class Outer:
    class Inner(Strict):
        def __init__(self, size: int = 1):
            super().__init__(size)


class Unhashable(TwoStep):
    __hash__ = None

    def __eq__(self, other):
        return self is other


class NoStep:
    num_agents = num_actions = time_limit = 2

    def reset(self, key):
        return key


class NoSizes:
    reset = step = lambda *_: None


number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that holds modules, as a user's does; nothing of it stays imported."""
    (tmp_path / "game.py").write_text(MODULE)
    (tmp_path / "raises.py").write_text("raise RuntimeError('no luck\\nat all')\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "needs.py").write_text("import no_such_library\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "games.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("game", "package", "needs"):
            del sys.modules[name]


def config_of(name, **options):
    return from_dict({"env": {"name": name, "options": options}})


@pytest.mark.parametrize("name", ["game:TwoStep", "package.games:TwoStep"])
def test_a_custom_environment_takes_its_options(folder, name):
    config = config_of(name, time_limit=3, bonus=2, colour="red")
    env = make_env(config)
    assert (env.time_limit, env.bonus, env.names) == (3, 2.0, {"colour": "red"})
    assert make_env(config) is env
    assert class_name(env) == name
    assert check_env(env, num_episodes=2) == []


def test_options_that_are_numbers_are_spelled_out(folder):
    assert complete(config_of("game:TwoStep")).env.options == {"time_limit": 2, "bonus": 0.5}
    assert complete(config_of("game:Strict", size=4)).env.options == {"size": 4}
    assert make_env(config_of("game:Outer.Inner")).time_limit == 1


def test_a_packaged_class_is_named_by_its_module_too():
    env = make_env(config_of("maven_jax.envs.adapters:MpeSpread", num_agents=2))
    assert isinstance(env, MpeSpread)
    assert make_env(config_of(class_name(env), num_agents=4)).num_agents == 4


NOT_MADE = [
    ("gmae:TwoStep", {}, "env.name is 'gmae:TwoStep', but there is no module 'gmae'; allowed"),
    ("game.sub:TwoStep", {}, "env.name is 'game.sub:TwoStep', but "),
    ("game:TwoStp", {}, "unknown name in 'game', env.name 'game:TwoStp': 'TwoStp'; did you"),
    ("game:", {}, "unknown name in 'game', env.name 'game:': ''; allowed"),
    (":TwoStep", {}, "env.name is ':TwoStep', but importing '' raises ValueError"),
    (".game:TwoStep", {}, "env.name is '.game:TwoStep', but importing '.game' raises TypeError"),
    (
        "raises:Game",
        {},
        "env.name is 'raises:Game', but importing 'raises' raises RuntimeError: no",
    ),
    ("leaves:Game", {}, "env.name is 'leaves:Game', but importing 'leaves' raises SystemExit: 7"),
    ("needs:Game", {}, "env.name is 'needs:Game', but importing 'needs' raises ModuleNotFound"),
    ("game:number", {}, "env.name is 'game:number', which is no class; allowed: module:Class"),
    ("game:NoStep", {}, "env.name is 'game:NoStep', which has no step; allowed: a MarlEnv"),
    ("os:system", {"command": "exit 3"}, "env.name is 'os:system', which is no class; allowed"),
    ("subprocess:Popen", {"args": ["touch", "planted"]}, "env.name is 'subprocess:Popen', which"),
    ("game:NoSizes", {}, "environment NoSizes has no num_agents"),
    ("game:Strict", {}, "env.options: game:Strict raises TypeError: "),
    ("game:Strict", {"size": 10}, "env.options: game:Strict raises RuntimeError: size is too"),
    ("game:Strict", {"size": {1}}, "env.options: game:Strict raises TypeError: '>' not"),
    ("game:Strict", {"sice": 3}, "unknown option of environment game:Strict 'sice'; did you"),
    ("game:NoSizes", {"x": 3}, "unknown option of environment game:NoSizes 'x'; allowed: none"),
    ("game:TwoStep", {"time_limit": "x"}, "env.options.time_limit is 'x'; allowed: a whole"),
    ("two_step", {}, "unknown env.name 'two_step'; allowed: cleaner, "),
]


@pytest.mark.parametrize(("name", "options", "message"), NOT_MADE)
def test_what_cannot_be_made_is_refused_in_a_line(folder, name, options, message):
    with pytest.raises(ConfigError) as error:
        make_env(config_of(name, **options))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (folder / "planted").exists()


def test_an_option_without_a_plain_default_is_given_in_a_file(folder, capsys):
    message = refused(capsys, "train", "qmix", "--env.name", "game:Strict", "--env.options.size", 4)
    assert message.endswith("; set it in a YAML file: its default is not a number, string or flag")


SMALL = {
    "algorithm": "qmix",
    "network": {"hidden_size": 4, "mixer_embed_size": 4},
    "training": {"total_env_steps": 8, "batch_size": 2, "replay_size": 4},
    "evaluation": {"episodes": 2},
}
STEPS = ["--no-tensorboard", "--training.total-env-steps"]


def read_info(path):
    info = json.loads((path / "run.json").read_text())
    assert info["environment"] == "game:TwoStep"
    return info


@pytest.mark.slow
def test_a_run_finds_its_environment_again_or_names_the_missing_module(folder, capsys, monkeypatch):
    """Also one without a hash."""
    name = "game:Unhashable"
    (folder / "tiny.yaml").write_text(json.dumps(SMALL | {"env": {"name": name}}))
    out = ["--out", "out", "--seeds", "1", "--no-tensorboard", "--checkpoint.keep-final"]
    assert run(["train", "tiny.yaml", "--env.options.time-limit", "3", *out]) == 0
    trained = load_run(folder / "out")
    assert trained.config.env.name == trained.info["environment"] == name
    assert trained.config.env.options["time_limit"] == 3
    assert run(["evaluate", "out", "--episodes", "2"]) == 0
    assert run(["resume", "out", *STEPS, "16"]) == 0
    assert load_run(folder / "out").metrics["env_steps"].max() >= 16

    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    del sys.modules["game"]
    sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
    importlib.invalidate_caches()
    assert run(["table", "../out"]) == 0
    for command in (["evaluate", "../out"], ["resume", "../out", *STEPS, "99"]):
        capsys.readouterr()
        message = refused(capsys, *command)
        assert f"environment '{name}' needs the module 'game'" in message
        assert "add --import game" in message
        missing = refused(capsys, *command, "--import", "game")
        assert "--import game: there is no module 'game'" in missing
        assert "PYTHONPATH" in missing


@pytest.mark.slow
def test_python_s_environment_is_gone_on_with_though_the_configuration_names_another(folder):
    """The configuration names the matrix game, whose sizes are others."""
    env, config = make_env(config_of("game:TwoStep")), from_dict(SMALL)
    seeds = {"a": [0], "b": [1]}
    parts = [Part(n, config, make_lanes(config.hyperparameters, s), {}) for n, s in seeds.items()]
    options = Options(checkpoint=Checkpointing(keep_final=True))
    train_plan(Plan(tuple(parts)), folder / "out", options, lambda _: env)
    assert run(["evaluate", "out/a", "--episodes", "2"]) == 0
    assert run(["resume", "out", *STEPS, "16"]) == 0
    for name in seeds:
        assert read_info(folder / "out" / name)["status"] == "finished"
        assert load_run(folder / "out" / name).metrics["env_steps"].max() >= 16

    info = read_info(folder / "out" / "a") | {"status": "interrupted"}
    (folder / "out" / "a" / "run.json").write_text(json.dumps(info))
    with pytest.raises(ConfigError, match=r"in 'game:TwoStep', not in '.*Matrix"):
        continue_run(folder / "out" / "a", MStepMatrixGame(m=2), Options())
