"""Compile the attention kernel for given sizes, keep it in a cache folder, and bind it."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch

from landscape.errors import LandscapeError

__all__ = ["WITHOUT", "Problem", "cache_folder", "compiler", "library"]

WITHOUT = 'strategy="cached" for curvature, gradient="autograd" for training'
"""What does without a kernel."""
_LOG = logging.getLogger(__name__)
_SOURCE = "attention_kernel.cpp"
# Not -ffast-math: NaN must stay NaN. On 64-bit ARM compilers want the processor by another name.
_NATIVE = "-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native"
_FLAGS = (
    *("-std=c++17", "-O3", _NATIVE, "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
    *("-ffp-contract=fast", "-fPIC", "-shared"),
)


class Problem(ctypes.Structure):
    """What every call of the kernel takes; its struct of the same name."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("groups", "samples", "length", "layers", "loops", "softmax", "kept")),
        *((name, ctypes.c_void_p) for name in ("tokens", "targets", "scored", "residuals", "work")),
    )


def cache_folder() -> Path:
    """Where compiled kernels are kept: $LANDSCAPE_CACHE, or `landscape` in $XDG_CACHE_HOME or ~/.cache.

    Example:
        >>> cache_folder().is_absolute()
        True
    """
    if chosen := os.environ.get("LANDSCAPE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "landscape"


@cache
def library(width: int, length: int, vocabulary: int, dtype: torch.dtype) -> ctypes.CDLL:
    """The kernel for these sizes, compiled if no process did so before."""
    program = _compiler()
    real = "double" if dtype == torch.float64 else "float"
    sizes = (f"-DREAL={real}", f"-DWIDTH={width}", f"-DLENGTH={length}", f"-DVOCABULARY={vocabulary}")
    source = files("landscape.models").joinpath(_SOURCE).read_text()
    key = "\n".join((source, *_FLAGS, *sizes, _version(program), _processor()))
    path = cache_folder() / f"attention-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        _compile(program, source, sizes, path)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise LandscapeError(f"the native kernel {path} cannot be loaded: {error}. Delete it and try again.") from error
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.lanes.argtypes, library.lanes.restype = (), integer
    library.residual_bytes.argtypes, library.residual_bytes.restype = (pointer,), integer
    library.work_bytes.argtypes, library.work_bytes.restype = (pointer, integer), integer
    library.evaluate.argtypes, library.evaluate.restype = (pointer,) * 5, None
    library.products.argtypes = (pointer, pointer, pointer, integer, pointer, pointer, integer)
    library.products.restype = None
    library.units.argtypes, library.units.restype = (pointer, pointer, integer, integer, pointer), None
    return library


def _compile(program: str, source: str, sizes: tuple[str, ...], path: Path) -> None:
    """Compile to a private name and rename: workers may do the same at the same time."""
    start = time.perf_counter()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            out = Path(folder) / path.name
            command = [program, *_FLAGS, *sizes, "-x", "c++", "-", "-o", str(out)]
            done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
            if done.returncode:
                raise LandscapeError(
                    f"the native kernel cannot be compiled by {program}: {done.stderr.strip()[:300]}. Use {WITHOUT}."
                )
            out.replace(path)
    except OSError as error:
        raise LandscapeError(
            f"the native kernel cannot be kept in {path.parent}: {error}. Set LANDSCAPE_CACHE to a folder that can be "
            "written."
        ) from error
    _LOG.info("compiled a native kernel in %.1f s", time.perf_counter() - start)


def compiler() -> str | None:
    """The C++ compiler of this machine, if there is one.

    Example:
        >>> compiler() is None or Path(compiler()).is_file()
        True
    """
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _compiler() -> str:
    if (found := compiler()) is not None:
        return found
    raise LandscapeError(
        "expected a C++ compiler (c++, g++, clang++ or $CXX) for the native kernel, found none. Install one, or use "
        f"{WITHOUT}."
    )


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout


def _processor() -> str:
    """The processor's name and what it can do, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    told = [next((x for x in lines if x.startswith(start)), "") for start in ("model name", "flags", "Features")]
    return "\n".join((platform.machine(), platform.processor(), *told))
