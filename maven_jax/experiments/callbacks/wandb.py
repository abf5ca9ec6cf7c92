"""Weights & Biases: a run there for each seed."""

import secrets
from pathlib import Path
from typing import Any

from maven_jax.config import to_dict
from maven_jax.config.fields import flatten
from maven_jax.errors import ConfigError, check, first_line
from maven_jax.experiments.callbacks.callback import (
    Callback,
    ChunkEnd,
    RunStart,
    lane_name,
    lane_values,
)
from maven_jax.experiments.files import replace_text
from maven_jax.experiments.run import Run

MODES = ("online", "offline", "disabled")
ID_FILE = "wandb_id"


class WandB(Callback):
    """Logs every lane as a run of Weights & Biases, grouped by the name of the run's folder.

    Its configuration has every field by its dotted name, and the lane's seed. The horizontal axis
    is `env_steps`. Ids are `ID-LANE`, with the ID in the folder's file `wandb_id`: a run that
    resumes continues what it has logged. Files of `wandb` are in the folder, too.
    """

    def __init__(self, project: str = "maven-jax", mode: str | None = None) -> None:
        """Of a project, on the server or on disk.

        Args:
            project: of Weights & Biases.
            mode: `online`, `offline` or `disabled`; by default what `WANDB_MODE` says.

        Raises:
            ConfigError: another mode, or the package is missing.
        """
        check(mode is None or mode in MODES, "mode of WandB", mode, ", ".join(MODES))
        _package()
        self._project, self._mode = project, mode
        self._runs: list[Any] = []

    def on_start(self, start: RunStart) -> None:
        wandb, own_id = _package(), _id_of(start.path)
        for lane in range(len(start.env_steps)):
            try:
                run = wandb.init(
                    project=self._project,
                    group=start.path.resolve().name,
                    name=lane_name(start.lanes, lane),
                    id=f"{own_id}-{lane}",
                    resume="allow",
                    reinit="create_new",  # else it would end the run of the lane before
                    mode=self._mode,
                    dir=start.path,
                    config=_lane_config(start, lane),
                    settings=wandb.Settings(console="off"),
                )
            except wandb.Error as error:
                raise ConfigError(f"wandb: {first_line(error)}") from None
            self._runs.append(run)
            run.define_metric("env_steps")
            run.define_metric("*", step_metric="env_steps")

    def on_chunk(self, chunk: ChunkEnd) -> None:
        for lane, row in chunk.rows():
            self._runs[lane].log(row)

    def on_end(self, run: Run) -> None:
        self._finish(0)

    def close(self) -> None:
        self._finish(1)  # those of a run that has not finished

    def _finish(self, exit_code: int) -> None:
        while self._runs:
            self._runs.pop(0).finish(exit_code)


def _package() -> Any:
    """The package `wandb`; without it a folder of its logs may be imported, which is none."""
    try:
        import wandb
    except ImportError:
        wandb = None  # type: ignore[assignment] # mypy takes the name for a module
    if not hasattr(wandb, "init"):
        raise ConfigError("wandb is not installed; use pip install 'maven-jax[wandb]'")
    return wandb


def _id_of(path: Path) -> str:
    """How the ids of a folder's runs begin, drawn at its first start."""
    file = path / ID_FILE
    if not file.exists():
        replace_text(file, secrets.token_hex(4) + "\n")
    return file.read_text().strip()


def _lane_config(start: RunStart, lane: int) -> dict[str, Any]:
    """Every field of the configuration by its dotted name, with the lane's values; and its seed."""
    return flatten(to_dict(start.config)) | lane_values(start.lanes, lane)
