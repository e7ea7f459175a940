"""Rows of a matrix in a run file, read when they are asked for."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from landscape.store import committed, open_for_reading

__all__ = ["Rows"]


class Rows:
    """Rows of one matrix of a run file, read when indexed: an int gives (P,), a slice or list of ints (n, P)."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    @property
    def shape(self) -> tuple[int, int]:
        """(T, P): committed rows, entries per row."""
        with open_for_reading(self._path) as f:
            return committed(f), int(f[self._name].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | list[int]) -> Tensor:
        with open_for_reading(self._path) as f:
            n = committed(f)
            data: h5py.Dataset = f[self._name]
            if isinstance(index, slice | list):
                rows = range(n)[index] if isinstance(index, slice) else [range(n)[i] for i in index]
                return torch.stack([_row(data, i) for i in rows]) if len(rows) else torch.empty(0, data.shape[1])
            try:
                return _row(data, range(n)[index])
            except IndexError as error:
                raise IndexError(f"checkpoint {index} of {n}") from error


def _row(data: h5py.Dataset, i: int) -> Tensor:
    return torch.from_numpy(np.asarray(data[i]))
