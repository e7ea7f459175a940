"""Room on the disk before HDF5 writes: it neither undoes half a write nor survives to close a file after one."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

__all__ = ["advice", "replacing", "reserve"]

_MARGIN = 2**15, 2**20
"""Least and most bytes for what HDF5 notes about the data."""


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
        disk = os.fstatvfs(handle)
        if disk.f_bavail * disk.f_frsize < wanted - there:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        os.ftruncate(handle, wanted)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name; what is there in the end takes the place of `path`, once it is on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def advice(error: Exception) -> str:
    """What to do about a file that cannot be written, as the beginning of a sentence."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return "Check that the folder exists and may be written"
    return "Free disk space or raise the limit (quota, `ulimit -f`)"
