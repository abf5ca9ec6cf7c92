"""Weights that the published PyTorch code saved, a file each, to a run's folder.

That code saves the agents' state dict as `agent.th`, the mixer's as `mixer.th`, and that of what
chooses z as `ez_bandit_policy.th` (a policy) or `returns_bandit_net.th` (a bandit). It does not
save its discriminator, whose state dicts are looked for as `discrim.th` and `rnn_agg.th`. In the
place of each file an `.npz` of the same arrays is read, and preferred.
"""

import contextlib
import importlib
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from maven_jax.algorithms.table import make_algorithm
from maven_jax.config import Config
from maven_jax.errors import MavenJaxError, StorageError
from maven_jax.experiments.metrics import MetricsWriter, describe_rows
from maven_jax.experiments.new_folder import create_run_folder, describe_machine, write_info
from maven_jax.experiments.weights import save_weights
from maven_jax.pymarl.weights import (
    StateDicts,
    discriminator_to_pymarl,
    expected_state_dicts,
    from_pymarl,
)
from maven_jax.types import EnvSpec, NetworkParams, Params
from maven_jax.validation.files import AnyPath

LATENT_FILES = {"categorical": "ez_bandit_policy", "bandit": "returns_bandit_net"}
"""What the published code calls the weights of each kind of latent."""


def read_folder(
    folder: AnyPath, config: Config, spec: EnvSpec, *, fresh_discriminator: bool = False
) -> tuple[Params, NetworkParams]:
    """Parameters and latent parameters of one seed, every shape checked.

    Args:
        folder: where the published code has saved its models.
        config: names the algorithm and its sizes.
        spec: the environment's sizes.
        fresh_discriminator: draw its weights, and read no file of it.

    Raises:
        StorageError: a file is missing or cannot be read; a `WeightsError` names an array.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StorageError(f"'{folder}' is not a folder")
    files = {
        "agent": "agent",
        "mixer": "mixer",
        "discriminator": "discrim",
        "aggregator": "rnn_agg",
        "latent": LATENT_FILES.get(config.latent.kind, ""),
    }
    found: dict[str, Mapping[str, np.ndarray]] = {}
    for part, wanted in expected_state_dicts(config, spec)._asdict().items():
        name = files[part]
        if fresh_discriminator and name in ("discrim", "rnn_agg"):
            continue
        path = next((p for p in _paths(folder, name) if p.is_file()), None)
        if path is None and wanted:
            raise StorageError(f"folder '{folder}' has no {name}.th or {name}.npz{_hint(part)}")
        # A mixer that nothing asks for belongs to another algorithm; other files may lie about.
        found[part] = _read(path) if path and (wanted or part == "mixer") else {}
    algorithm = make_algorithm(config, spec)
    if fresh_discriminator and algorithm.discriminator:
        key, size = jax.random.key(0), algorithm.latent.size
        params = algorithm.discriminator.init_params(key, spec, size)
        found["discriminator"], found["aggregator"] = discriminator_to_pymarl(params)
    return from_pymarl(StateDicts(**found), config, spec)


def write_run(
    path: AnyPath,
    config: Config,
    source: AnyPath,
    params: Params,
    latent_params: NetworkParams,
    metrics: dict[str, np.ndarray],
) -> None:
    """Makes a finished run's folder of one lane, seed 0: all of it, or nothing.

    `metrics.csv` has one row, of `num_updates` 0 as it is not known how many there were. Its
    `env_steps` are those that the published code names the folder by, or 0.

    Args:
        path: folder to make.
        config: the run's configuration.
        source: folder that the weights are from.
        params: weights, with an axis of lanes.
        latent_params: the same for the latent policy.
        metrics: an evaluation of these weights, each with an axis of lanes.

    Raises:
        StorageError: the folder exists or cannot be made.
    """
    path = Path(path)
    source = Path(source)
    step = source.resolve().name
    counts = {"env_steps": int(step) if step.isdecimal() else 0, "num_updates": 0}
    info = {
        "status": "converted",
        "command": sys.argv,
        "source": str(source),
        "lanes": {"seed": [0]},
        **describe_machine(),
    }
    create_run_folder(path, config, info)
    try:
        with contextlib.closing(MetricsWriter(path, {"seed": np.array([0])})) as writer:
            writer.write(metrics | {k: np.array([n]) for k, n in counts.items()}, np.array([True]))
        write_info(path, info | {"metrics_csv": describe_rows(path, writer.rows)})
        save_weights(path, params, latent_params, 1)
    except BaseException:
        shutil.rmtree(path)
        raise


def _paths(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}{suffix}" for suffix in (".npz", ".th")]


def _hint(part: str) -> str:
    if part in ("discriminator", "aggregator"):
        return "; the published code saves no discriminator: --fresh-discriminator initialises one"
    return "; with latent.kind uniform, none is needed" if part == "latent" else ""


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one file, in single precision.

    Raises:
        StorageError: it cannot be read, or is no state dict.
    """
    try:
        arrays = _read_npz(path) if path.suffix == ".npz" else _read_torch(path)
        weights = {str(name): np.asarray(array, np.float32) for name, array in arrays.items()}
        for name, array in weights.items():
            if not np.isfinite(array).all():
                raise StorageError(f"'{path}': array '{name}' holds numbers that are not finite")
        return weights
    except MavenJaxError:
        raise
    except pickle.UnpicklingError:  # torch would advise to run what is in the file
        raise StorageError(f"'{path}' holds something else than a state dict of tensors") from None
    except Exception as error:  # NumPy, zipfile, pickle and torch raise many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise StorageError(f"'{path}' is no file of weights: {reason[:200]}") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise StorageError(
            f"'{path}' needs torch, which is not installed; allowed without it: "
            f"{path.stem}.npz instead, as numpy.savez writes it of the same arrays"
        ) from None
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.detach().float().numpy() for name, tensor in state_dict.items()}
