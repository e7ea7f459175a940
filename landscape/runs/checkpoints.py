"""The rows of a run file, read at the moment they are asked for, also while another process writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.runs.reading import PEAK, Rows, committed, open_for_reading, read_status

__all__ = ["Checkpoints", "Standing"]


_Signature = tuple[int, int, int]
"""By which a file is known to be the same: number, size and time of the last write."""


@dataclass(frozen=True, eq=False)
class Standing:
    """How far a run is.

    Attributes:
        status: `unfinished`, `complete` or `diverged`.
        steps: training step of every committed checkpoint, ascending.
        peak_memory: largest memory of the training in bytes.
    """

    status: str
    steps: NDArray[np.int64]
    peak_memory: float


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
        self._kept: tuple[_Signature, Standing] | None = None
        self._tables: dict[str, tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]] = {}

    @property
    def standing(self) -> Standing:
        """Status, steps and memory at this moment; of a finished run read once, as long as its file is the same."""
        if self._kept is None or self._kept[0] != self._signature():
            with open_for_reading(self.file) as f:
                return self.look(f)
        return self._kept[1]

    def look(self, file: h5py.File) -> Standing:
        """`standing`, in a file that is open."""
        signature = self._signature()
        status = read_status(file)
        steps = np.asarray(file["step"][: committed(file)], dtype=np.int64)
        found = Standing(status, steps, float(file[PEAK][0]) if PEAK in file else math.nan)
        if status == "complete":  # nobody writes it any more
            self._kept = (signature, found)
            self._tables = {}
        return found

    def _signature(self) -> _Signature:
        try:
            found = self.file.stat()
        except OSError:
            return (0, 0, 0)
        return found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def status(self) -> str:
        """`unfinished`, `complete` or `diverged`."""
        return self.standing.status

    @property
    def steps(self) -> NDArray[np.int64]:
        """Training step of every committed checkpoint, ascending."""
        return self.standing.steps.copy()

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
        kept = self._kept is not None and self._kept[0] == self._signature()
        if not kept or group not in self._tables:
            with open_for_reading(self.file) as f:
                n = committed(f[group])
                columns = {k: np.asarray(data[:n]) for k, data in f[group].items() if k != "step"}
                found = np.asarray(f[group]["step"][:n], dtype=np.int64), columns
            if not kept:
                return found
            self._tables[group] = found
        steps, columns = self._tables[group]
        return steps.copy(), {name: column.copy() for name, column in columns.items()}

    @property
    def peak_memory(self) -> float:
        """Largest memory of the training in bytes; NaN in files of earlier versions, which have none."""
        return self.standing.peak_memory
