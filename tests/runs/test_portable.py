"""What other systems than the one at hand do differently, as far as it can be tried without them."""

import errno
import fcntl
import os
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from landscape.runs import disk
from landscape.runs.disk import put_in_place, replacing, reserve


def test_what_is_synchronised_may_be_written(tmp_path, monkeypatch):
    """Windows refuses to synchronise a file that is open for reading."""
    modes = []
    monkeypatch.setattr(disk.os, "fsync", lambda fd: modes.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE))
    with replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"x")
    assert modes == [os.O_RDWR]
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_file_in_use_is_replaced_when_it_is_free(tmp_path, monkeypatch):
    """Windows refuses to rename over a file that is being read."""
    calls = []

    def busy(source, target):
        calls.append(source)
        if len(calls) < 3:
            raise PermissionError("in use")

    monkeypatch.setattr(disk, "os", SimpleNamespace(name="nt", replace=busy))
    put_in_place(tmp_path / "b", tmp_path / "a")
    assert len(calls) == 3
    calls.clear()
    monkeypatch.setattr(disk, "os", SimpleNamespace(name="posix", replace=busy))
    with pytest.raises(PermissionError):  # here it means that the folder may not be written
        put_in_place(tmp_path / "b", tmp_path / "a")


def test_room_is_made_where_the_system_cannot_allocate(tmp_path, monkeypatch):
    """macOS and Windows have no posix_fallocate, and Windows no statvfs."""
    monkeypatch.delattr(disk.os, "posix_fallocate")
    monkeypatch.delattr(disk.os, "fstatvfs")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", (0, 1000), chunks=(1, 1000), maxshape=(None, 1000), dtype=np.float64)
        reserve(file, [data])
        assert os.path.getsize(tmp_path / "a.h5") > 8000
        usage = shutil.disk_usage(tmp_path)._replace(free=10)
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
        data.resize(40, axis=0)
        data[:] = 1
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            reserve(file, [data] * 100)
