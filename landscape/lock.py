"""The right to write a run: one process at a time, given back by the system when the process dies."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from landscape.errors import LandscapeError

__all__ = ["writer_alive_in", "writer_lock"]

LOCK_NAME = ".lock"
# Not a POSIX system: two writers on one run are not detected there.
_fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the right to write a run; the system gives it back if the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK_NAME).open("w")
    except OSError as error:
        raise LandscapeError(f"cannot make a run in {folder}: {error}. Choose a folder that may be written.") from error
    with handle:
        if not _lock(handle, exclusive=True):
            raise LandscapeError(f"another process is training {folder}. Wait for it or choose another folder.")
        yield


def writer_alive_in(folder: Path) -> bool:
    """Whether a process holds the right to write a run (True if the system cannot tell)."""
    try:
        with (folder / LOCK_NAME).open("r") as handle:
            return _fcntl is None or not _lock(handle, exclusive=False, attempts=1)
    except OSError:
        return False


def _lock(handle: IO[str], *, exclusive: bool, attempts: int = 10) -> bool:
    """Take the lock; a few attempts, because readers hold a shared one for an instant when they ask if it is taken."""
    if _fcntl is None:
        return True
    for attempt in range(attempts):
        try:
            _fcntl.flock(handle, (_fcntl.LOCK_EX if exclusive else _fcntl.LOCK_SH) | _fcntl.LOCK_NB)
        except OSError:
            if attempt < attempts - 1:
                time.sleep(0.02)
        else:
            return True
    return False
