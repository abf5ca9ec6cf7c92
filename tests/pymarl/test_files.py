"""`maven-jax convert`: files of weights to a run, or one line and nothing on disk."""

import json
import pickle
import sys
import zlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import Planted

from maven_jax.acting.rollout import env_spec
from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.errors import StorageError
from maven_jax.experiments.evaluating import trained_weights
from maven_jax.experiments.run import load_run
from maven_jax.pymarl import files
from maven_jax.pymarl.weights import expected_state_dicts
from maven_jax.validation.files import load_config

SMALL = """
algorithm: {algorithm}
env: {{options: {{m: 3}}}}
network: {{hidden_size: 8, mixer_embed_size: 4}}
latent: {{size: 3, hidden_size: 8}}
discriminator: {{hidden_size: 4, hidden_layers: 1, recurrent_size: 4}}
training: {{total_env_steps: 60, batch_size: 4, replay_size: 16}}
evaluation: {{episodes: 4, episodes_per_latent: 1}}
"""
HYPERNETWORKS = ("hyper_w_1", "hyper_w_final", "hyper_b_1", "V.0")
NAMES = ("agent", "mixer", "discrim", "rnn_agg", "ez_bandit_policy")


@pytest.fixture
def workspace(tmp_path):
    """A configuration of each algorithm, beside `models/1200` with the weights of a MAVEN."""
    for algorithm in ("maven", "qmix", "iql"):
        (tmp_path / f"{algorithm}.yaml").write_text(SMALL.format(algorithm=algorithm))
    save(tmp_path / "models" / "1200", state_dicts(tmp_path / "maven.yaml"))
    return tmp_path


def state_dicts(source):
    """Random arrays of the names and shapes of a configuration's algorithm."""
    config = load_config(source)
    arrays = expected_state_dicts(config, env_spec(make_env(config)))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), arrays)


def save(folder, arrays):
    folder.mkdir(parents=True)
    for name, part in zip(NAMES, arrays, strict=True):
        if part:
            np.savez(folder / f"{name}.npz", **part)


def arguments(workspace, algorithm="maven", folder="models/1200"):
    config = workspace / f"{algorithm}.yaml"
    return ["convert", workspace / folder, "--config", config, "--out", workspace / "run"]


def succeed(command):
    assert run([str(argument) for argument in command]) == 0


def refused(capsys, workspace, command):
    """The one line that a refused command prints, having left nothing on disk."""
    before = {*workspace.rglob("*")}
    assert run([str(argument) for argument in command]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert {*workspace.rglob("*")} == before
    return captured.err.removeprefix("maven-jax: error: ").rstrip("\n")


def weights_of(path):
    """The weights of a run of one seed."""
    run = load_run(path)
    return jax.tree.map(lambda x: x[0], trained_weights(run, make_env(run.config)))


def assert_converted(weights, arrays):
    """Each of the network's matrices is the transposed one of the files; hypernetworks are one."""
    params, latent = weights
    agent, hyper = params.agent["params"], params.mixer["params"]["hyper"]
    parts = [arrays.mixer[f"{name}.weight"] for name in HYPERNETWORKS]
    biases = [arrays.mixer[f"{name}.bias"] for name in HYPERNETWORKS]
    for ours, theirs in (
        (agent["input_layer"]["kernel"], arrays.agent["fc1.weight"].T),
        (agent["input_layer"]["bias"], arrays.agent["fc1.bias"]),
        (agent["gru"]["input_kernel"], arrays.agent["rnn.weight_ih"].T),
        (agent["gru"]["hidden_kernel"], arrays.agent["rnn.weight_hh"].T),
        (hyper["kernel"], np.vstack(parts).T),
        (hyper["bias"], np.concatenate(biases)),
        (latent["params"]["hidden_0"]["kernel"], arrays.latent["affine1.weight"].T),
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_converted_run_holds_the_weights_and_is_evaluated(workspace, capsys):
    succeed(arguments(workspace))
    assert "4 greedy episodes a run" in capsys.readouterr().out
    converted = load_run(workspace / "run")
    assert converted.info["status"] == "converted"
    assert converted.info["source"] == str(workspace / "models" / "1200")
    assert converted.metrics["env_steps"] == [1200]
    assert np.isfinite(converted.metrics["mi_bound_test"]).all()
    assert_converted(weights_of(workspace / "run"), state_dicts(workspace / "maven.yaml"))
    succeed(["evaluate", workspace / "run", "--episodes", 4])
    succeed(["plot", workspace / "run", "--out", workspace / "plot.png"])


def test_an_algorithm_without_mixer_or_latent_needs_the_agents_alone(workspace):
    save(workspace / "iql", state_dicts(workspace / "iql.yaml"))
    assert [path.name for path in (workspace / "iql").iterdir()] == ["agent.npz"]
    succeed(arguments(workspace, "iql", "iql"))
    assert load_run(workspace / "run").metrics["env_steps"] == [0]


def test_a_fresh_discriminator_where_none_was_saved(workspace, capsys):
    folder = workspace / "models" / "1200"
    for name in ("discrim", "rnn_agg"):
        (folder / f"{name}.npz").unlink()
    message = refused(capsys, workspace, arguments(workspace))
    assert message == (
        f"folder '{folder}' has no discrim.th or discrim.npz; the published code saves no "
        "discriminator: --fresh-discriminator draws one"
    )
    succeed([*arguments(workspace), "--fresh-discriminator"])
    assert "The discriminator is untrained: J_V is meaningless." in capsys.readouterr().out
    succeed(["evaluate", workspace / "run", "--episodes", 4])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("agent", ""), ("mixer", ""), ("ez_bandit_policy", "; with latent.kind uniform, none")],
)
def test_a_missing_file_is_named(workspace, capsys, name, hint):
    (workspace / "models" / "1200" / f"{name}.npz").unlink()
    message = refused(capsys, workspace, arguments(workspace))
    assert f"models/1200' has no {name}.th or {name}.npz{hint}" in message


def test_a_misshapen_array_is_named(workspace, capsys):
    path = workspace / "models" / "1200" / "agent.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"fc1.weight": np.zeros((8, 3))})
    message = refused(capsys, workspace, arguments(workspace))
    columns = arrays["fc1.weight"].shape[1]
    assert message == f"agent: array 'fc1.weight' has shape (8, 3); expected (8, {columns})"


def test_weights_of_another_algorithm_are_refused(workspace, capsys):
    message = refused(capsys, workspace, arguments(workspace, "qmix"))
    assert message.startswith("agent: array 'fc2.weight' is missing")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_archive(workspace, capsys, content):
    path = workspace / "models" / "1200" / "mixer.npz"
    path.write_bytes(content)
    assert refused(capsys, workspace, arguments(workspace)).startswith(
        f"'{path}' is no file of weights: "
    )


def test_text_in_the_place_of_numbers(workspace, capsys):
    np.savez(workspace / "models" / "1200" / "mixer.npz", **{"V.2.bias": "many"})
    message = refused(capsys, workspace, arguments(workspace))
    assert "is no file of weights: could not convert string to float" in message


def test_numbers_that_are_not_finite(workspace, capsys):
    path = workspace / "models" / "1200" / "mixer.npz"
    with np.load(path) as file:
        arrays = dict(file)
    name = next(iter(arrays))
    np.savez(path, **arrays | {name: np.full_like(arrays[name], np.nan)})
    message = refused(capsys, workspace, arguments(workspace))
    assert message == f"'{path}': array '{name}' holds numbers that are not finite"


def test_an_existing_folder_is_refused(workspace, capsys):
    (workspace / "run").mkdir()
    message = refused(capsys, workspace, arguments(workspace))
    assert message.endswith("already exists; choose a new path")


def test_arguments_that_cannot_work(workspace, capsys):
    assert refused(capsys, workspace, arguments(workspace, folder="nowhere")).endswith(
        "nowhere' is not a folder"
    )
    assert refused(capsys, workspace, arguments(workspace)[:-2]).startswith("Missing")
    command = ["convert", workspace, "--config", "mavn", "--out", workspace / "run"]
    assert refused(capsys, workspace, command) == "unknown config 'mavn'; did you mean 'maven'?"


def test_a_disk_that_fills_up_leaves_nothing(workspace, capsys, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_weights", fail)
    assert "No space left" in refused(capsys, workspace, arguments(workspace))


class Tensor:
    """What of a torch tensor is relied on."""

    def __init__(self, array):
        self.detach = self.float = lambda: self
        self.numpy = lambda: array


@pytest.fixture
def torch_files(workspace):
    """The agents' weights as `agent.th` alone, with a stand-in's content."""
    path = workspace / "models" / "1200" / "agent.npz"
    path.rename(path.with_suffix(".th"))
    return path.with_suffix(".th")


def test_torch_files_are_read_without_running_what_is_pickled(workspace, monkeypatch, torch_files):
    def load(path, map_location, weights_only):
        assert (path, map_location, weights_only) == (torch_files, "cpu", True)
        with np.load(path) as file:
            return {name: Tensor(array) for name, array in file.items()}

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    succeed(arguments(workspace))
    assert_converted(weights_of(workspace / "run"), state_dicts(workspace / "maven.yaml"))


def test_torch_files_without_torch(workspace, capsys, monkeypatch, torch_files):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused(capsys, workspace, arguments(workspace)) == (
        f"'{torch_files}' needs torch, which is not installed; allowed without it: agent.npz in "
        "its place, as numpy.savez writes it of the same arrays"
    )


@pytest.mark.parametrize("content", [[1, 2], {"fc1.weight": "many"}])
def test_torch_files_that_hold_no_state_dict(workspace, capsys, monkeypatch, torch_files, content):
    torch = SimpleNamespace(load=lambda *_, **__: content)
    monkeypatch.setitem(sys.modules, "torch", torch)
    message = refused(capsys, workspace, arguments(workspace))
    assert message.startswith(f"'{torch_files}' is no file of weights: ")


def test_torch_files_that_would_run_code(workspace, capsys, monkeypatch, torch_files):
    def load(*_, **__):
        raise pickle.UnpicklingError("Weights only load failed. Set weights_only to False")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    message = refused(capsys, workspace, arguments(workspace))
    assert message == f"'{torch_files}' holds something else than a state dict of tensors"


def test_arrays_of_objects_are_not_unpickled(workspace, capsys):
    planted = {"fc1.weight": np.array([Planted(workspace / "marker")], object)}
    np.savez(workspace / "models" / "1200" / "agent.npz", **planted)
    message = refused(capsys, workspace, arguments(workspace))
    assert "agent.npz' is no file of weights: " in message
    assert not (workspace / "marker").exists()


def test_help(capsys):
    succeed(["convert", "--help"])
    assert "--fresh-discriminator" in capsys.readouterr().out


def test_run_json_of_a_converted_run(workspace):
    succeed(arguments(workspace))
    info = json.loads((workspace / "run" / "run.json").read_text())
    assert info["lanes"] == {"seed": [0]}
    file = workspace / "run" / "metrics.csv"
    text = file.read_bytes()
    record = {"rows": 1, "length": len(text), "checksum": zlib.crc32(text)}
    assert info["metrics_csv"] == record
    file.write_bytes(text.replace(b"\r\n0,", b"\r\n0,1"))
    with pytest.raises(StorageError, match=r"metrics\.csv was changed"):
        load_run(workspace / "run")
    assert {"command", "versions", "device"} <= set(info)
