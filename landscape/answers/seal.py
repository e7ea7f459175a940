"""A checksum behind the end of a file: every byte is verified before anything interprets it.

Readers of HDF5 ignore what follows the end that the file itself states, so a sealed file is read by any of them. HDF5
has no checksum for attributes, sizes and most of what netCDF writes, and may read a damaged file without complaint.
"""

from __future__ import annotations

import hashlib

__all__ = ["NOTE", "sealed", "unsealed"]

NOTE = "SHA-256 of the file without its last line, in its last line"
_MARK = b"\nlandscape-sha256:"
_LENGTH = len(_MARK) + 64 + 1


def sealed(content: bytes) -> bytes:
    """The content with its checksum behind it.

    Example:
        >>> unsealed(sealed(b"content"))
        (b'content', True)
    """
    return content + _seal(content)


def unsealed(data: bytes) -> tuple[bytes, bool]:
    """The content, and whether it carried a checksum, which it then fits.

    Raises:
        ValueError: if it carries one and does not fit it.
    """
    content, seal = data[:-_LENGTH], data[-_LENGTH:]
    if not seal.startswith(_MARK):
        return data, False
    if seal != _seal(content):
        raise ValueError("its content fails its checksum")
    return content, True


def _seal(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode() + b"\n"
