"""Answers on disk: one netCDF file each.

A file carries a checksum of all its bytes (`landscape.answers.seal`), verified whenever it is read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from landscape.answers.seal import NOTE, sealed, unsealed
from landscape.errors import LandscapeError, RunFailedError
from landscape.runs.disk import advice, put_in_place
from landscape.runs.hdf5 import check_structure
from landscape.runs.run import Run

__all__ = ["DamagedError", "Heading", "heading", "headings", "is_answer", "load", "load_variables", "save", "write"]

_ENGINE: Any = "h5netcdf"
_OF_NETCDF = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates",
              "_NCProperties", "_FillValue", "coordinates", "dtype")  # fmt: skip
"""Attributes by which netCDF is kept in HDF5, and xarray's own."""
_SEALED = "checksum"
"""Attribute of files that must carry a checksum; it is in the file only."""


class DamagedError(LandscapeError):
    """A result that is not as it was written."""


def save(ds: xr.Dataset, path: Path) -> None:
    """Write a dataset with its checksum to a temporary name, then rename it: a reader sees the whole file or none.

    Raises:
        RunFailedError: if it cannot be written (full disk, no permission).
    """
    # Made in memory: HDF5 cannot always close a file that it failed to write.
    write(sealed(bytes(ds.assign_attrs({_SEALED: NOTE}).to_netcdf(engine=_ENGINE))), path)


def write(data: bytes, path: Path) -> None:
    """Write a file under a temporary name and rename it, when it is on the disk.

    Raises:
        RunFailedError: as `save`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        put_in_place(temporary, path)
    except OSError as error:
        raise RunFailedError(f"could not write {path}: {error}. {advice(error)}, then repeat the command.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load(path: Path) -> xr.Dataset:
    """Read a stored answer and verify its checksum; files of earlier versions have none, which a warning says.

    Raises:
        LandscapeError: if the file is missing or not a result of this package.
        DamagedError: if it is not as it was written.
    """
    with _explained(path):
        content, verified = _verified(path)
        # By h5py: of dozens of small variables xarray reads each five times as long.
        with h5py.File(io.BytesIO(content), "r") as file:
            attrs, data = _attributes(file), {n: d for n, d in file.items() if not _nameless(d)}
            _complete(path, attrs, verified)
            ds = xr.Dataset({n: (_axes(n, d), _values(d), _attributes(d)) for n, d in data.items()}, attrs=attrs)
            named = " ".join(str(_plain(x.attrs.get("coordinates", ""))) for x in (file, *data.values()))
    return ds.set_coords([n for n in named.split() if n in ds])


_IDENTITY = ("probe", "probe_version", "run_id", "settings", "metric", "step", "created")


@dataclass(frozen=True)
class Heading:
    """What a stored answer says of itself, read in a twentieth of the time that its numbers take.

    Attributes:
        path: of the file, of which every byte was verified.
        attrs: attributes of the dataset, those by which answers are told apart.
        steps: training steps of its checkpoints; of an answer about a whole run the one it was asked at.
    """

    path: Path
    attrs: Mapping[str, Any]
    steps: tuple[int, ...]


def heading(path: Path) -> Heading:
    """Read the attributes of a stored answer.

    Raises:
        LandscapeError: as `load`.
        DamagedError: as `load`.
    """
    with _explained(path):
        content, verified = _verified(path)
        with h5py.File(h5py.h5f.open_file_image(content)) as file:
            held = file.attrs
            attrs = {name: _plain(held[name]) for name in (*_IDENTITY, _SEALED) if name in held}
            steps = file["step"][...].tolist() if "step" in file and file["step"].ndim else [attrs.get("step", -1)]
        _complete(path, attrs, verified)
    return Heading(path, attrs, tuple(map(int, steps)))


def load_variables(path: Path, names: Collection[str]) -> xr.Dataset:
    """Read some variables of a stored answer, those of them that it has, with the coordinates of their dimensions.

    The numbers are those of `load`, in a small part of its time; every byte of the file is verified likewise.

    Raises:
        LandscapeError: as `load`.
        DamagedError: as `load`.
    """
    with _explained(path):
        content, verified = _verified(path)
        with h5py.File(io.BytesIO(content), "r") as file:
            attrs = _attributes(file)
            dims = {n: _axes(n, file[n]) for n in names if n in file}
            named = [d for d in dict.fromkeys(d for axes in dims.values() for d in axes) if not _nameless(file[d])]
            found = {n: (axes, _values(file[n])) for n, axes in dims.items() if n not in named}
            coords = {d: (d, _values(file[d])) for d in named}
        _complete(path, attrs, verified)
    return xr.Dataset(found, coords, attrs)


def _axes(name: str, data: h5py.Dataset) -> list[str]:
    """Names of its dimensions; a coordinate is its own."""
    return [name] if data.is_scale else [scale[0].name.strip("/") for scale in data.dims]


def _nameless(data: h5py.Dataset) -> bool:
    """Whether a dimension has no coordinate."""
    return "netCDF dimension but not a netCDF variable" in str(data.attrs.get("NAME", b""))


def _attributes(of: h5py.HLObject) -> dict[str, Any]:
    """Those that are not how netCDF is kept in HDF5."""
    return {n: _plain(x) for n, x in of.attrs.items() if n not in _OF_NETCDF}


def _values(data: h5py.Dataset) -> Any:
    """As xarray decodes them."""
    if data.dtype.kind == "O":
        return np.asarray(data.asstr()[...]).astype(np.str_)
    values = data[...]
    return values.astype(bool) if _plain(data.attrs.get("dtype", "")) == "bool" else values


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """One message for whatever a damaged or foreign file leads to."""
    try:
        yield
    except LandscapeError:
        raise
    except FileNotFoundError as error:
        raise LandscapeError(f"expected a result at {path}, found none. Compute it with `landscape probe`.") from error
    except Exception as error:  # whatever HDF5, NumPy or xarray raise
        raise DamagedError(
            f"expected a result of `landscape probe`, found a damaged or foreign file: {path} ({error}). "
            "Delete it and ask the probe again, or repeat `landscape probe` with --recompute."
        ) from error


def _verified(path: Path) -> tuple[bytes, bool]:
    """The file without its checksum, and whether it had one."""
    content, verified = unsealed(path.read_bytes())
    if not verified:
        check_structure(content)
    return content, verified


def _complete(path: Path, attrs: dict[str, Any], verified: bool) -> None:
    """Refuse a file that should have a checksum or is no result; note one of an earlier version."""
    if attrs.pop(_SEALED, None) is not None and not verified:
        raise ValueError("its checksum is missing")
    if "probe" not in attrs:
        raise LandscapeError(f"expected a result of `landscape probe`, found another netCDF file: {path}.")
    if not verified:
        warnings.warn(
            f"results in {path.parent} were written by an earlier version, without a checksum: damage to them could "
            "not be seen. `landscape probe` with --recompute writes them anew.",
            stacklevel=3,
        )


def _plain(value: Any) -> Any:
    """An attribute as h5py gives it, as xarray would."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        return value.item()
    return value


def is_answer(path: Path) -> bool:
    """Whether a file is called like an answer of a probe, and so was one."""
    return re.fullmatch(r"[a-z_]+-[0-9a-f]{6}\.nc", path.name) is not None


def headings(run: Run, probe: str) -> list[Heading]:
    """Of all stored answers of a probe that belong to this run, newest first.

    Raises:
        DamagedError: if one of them is damaged: another must not silently take its place.
    """
    found = []
    for path in sorted((run.path / "results").glob(f"{probe}-*.nc")):
        try:
            found.append(heading(path))
        except LandscapeError as error:
            if is_answer(path):
                raise
            warnings.warn(str(error), stacklevel=2)  # a foreign file must not hide the others
    mine = [h for h in found if h.attrs.get("run_id") == run.id]
    return sorted(mine, key=lambda h: str(h.attrs["created"]), reverse=True)
