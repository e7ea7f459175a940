"""The right to write a run: one process at a time, given back by the system when the process dies."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from landscape.errors import LandscapeError, LockedError

__all__ = ["writer_alive_in", "writer_lock"]

LOCK_NAME = ".lock"
# Not a POSIX system: two writers on one run are not detected there.
_fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the right to write a run; the system gives it back if the process dies.

    A folder in which nothing was made is left as it was found.
    """
    found = folder.exists()
    with _taken(folder):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # some systems do not remove open files: then the empty file stays
                if [p.name for p in folder.iterdir()] == [LOCK_NAME]:
                    (folder / LOCK_NAME).unlink()
                    if not found:
                        folder.rmdir()


def _taken(folder: Path) -> IO[str]:
    """The open lock file, locked. It must still be the file of that name: another writer may have just removed it."""
    path = folder / LOCK_NAME
    for _ in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = path.open("w", encoding="utf-8")
        except FileNotFoundError:  # the folder was removed in between
            continue
        except OSError as error:
            raise LandscapeError(
                f"cannot make a run in {folder}: {error}. Choose a folder that may be written."
            ) from error
        if not _lock(handle, exclusive=True):
            handle.close()
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                return handle
        handle.close()
    raise LockedError(f"another process is writing {folder}. Wait for it or choose another folder.")


def writer_alive_in(folder: Path) -> bool:
    """Whether a process holds the right to write a run (True if the system cannot tell)."""
    try:
        with (folder / LOCK_NAME).open("r", encoding="utf-8") as handle:
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
