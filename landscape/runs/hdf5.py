"""Open an HDF5 file for reading whatever became of its writer: finished, still writing, or killed.

HDF5 marks a file while it is written. Reader's mode (SWMR) reads a marked file, but takes any damage for a write in
progress and waits, for minutes, until it is over. That is right while a writer lives. Once it is dead, the mark must
be cleared instead, as HDF5's own ``h5clear`` does; here it is cleared in what the library sees, not on the disk.

Texts of variable length lie in blocks without a checksum, whose walk never ends in the library where they are damaged.
They are walked through here before it sees them.
"""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path
from typing import IO, Any

import h5py

__all__ = ["SETTINGS", "check_structure", "lookup3", "open_readable"]

SETTINGS: dict[str, Any] = {"libver": "latest", "locking": False}
"""How all files of ours are opened; the right to write is guarded by a lock of our own."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK = struct.Struct("<8s4B4Q")  # signature, version, 2 sizes, flags; base, extension, end of file, root
_HEAP = struct.Struct("<4sB3xQ")  # signature, version, size with this head
_HEAP_OBJECT = struct.Struct("<HHIQ")  # number, references, reserved, size
_FRONT = 2**22  # a run file has its texts before its rows
_ATTEMPTS = 10
# Not zeros: a block of zeros passes the Fletcher-32 checksum, and missing data must never pass for data.
_NOISE = bytes((i * i * 73 + 41 * i + 7) % 251 for i in range(4096))


def open_readable(path: Path, *, writer_alive: bool) -> tuple[h5py.File, bool]:
    """The open file, and whether its end is missing.

    Args:
        path: an existing file.
        writer_alive: whether a process is writing it at this moment.

    Raises:
        OSError: if it is not an HDF5 file, or too damaged to be opened.
    """
    with path.open("rb") as handle:
        _check_heaps(handle.read(_FRONT), handle)
    for attempt in range(_ATTEMPTS):
        try:
            return h5py.File(path, "r", locking=False), False
        except OSError:
            # Neither whole nor closed in order, if it is one of ours at all.
            if not _is_ours(path):
                raise
        if not writer_alive:
            view = _Unmarked(path)
            return h5py.File(view, "r"), view.cut
        try:
            return h5py.File(path, "r", swmr=True, **SETTINGS), False
        except OSError:  # the writer set or cleared its mark, or renamed the file, between our calls
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.02)
    raise AssertionError("unreachable")


def check_structure(data: bytes) -> None:
    """Compare a whole HDF5 file with the size that it states, and walk through its texts.

    Raises:
        OSError: if they differ, or it is no HDF5 file.
    """
    # In versions 0 and 1 of the superblock, then in 2 and 3.
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(data[8] if data.startswith(_SIGNATURE) and len(data) > 60 else -1)
    if at is None:
        raise OSError("it is no HDF5 file")
    (stated,) = struct.unpack_from("<Q", data, at)
    if stated != len(data):
        raise OSError(f"it states a size of {stated} bytes and has {len(data)}")
    _check_heaps(data, io.BytesIO(data))


def _check_heaps(front: bytes, file: IO[bytes]) -> None:
    """Walk through the blocks of texts in the first part of a file as HDF5 would, which must end."""
    at = -1
    while (at := front.find(b"GCOL\1\0\0\0", at + 1)) >= 0:
        file.seek(at)
        _, _, size = _HEAP.unpack(file.read(_HEAP.size).ljust(_HEAP.size, b"\0"))
        end = file.seek(0, io.SEEK_END)
        if not 4096 <= size <= end - at:
            raise OSError("a block of texts is cut or damaged")
        file.seek(at)
        heap, place = file.read(size), _HEAP.size
        while place + _HEAP_OBJECT.size <= size:
            number, _, _, taken = _HEAP_OBJECT.unpack_from(heap, place)
            taken = taken if number == 0 else _HEAP_OBJECT.size + -(-taken // 8) * 8
            if not _HEAP_OBJECT.size <= taken <= size - place:
                raise OSError("a block of texts is damaged")
            place += taken


def _is_ours(path: Path) -> bool:
    """Whether it begins with the kind of superblock that our writer makes."""
    with path.open("rb") as handle:
        head = handle.read(_SUPERBLOCK.size + 4)
    return len(head) == _SUPERBLOCK.size + 4 and head.startswith(_SIGNATURE) and head[8] == 3


class _Unmarked(io.RawIOBase):
    """A file as ``h5clear`` would leave it: the mark cleared, and noise where its end is missing."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("rb")
        head = self._handle.read(_SUPERBLOCK.size + 4)
        fields = list(_SUPERBLOCK.unpack(head[: _SUPERBLOCK.size]))
        if head[_SUPERBLOCK.size :] != struct.pack("<I", lookup3(head[: _SUPERBLOCK.size])):
            raise OSError("the HDF5 superblock fails its checksum")
        actual, recorded = self._handle.seek(0, io.SEEK_END), fields[7]
        self.cut = actual < recorded
        self._size = max(actual, recorded)
        fields[4], fields[7] = 0, self._size
        clean = _SUPERBLOCK.pack(*fields)
        self._head = clean + struct.pack("<I", lookup3(clean))
        self._position = 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        n: int = min(len(view), max(0, self._size - self._position))
        self._handle.seek(self._position)
        data = self._handle.read(n)
        data += (_NOISE * ((n - len(data)) // len(_NOISE) + 1))[: n - len(data)]
        if self._position < len(self._head):
            data = self._head[self._position : self._position + n] + data[len(self._head) - self._position :]
        view[:n] = data
        self._position += n
        return n

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._handle.close()
        super().close()


def lookup3(data: bytes) -> int:
    """Bob Jenkins' lookup3 hash, the checksum of HDF5 metadata (HDF5 file format specification, version 3).

    Example:
        >>> hex(lookup3(b"Four score and seven years ago"))
        '0x17770551'
    """
    mask = 0xFFFFFFFF

    def rotate(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    padded = data.ljust(-(-len(data) // 12) * 12, b"\0")
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for i in range(0, len(words), 3):
        a, b, c = (a + words[i]) & mask, (b + words[i + 1]) & mask, (c + words[i + 2]) & mask
        if i + 3 < len(words):
            x, y, z = a, c, b
            for k in (4, 6, 8, 16, 19, 4):
                x, y, z = z, ((x - y) & mask) ^ rotate(y, k), (y + z) & mask
            a, c, b = x, y, z
        else:
            x, y, z = c, b, a
            for k in (14, 11, 25, 16, 4, 14, 24):
                x, y, z = z, ((x ^ y) - rotate(y, k)) & mask, y
            c = y
    return c
