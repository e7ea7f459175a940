"""The file of a run, ``run.h5``: one writer that may be killed at any moment, any number of readers.

How nothing committed is ever lost:

- The file is made complete but empty under a temporary name and renamed, so it exists only with its whole header.
- It is then written in HDF5's single-writer-multiple-reader mode, which keeps it readable at every moment.
- A row's step number is written last. A row whose step is missing (or still the fill value -1) does not exist.
- Every row carries HDF5's Fletcher-32 checksum; a damaged row is an error, not a number.
- A killed writer leaves the file marked as open: it can still be read (see `landscape.hdf5`), and `recover` copies what
  is committed and renames the copy into place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError, RunFailedError
from landscape.hdf5 import SETTINGS, open_readable
from landscape.lock import writer_alive_in

__all__ = ["FILE_NAME", "FORMAT", "PEAK", "STATUS", "RunWriter", "committed", "open_for_reading", "read_header"]

FILE_NAME = "run.h5"
FORMAT = "landscape-run"
VERSION = 1
STATUS = ("unfinished", "complete", "diverged")
PEAK = "peak_memory"
SINGLE = ("status", PEAK)
"""Datasets of one value, which may change."""
GROUPS = ("metrics", "checks", "switch")
"""Groups of rows beside the checkpoints; the last two in runs that shift."""


@contextlib.contextmanager
def open_for_reading(path: Path, *, writer_alive: bool | None = None) -> Iterator[h5py.File]:
    """Open a run file, also while a process writes it; None finds out whether one does.

    Raises:
        LandscapeError: if it is missing, empty, damaged, or not a run of this package.
    """
    if not path.is_file():
        raise LandscapeError(
            f"expected a run file at {path}, found none. Train one with `landscape train -o {path.parent}`."
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
                _read_everything(file)
            yield file
        except (OSError, KeyError, RuntimeError) as error:
            raise LandscapeError(_damaged(path, error)) from error


def _check_format(file: h5py.File, path: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        raise LandscapeError(f"expected a run written by `landscape train`, found another kind of HDF5 file: {path}.")
    if (found := int(file.attrs.get("format_version", -1))) != VERSION:
        raise LandscapeError(f"expected run format {VERSION}, found {found} in {path}. Use the version that wrote it.")


def read_header(file: h5py.File) -> dict[str, Any]:
    """The attributes the run was created with, as they were: config, layout, provenance."""
    text = str(file.attrs["header"])
    if _digest(text) != file.attrs["header_sha256"]:
        raise OSError("the header fails its checksum")
    header: dict[str, Any] = json.loads(text)
    return header


def committed(group: h5py.Group) -> int:
    """Number of committed rows: the leading steps that are not the fill value."""
    steps = group["step"][...]
    return int(np.argmax(steps < 0)) if (steps < 0).any() else len(steps)


class RunWriter:
    """Appends checkpoints and metrics to a run file. Use `create` or `recover`, then as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = h5py.File(path, "r+", **SETTINGS)
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
        checks: Sequence[str] = (),
        splits: Sequence[str],
        families: Sequence[str],
        start: tuple[int, Mapping[str, NDArray[Any]]] | None = None,
    ) -> RunWriter:
        """Make a new file; `attributes` is stored as one JSON text with its checksum.

        `parts` are those of a checkpoint, such as the first. A branch has its first checkpoint, `start`, from the
        first moment on: it never needs its origin again. `checks` are the columns of a run that shifts, which also
        stores the metrics just before its switch.
        """
        temporary = path.with_name(f".{path.name}.tmp")
        with h5py.File(temporary, "w", **SETTINGS) as f:
            f.attrs["format"], f.attrs["format_version"] = FORMAT, VERSION
            labels = {"id": uuid.uuid4().hex[:12], "splits": list(splits), "families": list(families)}
            header = json.dumps({**attributes, **labels})
            f.attrs["header"], f.attrs["header_sha256"] = header, _digest(header)
            f.create_dataset("status", data=np.zeros(1, np.int8))
            f.create_dataset(PEAK, data=np.full(1, np.nan))
            _make_rows(f, {name: (values.shape, values.dtype) for name, values in parts.items()})
            for name, value in ({} if start is None else {**start[1], "step": start[0]}).items():
                _put(f[name], 0, value)
            both = (len(splits), len(families))
            columns: dict[str, tuple[int, ...]] = {"loss": both, "accuracy": both}
            columns |= dict.fromkeys(("gradient_norm", "learning_rate", "tokens", "flops", "seconds"), ())
            groups = {"metrics": columns}
            groups |= {"checks": dict.fromkeys(checks, ()), "switch": columns} if checks else {}
            for name, shapes in groups.items():
                _make_rows(f.create_group(name), {n: (shape, np.dtype("float64")) for n, shape in shapes.items()})
        _publish(temporary, path)
        return cls(path)

    @classmethod
    def recover(cls, path: Path) -> RunWriter:
        """Open an existing run to continue it, whether it was closed in order or its writer was killed."""
        try:
            return cls(path)
        except OSError:  # flagged as open for writing: the last writer died
            temporary = path.with_name(f".{path.name}.tmp")
            with open_for_reading(path, writer_alive=False) as old, h5py.File(temporary, "w", **SETTINGS) as new:
                _copy_committed(old, new)
            _publish(temporary, path)
            return cls(path)

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
            self._append(self._file[group], step, row)
            self._written[group].add(step)

    def raise_peak(self, size: float) -> None:
        """Note the largest memory so far, in bytes; a file of an earlier version has no place for it."""
        if PEAK in self._file:
            self._file[PEAK][0] = np.fmax(self._file[PEAK][0], size)
            self._file[PEAK].flush()

    def append_checkpoint(self, step: int, row: Mapping[str, NDArray[Any]]) -> None:
        """Commit one checkpoint."""
        self._append(self._file, step, row)

    def set_status(self, status: str) -> None:
        """Mark the run with one of `STATUS`."""
        self._file["status"][0] = STATUS.index(status)
        self._file["status"].flush()

    def _append(self, group: h5py.Group, step: int, row: Mapping[str, Any]) -> None:
        i = committed(group)
        size = sum(np.asarray(value).nbytes for value in row.values())
        try:
            # HDF5 does not recover from a write that fails half-way; better not to start one.
            if shutil.disk_usage(self.path).free < 2 * size + 2**20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for name, value in row.items():
                _put(group[name], i, value)
            self._sync()
            _put(group["step"], i, step)
            self._sync()
        except (OSError, RuntimeError) as error:  # h5py raises either, depending on the call that fails
            raise RunFailedError(
                f"could not write step {step} to {self.path}: {error}. Everything before it is safe. "
                "Free disk space and start the same command again to continue."
            ) from error

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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _make_rows(group: h5py.Group, columns: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
    group.create_dataset(
        "step", shape=(0,), maxshape=(None,), chunks=(256,), dtype="int64", fillvalue=-1, fletcher32=True
    )
    for name, (shape, dtype) in columns.items():
        # HDF5 has no chunks of size zero: a column without entries (plain gradient descent) gets chunks of one.
        chunks = (1 if shape else 256, *(max(1, s) for s in shape))
        fill = np.nan
        group.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *(s or None for s in shape)),
            chunks=chunks,
            dtype=dtype,
            fillvalue=fill,
            fletcher32=True,
        )


def _put(dataset: h5py.Dataset, i: int, value: Any) -> None:
    if len(dataset) <= i:
        dataset.resize(i + 1, axis=0)
    if dataset[i : i + 1].size:
        dataset[i] = value


def _copy_committed(old: h5py.File, new: h5py.File) -> None:
    """Copy header and committed rows, one row at a time to bound memory."""
    for key, value in old.attrs.items():
        new.attrs[key] = value
    for name in SINGLE:
        if name in old:
            new.create_dataset(name, data=old[name][...])
    groups = [g for g in GROUPS if g in old]
    for source, target in ((old, new), *((old[g], new.create_group(g)) for g in groups)):
        names = [n for n, d in source.items() if isinstance(d, h5py.Dataset) and n not in (*SINGLE, "step")]
        _make_rows(target, {n: (source[n].shape[1:], source[n].dtype) for n in names})
        for i in range(committed(source)):
            for name in [*names, "step"]:
                _put(target[name], i, source[name][i])


def _publish(temporary: Path, path: Path) -> None:
    """Rename into place once the bytes are on disk."""
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def _read_everything(file: h5py.File) -> None:
    """Read every committed row, so that one that is not there raises now."""
    for group in (file, *(file[g] for g in GROUPS if g in file)):
        for name, data in group.items():
            if isinstance(data, h5py.Dataset) and name not in SINGLE:
                for i in range(committed(group)):
                    _ = data[i]


def _damaged(path: Path, error: Exception | None) -> str:
    size = path.stat().st_size
    what = "an empty file" if size == 0 else f"a damaged or foreign file of {size} bytes ({error})"
    return f"expected a run written by `landscape train`, found {what}: {path}. Restore it from a copy or train again."
