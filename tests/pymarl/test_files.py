"""`maven-jax convert`: files of weights to a run, or one line and nothing on disk."""

import json
import pickle
import sys
import zlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import CUSTOM, Planted
from small_experiments import SMALL, refused

from maven_jax.acting.rollout import env_spec
from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.errors import StorageError
from maven_jax.experiments.evaluating import trained_weights
from maven_jax.experiments.run import load_run
from maven_jax.pymarl.weights import expected_state_dicts
from maven_jax.validation.files import load_config

HYPERNETWORKS = ("hyper_w_1", "hyper_w_final", "hyper_b_1", "V.0")
NAMES = ("agent", "mixer", "discrim", "rnn_agg", "ez_bandit_policy")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Where we are: a configuration of each algorithm, and in `models/1200` weights of a MAVEN."""
    monkeypatch.chdir(tmp_path)
    for algorithm in ("maven", "qmix", "iql"):
        (tmp_path / f"{algorithm}.yaml").write_text(SMALL.format(algorithm=algorithm))
    save(tmp_path / "models/1200", state_dicts("maven.yaml"))
    return tmp_path


@pytest.fixture
def models(workspace):
    return workspace / "models/1200"


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


def resave(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | changes)


def convert(algorithm="maven", folder="models/1200"):
    return ["convert", folder, "--config", f"{algorithm}.yaml", "--out", "run"]


def refusal(capsys, workspace, *command):
    """The line that a refused command prints, having left nothing on disk."""
    before = {*workspace.rglob("*")}
    message = refused(capsys, *command)
    assert {*workspace.rglob("*")} == before
    return message


def assert_converted(arrays):
    """Each of the network's matrices is the transposed one of the files; hypernetworks are one."""
    converted = load_run("run")
    weights = trained_weights(converted, make_env(converted.config))
    params, latent = jax.tree.map(lambda x: x[0], weights)
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
    assert run(convert()) == 0
    assert "4 greedy episodes a run" in capsys.readouterr().out
    converted = load_run("run")
    assert {"command", "versions", "device"} <= set(converted.info)
    assert converted.info["status"] == "converted"
    assert converted.info["source"] == "models/1200"
    assert converted.info["lanes"] == {"seed": [0]}
    assert converted.metrics["env_steps"] == [1200]
    assert np.isfinite(converted.metrics["mi_bound_test"]).all()
    assert_converted(state_dicts("maven.yaml"))
    assert run(["evaluate", "run", "--episodes", "4"]) == 0
    assert run(["plot", "run", "--out", "plot.png"]) == 0

    metrics = workspace / "run/metrics.csv"
    text = metrics.read_bytes()
    record = json.loads((workspace / "run/run.json").read_text())["metrics_csv"]
    assert record == {"rows": 1, "length": len(text), "checksum": zlib.crc32(text)}
    metrics.write_bytes(text.replace(b"\r\n0,", b"\r\n0,1"))
    with pytest.raises(StorageError, match=r"metrics\.csv was changed"):
        load_run("run")


def test_an_algorithm_without_mixer_or_latent_needs_the_agents_alone(workspace):
    save(workspace / "iql", state_dicts("iql.yaml"))
    assert [path.name for path in (workspace / "iql").iterdir()] == ["agent.npz"]
    assert run(convert("iql", "iql")) == 0
    assert load_run("run").metrics["env_steps"] == [0]


def test_a_fresh_discriminator_where_none_was_saved(workspace, models, capsys):
    for name in ("discrim", "rnn_agg"):
        (models / f"{name}.npz").unlink()
    assert refusal(capsys, workspace, *convert()) == (
        "folder 'models/1200' has no discrim.th or discrim.npz; the published code saves no "
        "discriminator: --fresh-discriminator initialises one"
    )
    assert run([*convert(), "--fresh-discriminator"]) == 0
    assert "The discriminator is untrained: J_V is meaningless." in capsys.readouterr().out
    assert run(["evaluate", "run", "--episodes", "4"]) == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [("agent", ""), ("mixer", ""), ("ez_bandit_policy", "; with latent.kind uniform, none")],
)
def test_a_missing_file_is_named(workspace, models, capsys, name, hint):
    (models / f"{name}.npz").unlink()
    message = refusal(capsys, workspace, *convert())
    assert message.startswith(f"folder 'models/1200' has no {name}.th or {name}.npz{hint}")


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("V.2.bias", "many", "is no file of weights: could not convert string to float"),
        ("V.2.bias", np.nan, ": array 'V.2.bias' holds numbers that are not finite"),
        (None, b"", "is no file of weights: "),
        (None, b"no zip", "is no file of weights: "),
        (None, b"PK\x03\x04 broken", "is no file of weights: "),
    ],
)
def test_a_file_that_holds_no_numbers(workspace, models, capsys, array, value, message):
    path = models / "mixer.npz"
    if array:
        resave(path, **{array: np.array([value])})
    else:
        path.write_bytes(value)
    start, end = refusal(capsys, workspace, *convert()).split("mixer.npz'")
    assert (start, end.lstrip()[: len(message)]) == ("'models/1200/", message)


def test_arrays_that_do_not_fit_are_named(workspace, models, capsys):
    message = refusal(capsys, workspace, *convert("qmix"))
    assert message.startswith("agent: array 'fc2.weight' is missing")
    resave(models / "agent.npz", **{"fc1.weight": np.zeros((8, 3))})
    columns = state_dicts("maven.yaml").agent["fc1.weight"].shape[1]
    message = refusal(capsys, workspace, *convert())
    assert message == f"agent: array 'fc1.weight' has shape (8, 3); expected (8, {columns})"


def test_arguments_that_cannot_work(workspace, capsys):
    assert refusal(capsys, workspace, *convert(folder="no")) == "'no' is not a folder"
    assert refusal(capsys, workspace, *convert()[:-2]).startswith("Missing")
    command = ["convert", ".", "--config", "mavn", "--out", "run"]
    assert refusal(capsys, workspace, *command) == (
        f"unknown config 'mavn'; did you mean 'maven'? {CUSTOM}"
    )
    (workspace / "run").mkdir()
    assert refusal(capsys, workspace, *convert()).endswith("already exists; choose a new path")


def test_a_disk_that_fills_up_leaves_nothing(workspace, capsys, monkeypatch):
    """The weights are the last that is written."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    assert "No space left" in refusal(capsys, workspace, *convert())


class Tensor:
    """What of a torch tensor is relied on."""

    def __init__(self, array):
        self.detach = self.float = lambda: self
        self.numpy = lambda: array


@pytest.fixture
def torch_file(models):
    """The agents' weights as `agent.th` alone, with the content of an `.npz`."""
    return (models / "agent.npz").rename(models / "agent.th")


def test_torch_files_are_read_without_running_what_is_pickled(torch_file, monkeypatch):
    def load(path, map_location, weights_only):
        assert (path.name, map_location, weights_only) == ("agent.th", "cpu", True)
        with np.load(path) as file:
            return {name: Tensor(array) for name, array in file.items()}

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    assert run(convert()) == 0
    assert_converted(state_dicts("maven.yaml"))


def unpicklable(*_, **__):
    raise pickle.UnpicklingError("Weights only load failed. Set weights_only to False")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            None,
            "needs torch, which is not installed; allowed without it: agent.npz instead, as "
            "numpy.savez writes it of the same arrays",
        ),
        (lambda *_, **__: [1, 2], "is no file of weights: "),
        (lambda *_, **__: {"fc1.weight": "many"}, "is no file of weights: "),
        (unpicklable, "holds something else than a state dict of tensors"),
    ],
    ids=["no torch", "a list", "text", "code"],
)
def test_torch_files_that_cannot_be_read(workspace, torch_file, capsys, monkeypatch, load, message):
    monkeypatch.setitem(sys.modules, "torch", load and SimpleNamespace(load=load))
    refused_with = refusal(capsys, workspace, *convert())
    assert refused_with.startswith(f"'models/1200/agent.th' {message}")
    assert "weights_only" not in refused_with


def test_arrays_of_objects_are_not_unpickled(workspace, models, capsys):
    np.savez(models / "agent.npz", **{"fc1.weight": np.array([Planted(workspace / "marker")])})
    message = refusal(capsys, workspace, *convert())
    assert message.startswith("'models/1200/agent.npz' is no file of weights: ")
    assert not (workspace / "marker").exists()
