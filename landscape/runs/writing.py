"""Writing the file of a run: see `landscape.runs.reading` for how nothing committed is ever lost."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape.errors import RunFailedError
from landscape.runs.disk import advice, replacing, reserve
from landscape.runs.hdf5 import SETTINGS
from landscape.runs.reading import (
    FORMAT,
    GROUPS,
    PEAK,
    SINGLE,
    SPARSE,
    STATUS,
    VERSION,
    committed,
    digest,
    open_for_reading,
    read_everything,
)

__all__ = ["Columns", "RunWriter"]

_LONGEST = 2**26
"""Entries of a chunk of the file along one axis."""
Columns = Mapping[str, tuple[int, ...]]
"""Shape of an entry of each column of a group of rows, all float64."""
_CHECKED: dict[str, Any] = {"fletcher32": True, "compression": "gzip", "compression_opts": 0}


class RunWriter:
    """Appends checkpoints and metrics to a run file. Use `create` or `recover`, then as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = h5py.File(path, "r+", **SETTINGS)
        try:
            reserve(self._file)
        except OSError as error:
            self._file.close()
            raise RunFailedError(_unwritten(path, "", error)) from error
        self._file.swmr_mode = True
        groups = [g for g in GROUPS if g in self._file]
        self._written = {g: set(self._file[g]["step"][: committed(self._file[g])].tolist()) for g in groups}

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        attributes: Mapping[str, Any],
        parts: Mapping[str, NDArray[Any]],
        groups: Mapping[str, Columns],
        start: tuple[int, Mapping[str, NDArray[Any]]] | None = None,
    ) -> RunWriter:
        """Make a new file; `attributes` is stored as one JSON text with its checksum.

        `parts` are those of a checkpoint, such as the first; `groups` the columns of the other groups of rows. A branch
        has its first checkpoint, `start`, from the first moment on: it never needs its origin again.
        """
        image = io.BytesIO()  # HDF5 does not survive a disk without room for its file
        with h5py.File(image, "w", libver=SETTINGS["libver"]) as f:
            f.attrs["format"], f.attrs["format_version"] = FORMAT, VERSION
            names = {"/": list(parts), **{group: list(shapes) for group, shapes in groups.items()}}
            header = json.dumps({**attributes, "id": uuid.uuid4().hex[:12], "columns": names})
            f.attrs["header"], f.attrs["header_sha256"] = header, digest(header)
            _make_single(f, "status", np.zeros(1, np.int8))
            _make_single(f, PEAK, np.full(1, np.nan))
            _make_rows(f, {name: (values.shape, values.dtype) for name, values in parts.items()})
            for name, value in ({} if start is None else {**start[1], "step": start[0]}).items():
                _put(f[name], 0, [value])
            for name, shapes in groups.items():
                _make_rows(f.create_group(name), {n: (shape, np.dtype("float64")) for n, shape in shapes.items()})
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(image.getvalue())
        except OSError as error:
            raise RunFailedError(_unwritten(path, "", error)) from error
        return cls(path)

    @classmethod
    def recover(cls, path: Path) -> RunWriter:
        """Open an existing run to continue it, whether it was closed in order or its writer was killed."""
        with open_for_reading(path, writer_alive=False) as old:  # no damage must be found after writing has begun
            read_everything(old)
        try:
            return cls(path)
        except OSError:  # flagged as open for writing: the last writer died
            with (
                replacing(path) as temporary,
                open_for_reading(path, writer_alive=False) as old,
                h5py.File(temporary, "w", **SETTINGS) as new,
            ):
                _copy_committed(old, new)
            return cls(path)

    @property
    def columns(self) -> tuple[str, ...]:
        """What the file has of a checkpoint beside its step; one of an earlier version may lack some."""
        return tuple(json.loads(self._file.attrs["header"])["columns"]["/"])

    def metrics_at(self, step: int) -> dict[str, float]:
        """What a run counts, as committed at a step; nothing where the step is not there."""
        metrics = self._file["metrics"]
        found = np.flatnonzero(metrics["step"][: committed(metrics)] == step)
        return {n: float(metrics[n][found[0]]) for n in ("tokens", "flops")} if len(found) else {}

    def last_seconds(self) -> float | None:
        """Training time recorded so far, None before the first evaluation."""
        metrics = self._file["metrics"]
        n = committed(metrics)
        return float(metrics["seconds"][n - 1]) if n else None

    def append(self, group: str, step: int, row: Mapping[str, Any]) -> None:
        """Commit one row of `metrics`, `checks` or `switch`, unless the step has one: it would come out the same."""
        if step not in self._written[group]:
            self._append(self._file[group], [step], {name: [value] for name, value in row.items()})
            self._written[group].add(step)

    def extend(self, group: str, rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Commit many rows of a group at the price of one: steps ascending, none that is there."""
        steps = [step for step in sorted(rows) if step not in self._written[group]]
        if steps:
            first = rows[steps[0]]
            self._append(self._file[group], steps, {name: [rows[s][name] for s in steps] for name in first})
            self._written[group].update(steps)

    def raise_peak(self, size: float) -> None:
        """Note the largest memory so far, in bytes; a file of an earlier version has no place for it."""
        if PEAK in self._file:
            self._file[PEAK][0] = np.fmax(self._file[PEAK][0], size)
            self._file[PEAK].flush()

    def append_checkpoint(self, step: int, row: Mapping[str, NDArray[Any]]) -> None:
        """Commit one checkpoint."""
        self._append(self._file, [step], {name: [value] for name, value in row.items()})

    def set_status(self, status: str) -> None:
        """Mark the run with one of `STATUS`."""
        self._file["status"][0] = STATUS.index(status)
        self._file["status"].flush()

    def _append(self, group: h5py.Group, steps: Sequence[int], rows: Mapping[str, Sequence[Any]]) -> None:
        """Rows of all columns, and when they are on the disk their steps, by which they exist."""
        first, n = committed(group), len(steps)
        try:
            reserve(self._file, [group[name] for name in (*rows, "step")] * (1 + n // 256))
            for name, values in rows.items():
                _put(group[name], first, values)
            self._sync()
            _put(group["step"], first, steps)
            self._sync()
        except (OSError, RuntimeError) as error:  # h5py raises either, depending on the call that fails
            raise RunFailedError(_unwritten(self.path, f"step {steps[0]} to ", error)) from error

    def _sync(self) -> None:
        """To the disk, not only to the system: after a power cut, too, a step number means that its row is there."""
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, RunFailedError):
            with contextlib.suppress(OSError, RuntimeError):  # a full disk fails again on closing
                self._file.close()
        else:
            self._file.close()


def _make_rows(group: h5py.Group, columns: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
    group.create_dataset("step", shape=(0,), maxshape=(None,), chunks=(256,), dtype="int64", fillvalue=-1, **_CHECKED)
    for name, (shape, dtype) in columns.items():
        # HDF5 has no chunks of size zero: a column without entries (plain gradient descent) gets chunks of one.
        # Nor chunks of 4 GiB: a long row is cut.
        chunks = (1 if shape else 256, *(min(max(1, s), _LONGEST) for s in shape))
        checked = _CHECKED
        if name in SPARSE:  # mostly NaN: many rows together take little room
            chunks, checked = (256, *shape), {**_CHECKED, "compression_opts": 4}
        sizes = {"shape": (0, *shape), "maxshape": (None, *(s or None for s in shape)), "chunks": chunks}
        group.create_dataset(name, **sizes, dtype=dtype, fillvalue=np.nan, **checked)


def _make_single(file: h5py.File, name: str, data: NDArray[Any]) -> None:
    file.create_dataset(name, data=data, maxshape=(None,), chunks=(1,), **_CHECKED)


def _put(dataset: h5py.Dataset, first: int, values: Sequence[Any]) -> None:
    """Rows from the first one on; rows without entries have no place in the file."""
    end = first + len(values)
    if len(dataset) < end:
        dataset.resize(end, axis=0)
    if math.prod(dataset.shape[1:]):
        dataset[first:end] = np.asarray(values)


def _copy_committed(old: h5py.File, new: h5py.File) -> None:
    """Copy header and committed rows, some at a time to bound memory."""
    for key, value in old.attrs.items():
        new.attrs[key] = value
    for name in SINGLE:
        if name in old:
            _make_single(new, name, old[name][...])
    groups = [g for g in GROUPS if g in old]
    for source, target in ((old, new), *((old[g], new.create_group(g)) for g in groups)):
        names = [n for n, d in source.items() if isinstance(d, h5py.Dataset) and n not in (*SINGLE, "step")]
        _make_rows(target, {n: (source[n].shape[1:], source[n].dtype) for n in names})
        n, many = committed(source), 1 if source is old else 256  # one checkpoint at a time, or many small rows
        for first in range(0, n, many):
            try:
                reserve(new, [target[name] for name in (*names, "step")] * 2)
            except OSError as error:
                raise RunFailedError(_unwritten(Path(new.filename), "", error)) from error
            for name in [*names, "step"]:
                _put(target[name], first, source[name][first : min(first + many, n)])


def _unwritten(path: Path, what: str, error: Exception) -> str:
    safe = "Everything before it is safe. " if what else ""
    todo = f"{advice(error)}, then start the same command again to continue."
    return f"could not write {what}{path}: {error}. {safe}{todo}"
