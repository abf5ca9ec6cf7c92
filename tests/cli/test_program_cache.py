"""Compiled programs are cached for later starts, and nothing that others plant there is run."""

import importlib
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import pandas as pd
import pytest
from helpers import Planted
from jax.experimental.compilation_cache import compilation_cache
from small_experiments import SMALL

from maven_jax.cli.main import run
from maven_jax.cli.program_cache import LARGEST, cache_programs, folder_in_use
from maven_jax.environments.registry import ENVIRONMENTS

pytestmark = pytest.mark.slow


def train(folder: Path, name: str) -> tuple[bytes, str]:
    """Trains in a process with an empty environment for JAX; its metrics and its messages."""
    inherited = {key: value for key, value in os.environ.items() if "JAX_" not in key}
    command = [sys.executable, "-m", "maven_jax", "train", "small.yaml", "--seeds", "1"]
    ended = subprocess.run(
        [*command, "--no-tensorboard", "--out", name],
        cwd=folder,
        env=inherited
        | {
            "PYTHONPATH": os.getcwd(),
            "XDG_CACHE_HOME": str(folder / "caches"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
            "JAX_LOGGING_LEVEL": "DEBUG",  # hits and misses
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return (folder / name / "metrics.csv").read_bytes(), ended.stderr.lower()


def test_a_later_start_reads_the_programs_and_runs_no_planted_file(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    first, log = train(tmp_path, "first")
    assert "cache miss for 'jit_chunk'" in log
    second, log = train(tmp_path, "second")
    assert "cache hit for 'jit_chunk'" in log
    assert "warning" not in log
    marker = tmp_path / "planted"
    for file in filter(Path.is_file, (tmp_path / "caches").rglob("*")):
        if not file.name.endswith("-atime"):
            file.write_bytes(zlib.compress(pickle.dumps(Planted(marker))))
    third, log = train(tmp_path, "third")
    assert "error reading persistent compilation cache entry for 'jit_chunk'" in log
    assert not marker.exists()
    assert first == second == third


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX's settings, restored afterwards; no folder is named, and the default is in `tmp_path`."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = [f"jax_compilation_cache_{name}" for name in ("dir", "max_size")]
    names.append("jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def default(settings, tmp_path):
    """The default folder, which does not exist yet."""
    return tmp_path / "maven-jax"


def test_an_edit_that_keeps_size_and_time_trains_the_new_program(settings, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "programs"))
    compilation_cache.reset_cache()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn").replace("{m: 3}", "{}"))
    game = tmp_path / "edited_game.py"
    for reward in (2, 5):
        game.write_text(
            "from maven_jax.envs import MatrixGame\n"
            "class Game(MatrixGame):\n"
            f"    def __init__(self): super().__init__(payoff=[[{reward}.0] * 2] * 2)\n"
        )
        os.utime(game, (1000, 1000))
        monkeypatch.delitem(sys.modules, game.stem, raising=False)
        monkeypatch.setitem(ENVIRONMENTS, "edited", importlib.import_module(game.stem).Game)
        out = tmp_path / f"pays-{reward}"
        arguments = ["train", str(tmp_path / "small.yaml"), "--env.name", "edited", "--seeds", "1"]
        assert run([*arguments, "--no-tensorboard", "--out", str(out)]) == 0
        assert (pd.read_csv(out / "metrics.csv")["return"] == reward).all()
    compilation_cache.reset_cache()


@pytest.mark.parametrize("chosen_size", [None, 10**6])
def test_the_default_folder_is_its_users_alone_and_bounded(chosen_size, default):
    if chosen_size is not None:
        jax.config.update("jax_compilation_cache_max_size", chosen_size)
    cache_programs()
    assert folder_in_use() == str(default)
    assert default.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_max_size == (chosen_size or LARGEST)


def test_a_named_folder_is_unchanged(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "named"))
    cache_programs()
    assert folder_in_use() == str(tmp_path / "named")


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_used(mode, default, capsys):
    default.mkdir()
    default.chmod(mode)
    (default / "jit_chunk-key-cache").write_bytes(b"planted")
    cache_programs()
    assert folder_in_use() is None
    line = capsys.readouterr().err
    assert line.startswith("maven-jax: compiled programs are not cached: ")
    assert (str(default) in line, line.count("\n")) == (True, 1)


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_of_another_user_is_not_used(linked, default, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    folder = tmp_path / "planted" if linked else default
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    if linked:
        default.symlink_to(folder)
    cache_programs()
    assert folder_in_use() is None


@pytest.mark.parametrize("asked", ["disabled", "empty"])
def test_nothing_is_cached_where_that_is_asked_for(asked, settings, monkeypatch, tmp_path):
    if asked == "disabled":
        jax.config.update("jax_enable_compilation_cache", False)
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "named"))
        assert folder_in_use() is None, "though a folder is named"
        jax.config.update("jax_compilation_cache_dir", None)
    else:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    cache_programs()
    assert folder_in_use() is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("caches", ["file/caches", "/proc/caches"])
def test_nothing_is_cached_where_no_folder_can_be_made(caches, settings, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / caches))
    cache_programs()
    assert folder_in_use() is None


def test_a_folder_that_cannot_be_written_to_is_not_used(default, monkeypatch):
    monkeypatch.setattr(os, "access", lambda folder, mode: False)  # root may write
    cache_programs()
    assert folder_in_use() is None


def test_partial_entries_are_removed(default):
    """JAX writes an entry's `-atime` file last; it neither replaces nor evicts one without."""
    default.mkdir(mode=0o700)
    for name in ("whole-cache", "whole-atime", "partial-cache"):
        (default / name).touch()
    cache_programs()
    assert sorted(path.name for path in default.iterdir()) == ["whole-atime", "whole-cache"]
