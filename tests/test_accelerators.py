"""QMIX and MAVEN compile for an H100 and for four TPUs, by those devices' compilers, on a CPU.

The compilers come with the extra `accelerators` (`make test-accelerators`); nothing is run.
"""

import importlib.util

import jax
import pytest
from benchmark_files import load
from jax.experimental.compilation_cache import compilation_cache
from small_experiments import small_config

from maven_jax import load_config
from maven_jax.environments.registry import make_env
from maven_jax.envs import MStepMatrixGame

launches = load("launches")

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax_cuda12_plugin", "libtpu"))),
    reason="the compilers of accelerators are not installed: make test-accelerators",
)


@pytest.fixture(autouse=True)
def no_cache():
    """What is compiled for devices that are not there is kept nowhere."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("target", launches.TARGETS)
@pytest.mark.parametrize("algorithm", ["qmix", "maven"])
def test_a_chunk_compiles_and_its_lanes_do_not_communicate(algorithm, target):
    row = launches.measure(small_config(algorithm), MStepMatrixGame(m=3), 4, target)
    assert row["collectives"] == 0
    assert row["mib"] > 0
    if target == "h100":
        parts = row["parts"]
        learnt = {"latent steps"} if algorithm == "maven" else set()
        named = {"acting", "storing", "sampling", "forward", "backward", "optimizer"} | learnt
        assert named <= set(parts) <= named | {launches.OTHER}
        assert row["launches_per_update"] == pytest.approx(sum(parts.values()))
        assert row["launches_per_evaluation"] > 0


@pytest.mark.parametrize(("name", "most"), [("qmix", 225), ("maven", 470)])
def test_an_update_of_20_seeds_at_the_papers_sizes_takes_few_launches(name, most):
    config = load_config(name)
    row = launches.measure(config, make_env(config), 20, "h100")
    assert row["launches_per_update"] <= most
