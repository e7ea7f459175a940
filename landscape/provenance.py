"""Where a number comes from: versions, code revision, data fingerprint."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["code_revision", "created", "fingerprint", "versions"]


def fingerprint(data: Any) -> str:
    """Twelve hexadecimal digits of the values, shapes and dtypes of all tensors in a (nested) container, and its rest.

    Example:
        >>> import torch
        >>> fingerprint(torch.zeros(2)) == fingerprint(torch.zeros(2)), fingerprint(torch.zeros(2, dtype=torch.int64))
        (True, '0b05ac98d07d')
    """
    from torch.utils import _pytree as pytree

    digest = hashlib.sha256()
    for x in pytree.tree_leaves(data):
        if not hasattr(x, "detach"):  # a number, a name, an absent target
            digest.update(repr(x).encode())
            continue
        array = x.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:12]


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose code a number depends on."""
    out = {"python": platform.python_version()}
    for name in ("landscape-valleys", "torch", "numpy", "scipy", "h5py", "xarray"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


@cache
def code_revision() -> str:
    """Git revision of the source checkout this package runs from, with ``+dirty`` if it has uncommitted changes.

    "unknown" for an installed wheel, whose version says which code it is.
    """
    folder = Path(__file__).resolve().parent
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if not (Path(top) / "landscape" / "provenance.py").is_file():  # a checkout of something else
            return "unknown"
        return _git(folder, "rev-parse", "--short=12", "HEAD") + (
            "+dirty" if _git(folder, "status", "--porcelain") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def created() -> str:
    """Now, in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(folder: Path, *args: str) -> str:
    # Nothing is written there: `status` would refresh the index, and leave its lock where it is stopped (`ulimit -f`).
    command = ["git", "--no-optional-locks", "-C", str(folder), *args]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10)
    return done.stdout.strip()
