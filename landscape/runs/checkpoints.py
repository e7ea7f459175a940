"""The rows of a run file, read at the moment they are asked for, also while another process writes them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.runs.reading import PEAK, Rows, committed, open_for_reading, read_status

__all__ = ["Checkpoints"]


class Checkpoints:
    """What is committed in a run file: steps, the rows of each column, metrics.

    Attributes:
        file: the ``run.h5``.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(train(config, folder).path / "run.h5")
        ...     checkpoints.steps.tolist(), checkpoints.row("parameters", 2).shape
        ([0, 1, 2], torch.Size([240]))
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def status(self) -> str:
        """`unfinished`, `complete` or `diverged`."""
        with open_for_reading(self.file) as f:
            return read_status(f)

    @property
    def steps(self) -> NDArray[np.int64]:
        """Training step of every committed checkpoint, ascending."""
        with open_for_reading(self.file) as f:
            return np.asarray(f["step"][: committed(f)], dtype=np.int64)

    def rows(self, name: str) -> Rows:
        """The matrix of a column."""
        return Rows(self.file, name)

    def index(self, step: int) -> int:
        """Row of the checkpoint of a training step."""
        steps = self.steps
        found = np.flatnonzero(steps == step)
        if not len(found):
            near = steps[np.argsort(np.abs(steps - step))[:4]]
            raise LandscapeError(
                f"{self.file.parent} has no checkpoint of step {step}. "
                f"The nearest are {', '.join(map(str, sorted(near)))}."
            )
        return int(found[0])

    def row(self, name: str, step: int) -> Tensor:
        """What a column has at a training step."""
        return self.rows(name)[self.index(step)]

    def has(self, name: str) -> bool:
        """Whether the file has a column; those of earlier versions lack some."""
        with open_for_reading(self.file) as f:
            return name in f

    def table(self, group: str) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
        """Steps and columns of a group of rows, such as the metrics."""
        with open_for_reading(self.file) as f:
            n = committed(f[group])
            columns = {k: np.asarray(data[:n]) for k, data in f[group].items() if k != "step"}
            return np.asarray(f[group]["step"][:n], dtype=np.int64), columns

    @property
    def peak_memory(self) -> float:
        """Largest memory of the training in bytes; NaN in files of earlier versions, which have none."""
        with open_for_reading(self.file) as f:
            return float(f[PEAK][0]) if PEAK in f else math.nan
