"""Training on: a finished run to more steps, and a new run from another's weights."""

import shutil

import chex
import pytest
from small_experiments import SMALL, edit_info, forget_config, read_info, refused, train_run

from maven_jax import ConfigError, load_config, override
from maven_jax.cli.main import run
from maven_jax.environments.registry import make_env
from maven_jax.experiments.folder import INITIAL_WEIGHTS
from maven_jax.experiments.grid import make_lanes
from maven_jax.experiments.options import Origin
from maven_jax.experiments.weights import read_initial_weights, read_weights

pytestmark = pytest.mark.slow

QUIET = ["--no-tensorboard", "--seeds", "2"]
LONGER = ["--training.total-env-steps", "120"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "small.yaml"
    file.write_text(SMALL.format(algorithm="maven"))
    return str(file)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run of 60 steps whose last checkpoint was kept."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    assert run(["train", config, *QUIET, "--checkpoint.keep-final", "--out", str(path)]) == 0
    return path


def test_a_run_trained_on_is_bit_for_bit_the_longer_run(config, finished, tmp_path):
    """Rows may stand in another order: seeds that had ended rested while others went on."""
    before = (finished / "metrics.csv").read_text().splitlines()
    longer = tmp_path / "longer"
    assert run(["train", config, *QUIET, *LONGER, "--out", str(longer)]) == 0
    went_on = shutil.copytree(finished, tmp_path / "went_on")
    assert run(["resume", str(went_on), "--no-tensorboard", *LONGER]) == 0
    rows = (went_on / "metrics.csv").read_text().splitlines()
    assert sorted(rows) == sorted((longer / "metrics.csv").read_text().splitlines())
    assert rows[: len(before)] == before
    assert len(rows) > len(before)
    chex.assert_trees_all_equal(read_weights(went_on).arrays, read_weights(longer).arrays)
    assert "total_env_steps: 120" in (went_on / "config.yaml").read_text()
    assert read_info(went_on)["status"] == "finished"


def test_what_training_on_needs_is_said(finished, tmp_path, capsys):
    bare = shutil.copytree(finished, tmp_path / "bare")
    shutil.rmtree(bare / "checkpoints")
    before = (bare / "metrics.csv").read_bytes()
    line = refused(capsys, "resume", bare, *LONGER)
    assert "ended without a checkpoint" in line
    assert "--checkpoint.keep-final" in line
    assert f"--init-from '{bare}'" in line
    assert (bare / "metrics.csv").read_bytes() == before
    line = refused(capsys, "resume", finished, "--training.total-env-steps", "60")
    assert line.startswith("training.total_env_steps is 60; allowed: a whole number above 60")
    assert "has already finished" in refused(capsys, "resume", finished)


@pytest.mark.parametrize(("lane", "taken"), [([], [0, 1]), (["--lane", "1"], [1, 1])])
def test_a_run_starts_from_the_weights_of_another(config, finished, tmp_path, lane, taken, capsys):
    path = tmp_path / "new"
    origin = ["--init-from", str(finished), *lane]
    assert run(["train", config, *QUIET, *origin, "--out", str(path)]) == 0
    source, start = read_weights(finished).arrays, read_initial_weights(path)
    chex.assert_trees_all_equal(start, {name: array[taken] for name, array in source.items()})
    record = read_info(path)["init_from"]
    assert (record["run"], record["lanes"]["seed"]) == (str(finished), taken)
    moved = [(read_weights(path).arrays[name] != start[name]).any() for name in start]
    assert all(moved)
    assert run(["train", config, *QUIET, *origin, "--out", str(path)]) == 0, "it has finished"
    capsys.readouterr()
    for other, difference in (
        (["--lane", "0"], f"it starts from other weights, of '{finished}'"),
        (None, f"it starts from the weights, of '{finished}'"),
    ):
        arguments = [] if other is None else ["--init-from", finished, *other]
        line = refused(capsys, "train", config, *QUIET, *arguments, "--out", path)
        assert line.startswith(f"'{path}' holds another run: {difference}; choose ")
    edit_info(path, status="running")  # killed before its first checkpoint
    (path / INITIAL_WEIGHTS).unlink()
    assert f"{INITIAL_WEIGHTS} is missing" in refused(capsys, "resume", path)


def test_weights_that_do_not_fit_are_named(config, finished, tmp_path, capsys):
    origin = ["train", config, "--out", tmp_path / "new", "--init-from", finished]
    line = refused(capsys, *origin, "--seeds", "3")
    assert line.startswith("seeds is 3; allowed: 2, as many as")
    line = refused(capsys, *origin, "--seeds", "2", "--network.hidden-size", "4")
    assert "array 'params/agent/" in line
    line = refused(capsys, *origin, "--seeds", "2", "--lane", "2")
    assert line.startswith("lane is 2; allowed: a whole number from 0 to 1")
    assert "--lane needs --init-from" in refused(
        capsys, "train", config, "--out", tmp_path / "new", "--lane", "0"
    )
    line = refused(capsys, *origin, "--seeds", "2", "--training.normalize-targets")
    assert line.startswith("training.normalize_targets is True; allowed: false with --init-from")
    assert not (tmp_path / "new").exists()


def test_weights_in_units_of_other_targets_are_refused(config, finished, tmp_path, capsys):
    normalised = shutil.copytree(finished, tmp_path / "normalised")
    plain = (normalised / "config.yaml").read_text()
    (normalised / "config.yaml").write_text(plain.replace("targets: false", "targets: true"))
    forget_config(normalised)
    line = refused(capsys, "train", config, "--init-from", normalised, "--out", tmp_path / "new")
    expected = f"run '{normalised}': training.normalize_targets is True; allowed: false with"
    assert line.startswith(expected)
    own = override(load_config(config), {"training": {"normalize_targets": True}})
    lanes, origin = make_lanes(own.hyperparameters, [0, 1]), Origin({}, {})
    with pytest.raises(ConfigError, match=r"^training\.normalize_targets is True"):
        train_run(own, make_env(own), tmp_path / "new", lanes, origin=origin)
    assert not (tmp_path / "new").exists()
