"""Compiled programs are kept, found again, and make room."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from experiments import SMALL

from maven_jax.cli import program_cache
from maven_jax.cli.program_cache import default_folder, keep_programs, make_room


def train(folder: Path, name: str, **environment) -> bytes:
    """Trains in a process that has no folder for programs but what it finds itself."""
    unset = {"JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"}
    inherited = {key: value for key, value in os.environ.items() if key not in unset}
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "maven_jax",
            "train",
            "small.yaml",
            "--no-tensorboard",
            "--out",
            name,
        ],
        cwd=folder,
        env=inherited | {"PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        check=True,
    )
    assert b"arning" not in ended.stderr
    return (folder / name / "metrics.csv").read_bytes()


def test_a_second_start_finds_the_programs_and_trains_the_same(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="qmix"))
    first = train(tmp_path, "first", XDG_CACHE_HOME=str(tmp_path / "kept"))
    (folder,) = (tmp_path / "kept" / "maven-jax").iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert any(name.startswith("jit_chunk") for name in kept)
    assert train(tmp_path, "second", XDG_CACHE_HOME=str(tmp_path / "kept")) == first
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == kept


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX's settings, as before afterwards; caches would go to `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_that_is_named_stays(settings):
    named = jax.config.jax_compilation_cache_dir
    assert named, "the suite names one"
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == named


def test_nothing_is_kept_where_that_is_asked_for(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("caches", ["file/caches", "/proc/caches"])
def test_a_place_that_takes_no_folder_keeps_nothing(caches, settings, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / caches))
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_processors_of_other_kinds_have_other_folders(settings, monkeypatch):
    here = default_folder()
    assert here == default_folder()
    monkeypatch.setattr(program_cache.platform, "machine", lambda: "riscv64")
    assert default_folder().name.startswith("riscv64-")
    assert default_folder() != here


def test_what_was_used_longest_ago_makes_room(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    os.utime(tmp_path / "d", (2000, 900))  # written first, read last
    make_room(tmp_path, 40)
    assert {path.name for path in tmp_path.iterdir()} == set("abcd")
    make_room(tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "d"}
