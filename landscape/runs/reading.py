"""The file of a run, ``run.h5``, which any number read while `landscape.runs.writing` writes it or is killed.

How nothing committed is ever lost:

- The file is made complete but empty under a temporary name and renamed, so it exists only with its whole header.
- It is then written in HDF5's single-writer-multiple-reader mode, which keeps it readable at every moment.
- A row's step number is written last. A row whose step is missing (or still the fill value -1) does not exist.
- Every row carries HDF5's Fletcher-32 checksum, in an (uncompressed) stream of zlib, because a block of zeros passes
  for the former but not for the latter; a damaged row is an error, not a number.
- A killed writer leaves the file marked as open: it can still be read (see `landscape.runs.hdf5`), and `recover` copies
  what is committed and renames the copy into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.runs.hdf5 import open_readable
from landscape.runs.lock import writer_alive_in

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "GROUPS",
    "METRICS",
    "PEAK",
    "SINGLE",
    "SPARSE",
    "STATUS",
    "VERSION",
    "Rows",
    "committed",
    "digest",
    "open_for_reading",
    "read_everything",
    "read_header",
    "read_status",
]

FILE_NAME = "run.h5"
FORMAT = "landscape-run"
VERSION = 1
STATUS = ("unfinished", "complete", "diverged")
PEAK = "peak_memory"
SINGLE = ("status", PEAK)
"""Datasets of one value, which may change."""
METRICS = ("loss", "accuracy", "gradient_norm", "learning_rate", "tokens", "flops", "seconds")
SPARSE = ("values", "name")
"""Columns of recorded runs with places for names that never come."""
GROUPS = ("metrics", "checks", "switch", "names")
"""Groups of rows beside the checkpoints: `checks`, `switch` in runs that shift, `names` of metrics in recorded ones."""


@contextlib.contextmanager
def open_for_reading(path: Path, *, writer_alive: bool | None = None) -> Iterator[h5py.File]:
    """Open a run file, also while a process writes it; None finds out whether one does.

    Raises:
        LandscapeError: if it is missing, empty, damaged, or not a run of this package.
    """
    if not path.is_file():
        raise LandscapeError(
            f"expected a run file at {path}, found none. Train one with `landscape train -o {path.parent}`, or "
            "make one of files with `landscape import`."
        )
    try:
        file, cut = open_readable(
            path, writer_alive=writer_alive_in(path.parent) if writer_alive is None else writer_alive
        )
    except OSError as error:
        raise LandscapeError(_damaged(path, error)) from error
    with file:
        try:
            _check_format(file, path)
            if cut:  # the writer met a full disk, or the copy is incomplete: are the committed rows there?
                read_everything(file)
            yield file
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:  # whatever h5py and NumPy raise
            raise LandscapeError(_damaged(path, error)) from error


def _check_format(file: h5py.File, path: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        raise LandscapeError(f"expected a run written by `landscape train`, found another kind of HDF5 file: {path}.")
    if (found := int(file.attrs.get("format_version", -1))) != VERSION:
        raise LandscapeError(f"expected run format {VERSION}, found {found} in {path}. Use the version that wrote it.")


def read_header(file: h5py.File) -> dict[str, Any]:
    """The attributes the run was created with, as they were: config, layout, provenance."""
    text = str(file.attrs["header"])
    if digest(text) != file.attrs["header_sha256"]:
        raise OSError("the header fails its checksum")
    header: dict[str, Any] = json.loads(text)
    return header


def committed(group: h5py.Group) -> int:
    """Number of committed rows: the leading steps that are not the fill value."""
    steps = group["step"][...]
    n = int(np.argmax(steps < 0)) if (steps < 0).any() else len(steps)
    if (np.diff(steps[:n]) <= 0).any():
        raise OSError("its steps are not in order")
    return n


def read_status(file: h5py.File) -> str:
    """One of `STATUS`."""
    if not 0 <= (code := int(file["status"][0])) < len(STATUS):
        raise OSError(f"its status is {code}")
    return STATUS[code]


def digest(text: str) -> str:
    """Checksum of a header."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_everything(file: h5py.File) -> None:
    """Read every committed row, so that one that is not there raises now."""
    for group, names in read_header(file).get("columns", {"metrics": METRICS}).items():
        for name in names:
            _ = file[group][name]
    for group in (file, *(file[g] for g in GROUPS if g in file)):
        for name, data in group.items():
            if isinstance(data, h5py.Dataset) and name not in SINGLE:
                for i in range(committed(group)):
                    _ = data[i]


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


def _damaged(path: Path, error: Exception | None) -> str:
    size = path.stat().st_size
    what = "an empty file" if size == 0 else f"a damaged or foreign file of {size} bytes ({error})"
    return f"expected a run written by `landscape train`, found {what}: {path}. Restore it from a copy or train again."
