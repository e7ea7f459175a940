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

from landscape.errors import KernelError

__all__ = ["WITHOUT", "Problem", "cache_folder", "compiler", "library"]

WITHOUT = 'strategy="cached" for curvature, gradient="autograd" for training'
"""What does without a kernel."""
_REMEDY = f"Use {WITHOUT}."
_ANOTHER = "Set LANDSCAPE_CACHE to a folder that can be written."
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

    Raises:
        KernelError: if there is no home directory.

    Example:
        >>> cache_folder().is_absolute()
        True
    """
    try:
        if chosen := os.environ.get("LANDSCAPE_CACHE"):
            return Path(chosen).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "landscape"
    except RuntimeError as error:
        raise KernelError(f"there is no folder for native kernels: {error}", _ANOTHER) from error


def library(width: int, length: int, vocabulary: int, dtype: torch.dtype) -> ctypes.CDLL:
    """The kernel for these sizes, compiled if no process did so before. What fails is not tried twice by a process.

    Raises:
        KernelError: if there is no compiler or it does not work, the cache cannot be written, or the kernel not loaded.
    """
    found = _library(_compiler(), cache_folder(), width, length, vocabulary, dtype)
    if isinstance(found, KernelError):
        raise KernelError(found.reason, found.remedy)
    return found


@cache
def _library(
    program: str, folder: Path, width: int, length: int, vocabulary: int, dtype: torch.dtype
) -> ctypes.CDLL | KernelError:
    real = "double" if dtype == torch.float64 else "float"
    sizes = (f"-DREAL={real}", f"-DWIDTH={width}", f"-DLENGTH={length}", f"-DVOCABULARY={vocabulary}")
    source = files("landscape.models").joinpath(_SOURCE).read_text(encoding="utf-8")
    try:
        key = "\n".join((source, *_FLAGS, *sizes, _version(program), _processor()))
        name = f"attention-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        return _load(_kept(folder, name) or _compile(program, source, sizes, folder, name))
    except KernelError as error:
        return error


def _kept(folder: Path, name: str) -> Path | None:
    """The kernel if it is in the folder, whole: to load one that is cut short can kill the process."""
    try:
        return next((path for path in folder.glob(f"{name}-*.so") if path.stem == f"{name}-{_digest(path)}"), None)
    except OSError:
        return None  # what cannot be read is compiled again


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _load(path: Path) -> ctypes.CDLL:
    try:
        return _bind(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:  # not loaded, or a function is missing
        raise KernelError(f"the native kernel {path} cannot be loaded: {error}", "Delete it and try again.") from error


def _bind(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.lanes.argtypes, library.lanes.restype = (), integer
    library.residual_bytes.argtypes, library.residual_bytes.restype = (pointer,), integer
    library.work_bytes.argtypes, library.work_bytes.restype = (pointer, integer), integer
    library.evaluate.argtypes, library.evaluate.restype = (pointer,) * 5, None
    library.losses.argtypes, library.losses.restype = (pointer, integer, pointer, pointer, integer), None
    library.products.argtypes = (pointer, pointer, pointer, integer, pointer, pointer, integer)
    library.products.restype = None
    library.units.argtypes, library.units.restype = (pointer, pointer, integer, integer, pointer), None
    return library


def _compile(program: str, source: str, sizes: tuple[str, ...], folder: Path, name: str) -> Path:
    """Compile to a private name and rename: workers may do the same at the same time."""
    start = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as private:
            out = Path(private) / name
            _run(program, *_FLAGS, *sizes, "-x", "c++", "-", "-o", str(out), source=source)
            if not out.is_file():
                raise KernelError(f"the native kernel cannot be compiled by {program}, which wrote nothing", _REMEDY)
            path = folder / f"{name}-{_digest(out)}.so"
            out.replace(path)
    except OSError as error:
        raise KernelError(f"the native kernel cannot be kept in {folder}: {error}", _ANOTHER) from error
    _LOG.info("compiled a native kernel in %.1f s", time.perf_counter() - start)
    return path


def _run(program: str, *arguments: str, source: str = "") -> str:
    """What the compiler prints, or an error that says why it does not work."""
    try:
        done = subprocess.run(
            [program, *arguments], input=source, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        raise KernelError(f"the C++ compiler {program} cannot be run: {error}", _REMEDY) from error
    if done.returncode:
        said = " ".join(done.stderr.split())[:300].rstrip(".") or f"exit code {done.returncode}"
        raise KernelError(f"the native kernel cannot be compiled by {program}: {said}", _REMEDY)
    return done.stdout


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
    raise KernelError(
        "expected a C++ compiler (c++, g++, clang++ or $CXX) for the native kernel, found none",
        f"Install one, or use {WITHOUT}.",
    )


def _version(program: str) -> str:
    return _run(program, "--version")


def _processor() -> str:
    """The processor's name and what it can do, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = [next((x for x in lines if x.startswith(start)), "") for start in ("model name", "flags", "Features")]
    return "\n".join((platform.machine(), platform.processor(), *told))
