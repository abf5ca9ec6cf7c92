"""What a sweep holds, counted by hand, and what is free."""

import sys

import jax
import jax.numpy as jnp
import psutil
import pytest
from small_experiments import small_config

from maven_jax.environments.registry import complete, make_env
from maven_jax.errors import ConfigError
from maven_jax.experiments.memory import (
    Memory,
    check_memory,
    control_group_free,
    format_bytes,
    free_bytes,
    state_memory,
)
from maven_jax.training.train import make_trainer
from maven_jax.types import TrainState
from maven_jax.validation.files import load_config


def test_bytes_are_counted_by_hand():
    state = TrainState(
        params={"a": jnp.zeros((2, 3))},  # 24
        target_params={"a": jnp.zeros(4, jnp.int8)},  # 4
        opt_state=(),
        latent_params={},
        latent_opt_state=(),
        replay=jnp.zeros((5, 2), bool),  # 10
        latent_replay=jnp.zeros(2),  # 8
        key=jax.random.key(0),  # 8
        num_updates=jnp.int32(0),  # 4
        env_steps=jnp.int32(0),  # 4
        diverged=jnp.array(False),  # 1
        moments=None,
        target_moments=None,
    )
    assert state_memory(state) == Memory(replay=18, weights=45)
    assert Memory(replay=18, weights=45, scratch=100, checkpoint=63).total == 226


def test_one_seed_of_the_paper_takes_less_than_four_megabytes():
    config = complete(load_config("maven"))
    trainer = make_trainer(config, make_env(config))
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    assert state_memory(state).total < 4e6
    stored = state.replay.experience
    types = (stored.actions.dtype, stored.mask.dtype, stored.action_mask.dtype)
    assert types == (jnp.int8, jnp.bool_, jnp.bool_)


@pytest.mark.slow
def test_training_copies_no_replay():
    """The temporary memory of a chunk does not grow with the replay."""
    config = small_config("maven", replay_size=20_000)
    trainer = make_trainer(config, make_env(config))
    state = jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)
    chunk = jax.jit(trainer.chunk, donate_argnums=0).lower(state, config.hyperparameters).compile()
    assert chunk.memory_analysis().temp_size_in_bytes < state_memory(state).total / 2


def test_a_cpu_has_no_more_free_than_the_machine():
    free = free_bytes(jax.devices("cpu"))
    assert 0 < free <= psutil.virtual_memory().total


GROUPS = "sys/fs/cgroup"


def group(root, folder, limit, used=0, cache=0):
    """Writes a control group's files of memory."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "memory.max").write_text(f"{limit}\n")
    (root / folder / "memory.current").write_text(f"{used}\n")
    (root / folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


def belongs(root, text):
    """What `/proc/self/cgroup` says."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


@pytest.mark.parametrize("limits", [(1500, "max", 900), (900, "max", 1500), ("max", 900, "max")])
def test_of_nested_groups_the_smallest_limit_counts(tmp_path, limits):
    """A service in a slice; the root itself has no files."""
    belongs(tmp_path, "0::/a/b.slice/c.scope\n")
    for folder, limit in zip(("a", "a/b.slice", "a/b.slice/c.scope"), limits, strict=True):
        group(tmp_path, f"{GROUPS}/{folder}", limit, used=100)
    group(tmp_path, f"{GROUPS}/other", 1)
    assert control_group_free(tmp_path) == 800


def test_what_is_left_counts_and_not_the_limit(tmp_path):
    """A container sees its own group as the root, and what the kernel caches for it is given back.

    A group above may have more to give, of which others have taken most; there is never below 0.
    """
    belongs(tmp_path, "0::/\n")
    group(tmp_path, GROUPS, 1500, used=600, cache=100)
    assert control_group_free(tmp_path) == 1000
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    group(tmp_path, f"{GROUPS}/a", 5000, used=4900)
    group(tmp_path, f"{GROUPS}/a/b", 1000, used=10)
    assert control_group_free(tmp_path) == 100
    group(tmp_path, f"{GROUPS}/a", 5000, used=5001)
    assert control_group_free(tmp_path) == 0


@pytest.mark.parametrize("line", ["0::/docker/7/seen/outside", "0::/../..", "0::"])
def test_a_container_that_is_told_its_path_outside(tmp_path, line):
    belongs(tmp_path, f"{line}\n")
    group(tmp_path, GROUPS, 1500, used=500)
    assert control_group_free(tmp_path) == 1000


@pytest.mark.parametrize("damage", ["", "many", "-"])
def test_without_groups_or_where_they_cannot_be_read_nothing_is_limited(tmp_path, damage):
    assert control_group_free(tmp_path) == sys.maxsize
    belongs(tmp_path, f"0::/\n{damage}:\n::\n")
    group(tmp_path, GROUPS, 1500)
    assert control_group_free(tmp_path) == 1500
    (tmp_path / GROUPS / "memory.max").write_text(damage)
    assert control_group_free(tmp_path) == sys.maxsize
    (tmp_path / GROUPS / "memory.max").unlink()
    (tmp_path / GROUPS / "memory.max").mkdir()
    assert control_group_free(tmp_path) == sys.maxsize
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
    assert control_group_free(tmp_path) == sys.maxsize


def test_the_size_that_is_said_to_fit_does():
    """Groups are padded to an even share of the devices: the advice allows for it."""
    held = Memory(replay=1000 * 100, weights=0)
    with pytest.raises(ConfigError, match="group-size 4 or less"):
        check_memory(held, 5900, num_lanes=100, num_devices=4)
    check_memory(Memory(replay=1000 * 4, weights=0), 5900, num_lanes=4, num_devices=4)
    with pytest.raises(ConfigError, match="a smaller replay_size"):
        check_memory(held, 900, num_lanes=100, num_devices=4)


def test_bytes_as_text():
    assert format_bytes(1_500_000) == "1.5 MB"
    assert format_bytes(2_340_000_000) == "2.3 GB"
