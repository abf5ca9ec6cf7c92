"""Compiled sweeps on disk: found again where all is as it was, and nowhere else."""

import importlib
import os
import sys
import sysconfig
from dataclasses import replace

import chex
import jax
import numpy as np
import pytest
from experiments import small_config
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh
from rich.console import Console

import maven_jax.__main__
from maven_jax import train
from maven_jax.config import Hyperparameters
from maven_jax.config.files import load_config
from maven_jax.envs import MStepMatrixGame
from maven_jax.runs import kept_programs
from maven_jax.runs.kept_programs import find, hits_of_jax_cache, keep, kept_file
from maven_jax.runs.options import Options
from maven_jax.runs.programs import compile_run
from maven_jax.runs.sweep import (
    Position,
    compile_sweep,
    make_mesh,
    run_sweep,
    seed_keys,
    take_lanes,
)
from maven_jax.train import make_trainer

CONFIG = small_config("vdn")
KEYS = seed_keys(0, 3)
TRAINER = make_trainer(CONFIG, MStepMatrixGame(m=3))


@pytest.fixture(scope="module", autouse=True)
def empty_cache(tmp_path_factory):
    """JAX's own cache has nothing of before: XLA cannot write down what it has read."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def sweep(empty_cache):
    """Three lanes on two devices."""
    return compile_sweep(TRAINER, 3)


def file_of(folder, config=CONFIG, num_lanes=3, **options):
    return kept_file(folder, config, num_lanes, make_mesh(num_lanes), **options)


def test_what_was_kept_is_found_and_trains_the_same_bit_for_bit(sweep, tmp_path):
    path = file_of(tmp_path / "programs")
    assert find(path, TRAINER, 3, sweep.mesh) is None
    keep(path, sweep)
    assert list(path.parent.iterdir()) == [path]
    found = find(path, TRAINER, 3, sweep.mesh)
    assert jax.tree.map(str, found.state_shapes) == jax.tree.map(str, sweep.state_shapes)
    assert found.scratch_bytes == sweep.scratch_bytes
    once, again = (
        [(chunk.metrics, chunk.active) for chunk in run_sweep(s, KEYS, Hyperparameters())]
        for s in (sweep, found)
    )
    chex.assert_trees_all_equal(once, again)
    assert len(once) > 1


def test_a_program_of_fewer_devices_than_there_are_is_found(tmp_path):
    alone = compile_sweep(TRAINER, 1)
    assert alone.mesh.size == 1 < len(jax.devices())
    path = file_of(tmp_path, num_lanes=1)
    keep(path, alone)
    found = find(path, TRAINER, 1, alone.mesh)
    once, again = (next(run_sweep(s, KEYS[:1], Hyperparameters())) for s in (alone, found))
    chex.assert_trees_all_equal(once.metrics, again.metrics)


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_what_is_damaged_is_not_found_and_is_replaced(sweep, tmp_path, left):
    path = file_of(tmp_path)
    keep(path, sweep)
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert find(path, TRAINER, 3, sweep.mesh) is None
    keep(path, sweep)
    assert path.read_bytes() == whole


def test_where_nothing_can_be_written_nothing_is_kept(sweep, tmp_path):
    (tmp_path / "file").touch()
    keep(tmp_path / "file" / "program", sweep)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_traced_has_no_part_in_where_a_program_is_kept(tmp_path):
    rate = CONFIG.hyperparameters._replace(learning_rate=0.1)
    assert file_of(tmp_path) == file_of(tmp_path, replace(CONFIG, hyperparameters=rate))
    longer = replace(CONFIG.training, total_env_steps=10**6)
    assert file_of(tmp_path) == file_of(tmp_path, replace(CONFIG, training=longer))


def test_a_program_is_found_for_a_run_of_another_length(sweep, tmp_path):
    """One that starts, and one that goes on from where a shorter one ended."""
    path, steps = file_of(tmp_path), 2 * CONFIG.training.total_env_steps
    keep(path, sweep)
    longer = small_config("vdn", total_env_steps=steps)
    found = find(path, make_trainer(longer, MStepMatrixGame(m=3)), 3, sweep.mesh)
    once, more = (list(run_sweep(s, KEYS, Hyperparameters())) for s in (sweep, found))
    chex.assert_trees_all_equal(once[0].metrics, more[0].metrics)
    before, after = once[-1].metrics["env_steps"], more[-1].metrics["env_steps"]
    assert (before >= CONFIG.training.total_env_steps).all()
    assert (before < steps).all()
    assert (after >= steps).all()
    state = once[-1].state._replace(key=jax.random.key_data(once[-1].state.key))
    state = take_lanes(state, 3)
    ended = Position(state._replace(key=jax.random.wrap_key_data(state.key)), once[-1].metrics)
    assert not list(run_sweep(sweep, KEYS, Hyperparameters(), ended))
    assert next(run_sweep(found, KEYS, Hyperparameters(), ended)).active.all()


def test_what_is_traced_is_not_told_steps_and_hyperparameters(monkeypatch):
    """Or a part of one's own could make them part of a program that serves all of them."""
    told = []
    make_parts = train.make_parts
    monkeypatch.setattr(
        train, "make_parts", lambda config, env: told.append(config) or make_parts(config, env)
    )
    assert CONFIG.hyperparameters != Hyperparameters()
    trainer = make_trainer(CONFIG, MStepMatrixGame(m=3))
    untold = replace(CONFIG.training, total_env_steps=0)
    assert told == [replace(CONFIG, training=untold, hyperparameters=Hyperparameters())]
    assert trainer.total_env_steps == CONFIG.training.total_env_steps


def test_whatever_a_program_depends_on_has(tmp_path, monkeypatch):
    one_device = Mesh(np.array(jax.devices()[:1]), ("lanes",))
    found = [
        file_of(tmp_path),
        file_of(tmp_path, small_config("qmix")),
        file_of(tmp_path, small_config("vdn", batch_size=3)),
        file_of(tmp_path, replace(CONFIG, env=load_config("foraging").env)),
        file_of(tmp_path, num_lanes=4),
        file_of(tmp_path, from_weights=True),
        kept_file(tmp_path, CONFIG, 3, one_device),
    ]
    with jax.enable_x64(True):
        found.append(file_of(tmp_path))
    with jax.default_matmul_precision("highest"):
        found.append(file_of(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " ")
    found.append(file_of(tmp_path))
    assert len(set(found)) == len(found)


def test_an_edit_of_what_is_traced_is_another_program(tmp_path, monkeypatch):
    package = tmp_path / "package_of_a_test"
    (package / "part").mkdir(parents=True)
    for name in ("__init__.py", "part/__init__.py", "notes.txt"):
        (package / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kept_programs, "TRACED", (package.name, "package_that_is_not_there"))
    before = file_of(tmp_path)
    (package / "notes.txt").write_text("no code")
    assert file_of(tmp_path) == before
    (package / "part" / "__init__.py").write_text("x = 1")
    longer = file_of(tmp_path)
    (package / "part" / "__init__.py").write_text("x = 2")
    os.utime(package / "part" / "__init__.py", (1000, 1000))
    assert len({before, longer, file_of(tmp_path)}) == 3


def test_an_edit_of_a_module_of_ones_own_is_another_program(tmp_path, monkeypatch):
    """An environment may be in it, or a part that replaces one of this package."""
    own = tmp_path / "module_of_a_user.py"
    own.write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    without = file_of(tmp_path)
    module = importlib.import_module(own.stem)
    monkeypatch.setitem(sys.modules, own.stem, module)
    first = file_of(tmp_path)
    own.write_text("x = 20")
    assert len({without, first, file_of(tmp_path)}) == 3


def test_how_the_command_line_is_started_has_no_part(tmp_path, monkeypatch):
    """`maven-jax` or `python -m maven_jax`, or a call of `run`, from Python."""
    found = {file_of(tmp_path)}
    for file in (maven_jax.__main__.__file__, f"{sysconfig.get_path('scripts')}/maven-jax"):
        assert os.path.isfile(file)
        monkeypatch.setattr(sys.modules["__main__"], "__file__", file, raising=False)
        found.add(file_of(tmp_path))
    assert len(found) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_typed_in_a_notebook_is_not_kept(kept, tmp_path, monkeypatch):
    if not kept:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    options = Options(console=Console(quiet=True), programs=tmp_path / "programs")
    for _ in range(2):
        config = small_config("vdn", batch_size=3)
        sweep = compile_run(config, MStepMatrixGame(m=3), 1, options)
        assert next(run_sweep(sweep, KEYS[:1], Hyperparameters())).active.all()
    assert len(list(tmp_path.glob("programs/*"))) == kept


def test_a_program_that_jax_has_kept_is_told_apart():
    def compile_one(factor):
        jax.jit(lambda x: x * factor).lower(jax.ShapeDtypeStruct((3,), "float32")).compile()

    with hits_of_jax_cache() as hits:
        compile_one(3.25)
        assert not hits
        compile_one(3.25)
        assert len(hits) == 1
    compile_one(3.25)
    assert len(hits) == 1


def test_what_is_traced_is_watched_and_rooms_of_the_host_are_not():
    for name in ("maven_jax", "jax", "flax", "optax", "distrax", "flashbax", "jumanji"):
        assert name in kept_programs.TRACED
    sources = list(kept_programs._sources())
    for part in ("maven_jax/rollout.py", "maven_jax/envs/m_step_matrix/env.py", "jax/_src/core.py"):
        assert any(path.endswith(part) for path in sources), part
    assert not any("maven_jax/cli/" in path for path in sources)
    assert any("jax/_src/lax/" in path for path in sources)
