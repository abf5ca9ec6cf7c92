"""Two virtual CPU devices for every test, and the recorded cases that the golden tests read."""

import gc
import importlib
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import vmapped
from jax.experimental.compilation_cache import compilation_cache

# Most of the suite's time is compilation; programs as small as these need no optimising.
QUICKLY = "--xla_backend_optimization_level=0"
if jax.__version_info__ < (0, 11):  # later ones stop at a flag that they do not know
    QUICKLY += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}"
jax.config.update("jax_num_cpu_devices", 2)  # sweeps share their seeds, and pad odd ones
# Where each operation was called from, which nobody reads, is a tenth of the time to compile.
jax.config.update("jax_traceback_in_locations_limit", 0)
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

# What a module whose shapes are checked is the first to import, Python compiles anew: jaxtyping
# gives cached bytecode other names meanwhile. So the large packages come before.
gc.disable()
for package in (
    "distrax",
    "flashbax",
    "jumanji",
    "matplotlib.backends.backend_agg",
    "optax",
    "pandas",
    "rich.progress",
    "scipy.stats",
    "tensorboardX",
    "tyro",
):
    importlib.import_module(package)

# Tracing makes objects by the million that live long: looking through them is a fifth of its time.
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 20, 100)
gc.enable()

LARGEST = 2**30
"""Bytes of compiled programs above which a run of the suite begins without any."""

GOLDEN_DIR = Path(os.environ.get("MAVEN_GOLDEN_DIR") or Path(__file__).parent / "golden")


SLOW_FIRST = (
    "test_train.py",
    "test_modes.py",
    "test_main.py",
    "test_sweep_command.py",
    "test_checkpoint.py",
    "test_devices.py",
    "test_benchmarks.py",
    "test_documented_commands.py",
)
"""The files that take longest, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the slow files to the front; the order within files stays."""
    items.sort(key=lambda item: item.path.name not in SLOW_FIRST)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(pytestconfig, tmp_path_factory):
    """A program that one test has compiled, others take from disk: those in processes, those of the
    other worker, and those of the next run; `pytest --cache-clear` forgets them.

    JAX does not write its files in one piece: one that is read too early is compiled again.
    """
    if (kept := getattr(pytestconfig, "cache", None)) is None:  # with `-p no:cacheprovider`
        folder = tmp_path_factory.mktemp("compiled")
    else:
        folder = kept.mkdir("compiled")
    if sum(entry.stat().st_size for entry in folder.glob("*-cache")) > LARGEST:
        shutil.rmtree(folder, ignore_errors=True)
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of recorded cases; `MAVEN_GOLDEN_DIR` names another one of the same form."""
    return GOLDEN_DIR


@pytest.fixture(params=["plain", "jit", "vmap"])
def variant(request):
    """Makes a function run as it is, compiled, or vmapped."""
    return {"plain": lambda function: function, "jit": jax.jit, "vmap": vmapped}[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`golden_path` runs over the cases of the kinds that the test module lists in `KINDS`."""
    if "golden_path" not in metafunc.fixturenames:
        return
    kinds = metafunc.module.KINDS
    paths = [path for path in sorted(GOLDEN_DIR.glob("l*.npz")) if _kind(path) in kinds]
    if not paths:
        raise pytest.UsageError(f"no recorded case of kind {' or '.join(kinds)} in {GOLDEN_DIR}")
    metafunc.parametrize("golden_path", paths, ids=[p.stem for p in paths], scope="module")


def _kind(path: Path) -> str:
    with np.load(path) as case:
        return json.loads(str(case["config"]))["kind"]
