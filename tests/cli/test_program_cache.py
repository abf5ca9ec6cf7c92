"""Compiled programs are kept, found again, and make room."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import pytest
from experiments import SMALL

from maven_jax.cli import program_cache
from maven_jax.cli.program_cache import (
    CHECKED,
    default_folder,
    drop_damaged,
    folder_in_use,
    keep_programs,
    make_room,
    sweeps_folder,
)


def train(folder: Path, name: str) -> tuple[bytes, str]:
    """Trains in a process that has no folder for programs but what it finds itself.

    Gives its metrics, and what JAX says of the programs.
    """
    inherited = {key: value for key, value in os.environ.items() if "JAX_" not in key}
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
        env=inherited
        | {
            "PYTHONPATH": os.getcwd(),
            "XDG_CACHE_HOME": str(folder / "kept"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
            "JAX_DEBUG_LOG_MODULES": "jax._src.compiler",  # names what is found, what is compiled
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "arning" not in ended.stderr
    return (folder / name / "metrics.csv").read_bytes(), ended.stderr.lower()


def test_a_later_start_finds_the_programs_and_trains_the_same(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    first, said = train(tmp_path, "first")
    assert "cache miss for 'jit_chunk'" in said
    (kept,) = tmp_path.glob("kept/maven-jax/*/jit_chunk*-cache")
    (whole,) = tmp_path.glob("kept/maven-jax/*/sweeps-*/*")
    for file in (
        whole,
        *kept.parent.glob("*-cache"),
    ):  # as a process leaves JAX's that is killed in writing
        file.write_bytes(file.read_bytes()[:-100])
    second, said = train(tmp_path, "second")
    assert "cache miss for 'jit_chunk'" in said
    zlib.decompress(kept.read_bytes())  # written anew
    third, said = train(tmp_path, "third")
    assert "jit_chunk" not in said, "neither traced nor compiled"
    whole.unlink()
    fourth, said = train(tmp_path, "fourth")
    assert "cache hit for 'jit_chunk'" in said
    assert not whole.exists(), "XLA cannot write down what it has read"
    assert first == second == third == fourth


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX's settings, as before afterwards; caches would go to `tmp_path`, and none is named."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
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


def test_whole_sweeps_are_kept_beside_unless_that_is_no_folder_of_this_machine(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "named"))
    assert sweeps_folder().parent == tmp_path / "named"
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/programs")
    assert sweeps_folder() is None
    jax.config.update("jax_compilation_cache_dir", None)
    assert sweeps_folder() is None


@pytest.mark.parametrize("asked", ["disabled", "empty"])
def test_nothing_is_kept_where_that_is_asked_for(asked, settings, monkeypatch, tmp_path):
    if asked == "disabled":
        jax.config.update("jax_enable_compilation_cache", False)
        assert folder_in_use() is None, "though a folder is named"
    else:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert folder_in_use() is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("caches", ["file/caches", "/proc/caches"])
def test_a_place_that_takes_no_folder_keeps_nothing(caches, settings, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / caches))
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert folder_in_use() is None


def test_a_folder_that_cannot_be_written_to_is_not_used(settings, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(program_cache.os, "access", lambda folder, mode: False)
    keep_programs()
    assert folder_in_use() is None


@pytest.mark.parametrize("first", [True, False])
def test_of_several_processes_the_first_tidies(first, settings, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(program_cache.jax, "process_index", lambda: 0 if first else 1)
    default_folder().mkdir(parents=True)
    damaged = default_folder() / "jit_chunk-key-cache"
    damaged.touch()
    keep_programs()
    assert folder_in_use() == str(default_folder())
    assert damaged.exists() != first


def test_processors_of_other_kinds_have_other_folders(settings, monkeypatch):
    here = default_folder()
    assert here == default_folder()
    monkeypatch.setattr(program_cache.platform, "machine", lambda: "riscv64")
    assert default_folder().name.startswith("riscv64-")
    assert default_folder() != here


def test_processors_of_other_flags_have_other_folders(settings, monkeypatch):
    names = set()
    for flags in ("avx2", "avx2 avx512f", "avx2"):
        lines = f"processor : 0\nflags : {flags}\ncpu MHz : {len(names)}\n"
        monkeypatch.setattr(program_cache.Path, "read_text", lambda _, lines=lines: lines)
        names.add(default_folder().name)
    assert len(names) == 2


def test_what_was_used_longest_ago_makes_room(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    os.utime(tmp_path / "d", (2000, 900))  # written first, read last
    make_room(tmp_path, 40)
    assert {path.name for path in tmp_path.iterdir()} == set("abcd")
    make_room(tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "d"}


def test_subfolders_make_room_too(tmp_path):
    (tmp_path / "another-processor").mkdir()
    (tmp_path / "another-processor" / "old").write_bytes(bytes(10))
    (tmp_path / "new").write_bytes(bytes(10))
    os.utime(tmp_path / "another-processor" / "old", (900, 900))
    make_room(tmp_path, 10)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["new"]


def test_only_what_cannot_be_read_is_dropped_and_only_new_files_are_read(tmp_path):
    whole = zlib.compress(bytes(range(256)) * 40)
    contents = {"whole-cache": whole, "part-cache": whole[:-1], "empty-cache": b"", "part": b"x"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    drop_damaged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"whole-cache", "part", CHECKED}
    (tmp_path / "whole-cache").write_bytes(b"")
    os.utime(tmp_path / "whole-cache", (900, 900))  # older than the last look
    drop_damaged(tmp_path)
    assert (tmp_path / "whole-cache").exists()
    os.utime(tmp_path / "whole-cache")
    drop_damaged(tmp_path)
    assert not (tmp_path / "whole-cache").exists()
