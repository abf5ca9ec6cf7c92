"""QMIX and MAVEN compile for an H100 and for four TPUs, by those devices' compilers, on a CPU.

The compilers come with the extra `accelerators` (`make accelerators`); nothing is run.
"""

import importlib.util
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from experiments import small_config
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, NamedSharding

from maven_jax.envs import MStepMatrixGame
from maven_jax.runs.sweep import LANES, over_lanes, seed_keys, spread
from maven_jax.train import make_trainer

H100 = Path(__file__).parent / "targets" / "h100_sxm.txtpb"
COLLECTIVE = r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\b"

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax_cuda12_plugin", "libtpu"))),
    reason="the compilers of accelerators are not installed: make accelerators",
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


def h100s() -> Mesh:
    devices = topologies.get_topology_desc(
        platform="cuda", topology_name="", topology="1x1x1", target_config=H100.read_text()
    ).devices
    return Mesh(np.array(devices[:1]), ("lanes",))


def tpus() -> Mesh:
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no TPU host to ask
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    return Mesh(np.array(devices), ("lanes",))


@pytest.mark.parametrize("target", [h100s, tpus])
@pytest.mark.parametrize("algorithm", ["qmix", "maven"])
def test_a_chunk_compiles_and_its_lanes_do_not_communicate(algorithm, target):
    mesh = target()
    config = small_config(algorithm)
    trainer = make_trainer(config, MStepMatrixGame(m=3))
    lanes = seed_keys(0, 4), spread(config.hyperparameters, 4)
    state = jax.eval_shape(jax.vmap(trainer.init), *lanes)
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, LANES)),
        (state, lanes[1]),
    )
    chunk = jax.jit(over_lanes(trainer.chunk, mesh), donate_argnums=0)
    program = chunk.lower(*arguments).compile().as_text()
    assert "while" in program, "the loop over rounds is missing: this is not the program"
    assert not re.findall(COLLECTIVE, program)
