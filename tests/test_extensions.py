"""Custom parts: `module:Name`, registered names, entry points; and what is never imported."""

import importlib
import json
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import forget
from small_experiments import refused, small_config

import maven_jax
from maven_jax import ConfigError, from_dict, load_config, load_run, override, validate
from maven_jax.acting.rollout import env_spec
from maven_jax.algorithms.objectives import q_learning, q_learning_loss
from maven_jax.algorithms.table import ALGORITHMS, make_algorithm
from maven_jax.cli.main import run
from maven_jax.envs import MStepMatrixGame
from maven_jax.experiments.folder import resume_command
from maven_jax.extensions import import_entry_points
from maven_jax.functional.exploration import EXPLORATIONS
from maven_jax.networks.mixers import SumMixer
from maven_jax.training.rounds import make_parts
from maven_jax.training.train import make_train
from maven_jax.validation.names import modules_of

PARTS = """
from functools import partial
import flax.linen as nn
from maven_jax import register_algorithm, register_exploration, register_latent, register_mixer
from maven_jax.algorithms.objectives import q_learning
from maven_jax.algorithms.table import Row
from maven_jax.functional.exploration import epsilon_greedy
from maven_jax.latents import UniformLatent
from maven_jax.networks.mixers import Mixer

class Weighted(Mixer):
    @nn.compact
    def __call__(self, utilities, global_state, latent):
        return (nn.softplus(nn.Dense(utilities.shape[-1])(global_state)) * utilities).sum(-1)

def weighted(config, spec):
    return Weighted()

row = Row(weighted, q_learning, has_latent=True)

def flat(sizes):
    return UniformLatent(sizes.size)

def half(epsilon, temperature):
    return partial(epsilon_greedy, epsilon=epsilon / 2)

def no_mixer(config, spec):
    return "a string"

def text(sizes):
    return "a string"
"""
NAMES = """
import parts
from maven_jax import register_algorithm, register_exploration, register_latent, register_mixer
register_algorithm("by_state", mixer=parts.weighted)
register_mixer("state_weights", parts.weighted)
register_latent("fair", parts.flat)
register_exploration("half", parts.half)
"""
FIELDS = {
    "algorithm": "parts:row",
    "network": {"mixer": "parts:weighted"},
    "latent": {"kind": "parts:flat"},
    "exploration": {"kind": "parts:half"},
}
ENV = MStepMatrixGame(m=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with two modules, which are forgotten afterwards."""
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "names.py").write_text(NAMES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    importlib.invalidate_caches()
    yield tmp_path
    forget("parts", "names", "planted", "games", __name__)


def test_every_field_takes_module_and_name(folder):
    config = override(small_config("maven"), FIELDS)
    validate(config)
    parts = make_parts(config, ENV)
    assert type(parts.algorithm.mixer).__name__ == "Weighted"
    assert parts.algorithm.latent == parts.algorithm.training_latent
    assert type(parts.algorithm.latent).__name__ == "UniformLatent"
    explore = EXPLORATIONS.find("parts:half")(jnp.float32(0.5), 1.0)
    assert explore.keywords == {"epsilon": 0.25}
    assert modules_of(config) == dict.fromkeys(
        ("algorithm", "network.mixer", "latent.kind", "exploration.kind"), "parts"
    )


def test_a_custom_mixer_is_initialised_by_its_layers_and_trains(folder):
    config = override(small_config("maven"), FIELDS | {"training": {"total_env_steps": 40}})
    mixer = make_parts(config, ENV).algorithm.mixer
    params = mixer.init_params(jax.random.key(0), env_spec(ENV), config.latent.size)
    assert params["params"]["Dense_0"]["kernel"].shape == (env_spec(ENV).state_size, 2)
    state, metrics = make_train(config, ENV)(jax.random.key(0), config.hyperparameters)
    assert np.isfinite(metrics["loss"]).all()
    assert jax.tree.structure(state.params.mixer) == jax.tree.structure(params)


def test_a_packaged_mixer_replaces_the_algorithm_s_own():
    of = {
        name: make_algorithm(from_dict(values), env_spec(ENV))
        for name, values in {
            "by_field": {"algorithm": "maven", "network": {"mixer": "additive"}},
            "by_name": {"algorithm": "maven_vdn"},
        }.items()
    }
    assert of["by_field"] == of["by_name"]
    assert isinstance(of["by_field"].mixer, SumMixer)


def test_a_registered_name_is_a_configuration_too(folder):
    maven_jax.extensions.import_module("names")
    config = load_config("by_state")
    assert config == override(load_config("qmix"), {"algorithm": "by_state"})
    assert load_config("parts:row").latent == load_config("maven").latent
    others = {"network": {"mixer": "state_weights"}, "latent": {"kind": "fair"}}
    config = override(config, others | {"exploration": {"kind": "half"}})
    validate(config)
    assert set(modules_of(config).values()) == {"names"}
    assert ALGORITHMS.find("by_state").objective is q_learning


def test_a_loss_alone_is_an_objective_and_a_name_is_replaced():
    try:
        maven_jax.register_algorithm("twice", mixer="additive", objective=q_learning_loss)
        assert ALGORITHMS.find("twice").objective == q_learning
        maven_jax.register_algorithm("twice", mixer="monotonic", latent=True)
        assert ALGORITHMS.find("twice") == ALGORITHMS.find("maven")
    finally:
        forget("parts", "names", "planted", "games", __name__)


REFUSED = [
    (lambda: maven_jax.register_algorithm("qmix", mixer="additive"), "algorithm is 'qmix'; allow"),
    (lambda: maven_jax.register_algorithm("a:b", mixer="additive"), "algorithm is 'a:b'; allowed"),
    (lambda: maven_jax.register_algorithm("new", mixer="sum"), "network.mixer is 'sum'; allowed: "),
    (lambda: maven_jax.register_mixer("new", lambda: 3), "make is <function"),
    (lambda: maven_jax.register_mixer("new", SumMixer), "make is <class '"),
    (lambda: maven_jax.register_environment("new", nn.Dense), "make is <class 'flax"),
    (lambda: maven_jax.register_environment("smax", MStepMatrixGame), "env.name is 'smax'; al"),
]


@pytest.mark.parametrize(("register", "message"), REFUSED)
def test_what_cannot_be_registered_is_refused_in_a_line(register, message):
    before = dict(ALGORITHMS)
    with pytest.raises(ConfigError) as error:
        register()
    assert str(error.value).startswith(message)
    assert before == ALGORITHMS


NOT_FOUND = [
    ({"algorithm": "by_stat"}, "unknown algorithm 'by_stat'; "),
    ({"algorithm": "parts:rwo"}, "unknown name in 'parts', algorithm 'parts:rwo': 'rwo'; did you"),
    ({"algorithm": "prats:row"}, "algorithm is 'prats:row', but there is no module 'prats'"),
    ({"algorithm": "parts:weighted"}, "algorithm is 'parts:weighted'; allowed: a Row"),
    ({"network": {"mixer": "sum"}}, "network.mixer is 'sum'; allowed: independent, additive, "),
    ({"network": {"mixer": "parts:row"}}, "network.mixer is 'parts:row'; allowed: a function"),
    ({"network": {"mixer": "joint"}}, "network.mixer is 'joint'; allowed: joint with QTRAN, and"),
]


@pytest.mark.parametrize(("values", "message"), NOT_FOUND)
def test_a_name_that_names_nothing_is_refused_before_anything_compiles(folder, values, message):
    with pytest.raises(ConfigError) as error:
        validate(from_dict({"algorithm": "maven"} | values))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_what_a_part_returns_is_checked(folder):
    config = from_dict({"algorithm": "maven", "network": {"mixer": "parts:no_mixer"}})
    with pytest.raises(ConfigError, match=r"algorithm is 'maven'; allowed: an algorithm whose mi"):
        make_algorithm(config, env_spec(ENV))
    config = from_dict({"algorithm": "maven", "latent": {"kind": "parts:text"}})
    with pytest.raises(ConfigError, match=r"latent.kind is 'parts:text'; allowed: what makes one "):
        validate(config)


def test_an_entry_point_s_module_is_imported_for_a_name_that_is_not_known(folder):
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[maven_jax.extensions]\nmine = names\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    import_entry_points.cache_clear()
    try:
        assert "by_state" not in ALGORITHMS
        assert load_config("by_state").algorithm == "by_state"
    finally:
        import_entry_points.cache_clear()


SMALL = ["--config", "smoke", "--seeds", "1", "--training.total-env-steps", "100"]


@pytest.mark.slow
def test_a_run_says_which_import_is_missing(folder, capsys):
    (folder / "games.py").write_text(
        "from maven_jax.envs import MStepMatrixGame\n\n\nclass Game(MStepMatrixGame):\n    pass\n"
    )
    words = ["train", "by_state", "--import", "names", "--env.name", "games:Game"]
    assert run([*words, *SMALL, "--out", "out"]) == 0
    capsys.readouterr()
    assert load_run("out").info["imports"] == {"algorithm": "names", "env.name": "games"}
    assert resume_command(Path("out")) == "maven-jax resume 'out' --import games --import names"
    forget("parts", "names", "planted", "games", __name__)
    for command in (["table", "out"], ["evaluate", "out"], ["resume", "out"]):
        line = refused(capsys, *command)
        assert "run 'out' needs the modules 'names', 'games'" in line
        assert "add --import names --import games, or" in line
    assert run(["table", "out", "--import", "names"]) == 0
    named = ["--import=names", "--import", "games"]
    assert run(["evaluate", "out", "--episodes", "2", *named]) == 0
    capsys.readouterr()
    assert refused(capsys, "table", "out", "--import") == (
        "--import needs a value; allowed: the name of a module"
    )
    assert "already finished" in refused(capsys, "resume", "out", *named)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["algorithm", "network.mixer", "env.name", "imports"])
def test_a_module_that_only_a_folder_names_is_never_imported(field, folder, capsys):
    (folder / "planted.py").write_text("open('executed', 'w').close()\n")
    assert run(["train", "qmix", *SMALL, "--out", "out"]) == 0
    capsys.readouterr()
    config, info = (folder / "out" / name for name in ("config.yaml", "run.json"))
    plain = json.loads(info.read_text())
    del plain["config_yaml"]  # its checksum
    if field == "imports":
        plain["imports"] = {"algorithm": "planted"}
    else:
        old = {
            "algorithm": "algorithm: qmix",
            "network.mixer": "mixer: ''",
            "env.name": "name: m_step_matrix",
        }[field]
        assert config.read_text().count(old) == 1
        new = f"{old.partition(':')[0]}: planted:Name"
        config.write_text(config.read_text().replace(old, new))
    if field == "env.name":
        plain["environment"] = "planted:Name"
    info.write_text(json.dumps(plain))
    for command in ("evaluate",) if field == "env.name" else ("evaluate", "resume"):
        assert "needs the module 'planted'" in refused(capsys, command, "out")
    if field == "env.name":
        with_options = "evaluate", "out", "--env.options.m", "3"
        assert "needs the module 'planted'" in refused(capsys, *with_options)
    assert run(["table", "out"]) == (0 if field == "env.name" else 2)
    assert not (folder / "executed").exists()
