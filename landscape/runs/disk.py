"""Room on the disk before HDF5 writes: it neither undoes half a write nor survives to close a file after one."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

__all__ = ["advice", "put_in_place", "replacing", "reserve"]

_MARGIN = 2**15, 2**20
"""Least and most bytes for what HDF5 notes about the data."""
_ATTEMPTS = 50


def reserve(file: h5py.File, datasets: Iterable[h5py.Dataset] = ()) -> None:
    """Allocate what a new row of each dataset may take behind the end of a file.

    HDF5 cuts the rest off on closing, from version 2.0 on; before, it stays, and the next row takes it.

    Raises:
        OSError: if there is no room: a full disk, a quota, a limit of file sizes.
    """
    size = sum(math.prod(d.chunks) * d.dtype.itemsize for d in datasets)
    end, handle = file.id.get_filesize(), file.id.get_vfd_handle()
    wanted = end + size + size // 64 + min(_MARGIN[0] + end // 8, _MARGIN[1])
    there = os.fstat(handle).st_size
    if wanted <= there:
        return
    try:
        os.posix_fallocate(handle, there, wanted - there)
    except (AttributeError, OSError) as error:  # not on this system, or not on this kind of disk
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        if shutil.disk_usage(Path(file.filename).parent).free < wanted - there:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        os.ftruncate(handle, wanted)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name; what is there in the end takes the place of `path`, once it is on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as handle:  # Windows synchronises only what may be written
            os.fsync(handle.fileno())
        put_in_place(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file over another. Windows refuses while someone reads the other one, which takes an instant."""
    for attempt in range(_ATTEMPTS):
        try:
            os.replace(temporary, path)
        except PermissionError:
            if os.name != "nt" or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.02)
        else:
            return


def advice(error: Exception) -> str:
    """What to do about a file that cannot be written, as the beginning of a sentence."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return "Check that the folder exists and may be written"
    return "Free disk space or raise the limit (quota, `ulimit -f`)"
