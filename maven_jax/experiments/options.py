"""Options of training that do not change its results, and how a run is interrupted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from maven_jax.config import Config
from maven_jax.experiments.callbacks.callback import Callback
from maven_jax.experiments.checkpoint import Checkpointing
from maven_jax.experiments.console import plain_console
from maven_jax.experiments.folder import resume_command
from maven_jax.experiments.run import Run


@dataclass(frozen=True)
class Options:
    """Outputs of a run beside its results, which only a callback that stops it early changes."""

    callbacks: Sequence[Callback] = ()
    """What is called while a run trains: loggers, early stopping."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)
    """When the whole state is saved."""
    console: Console = field(default_factory=lambda: plain_console(stderr=True))
    """Where progress is shown."""
    remarks: Sequence[str] = ()
    """Lines to say of the configuration, of each program once it is known to fit."""
    draw: Callable[[Sequence[Run], Path], None] | None = None
    """Draws the curves of a folder's runs, as `reports.plots.draw_curves` does; None for no
    picture."""
    report: Callable[[Path], None] | None = None
    """Writes the report of a study's folder, whenever a run has finished; None for no report."""
    name: str = ""
    """What the run is called on the console; by default its algorithm."""

    def name_of(self, config: Config) -> str:
        """What a run of a configuration is called there."""
        return self.name or config.algorithm.upper()


class InterruptedRunError(Exception):
    """Ctrl-C or a signal during training; what is saved, if anything, is in the run's folder."""

    def __init__(self, path: Path) -> None:
        kept = f"progress is saved in '{path}'; resume it with: {resume_command(path)}"
        super().__init__(f"interrupted; {kept if path.exists() else 'nothing was saved yet'}")
        self.path = path

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return InterruptedRunError, (self.path,)


class Origin(NamedTuple):
    """Weights that training starts from, in the place of fresh ones."""

    arrays: Mapping[str, np.ndarray]
    """By names such as `params/agent/w`, with a leading axis of this run's lanes."""
    record: dict[str, Any]
    """Where they are from, for `run.json`: at least `run`, a path; `weights`, a checksum; and
    `lanes`, columns of the lanes that they are of. The latter two identify them."""
