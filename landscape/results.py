"""Answers on disk: one netCDF file each, reused only by the very question that made it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.errors import LandscapeError, RunFailedError
from landscape.provenance import code_revision, created, versions
from landscape.run import Run
from landscape.schema import Probe

__all__ = ["Question", "available", "load", "save"]

_ENGINE: Any = "h5netcdf"


class Question:
    """A probe with all its settings, asked of one run: what a stored answer must match to be reused.

    Attributes:
        settings: everything that determines the numbers: probe settings, split, samples, dtype, device, seed.
        key: six hexadecimal digits of probe, version and settings; part of the file name.
        path: where the answer is stored.
        partial: folder that collects answers of single checkpoints until the file is complete.
    """

    def __init__(self, run: Run, probe: Probe, settings: Mapping[str, Any]) -> None:
        self.run, self.probe = run, probe
        self.settings = dict(settings)
        self.text = json.dumps(self.settings, sort_keys=True)
        identity = json.dumps([probe.name, probe.version, self.text])
        self.key = hashlib.sha256(identity.encode()).hexdigest()[:6]
        folder = run.path / "results"
        self.path = folder / f"{probe.name}-{self.key}.nc"
        self.partial = folder / f".{probe.name}-{self.key}"

    def attributes(self) -> dict[str, Any]:
        """What the answer's file says about its origin, beside the run's own attributes."""
        return {
            **self.run.attributes(self.probe.name),
            "probe_version": self.probe.version,
            "settings": self.text,
            "seed": self.settings.get("seed", "none"),
            "metric": self.settings.get("metric", "none"),
            "data_fingerprint": self.run.provenance["data_fingerprint"],
            "created": created(),
            "code_revision": code_revision(),
            "versions": json.dumps(versions()),
        }

    def matches(self, ds: xr.Dataset) -> bool:
        """Whether a stored answer is to this question: same run, probe version and settings."""
        a = ds.attrs
        return bool(
            a.get("run_id") == self.run.id
            and a.get("probe") == self.probe.name
            and a.get("probe_version") == self.probe.version
            and a.get("settings") == self.text
        )

    def stored(self) -> xr.Dataset | None:
        """The stored answer, None if there is none or it answers something else (an older run in this folder)."""
        if not self.path.exists():
            return None
        ds = load(self.path)
        return ds if self.matches(ds) else None

    def parts(self) -> dict[int, xr.Dataset]:
        """Answers of single checkpoints that an interrupted sweep left behind."""
        out = {}
        for path in sorted(self.partial.glob("*.nc")):
            with contextlib.suppress(LandscapeError):  # a damaged part is computed again
                ds = load(path)
                if self.matches(ds):
                    out[int(path.stem)] = ds
        return out


def save(ds: xr.Dataset, path: Path) -> None:
    """Write a dataset to a temporary name, then rename it: a reader sees the whole file or none.

    Raises:
        RunFailedError: if it cannot be written (full disk, no permission).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.to_netcdf(temporary, engine=_ENGINE)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFailedError(f"could not write {path}: {error}. {advice(error)}") from error


def advice(error: OSError) -> str:
    """What to do about a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free disk space, then repeat the command."
    return "Check that the folder exists and may be written."


def load(path: Path) -> xr.Dataset:
    """Read a stored answer.

    Raises:
        LandscapeError: if the file is missing, damaged, or not a result of this package.
    """
    try:
        ds = xr.load_dataset(path, engine=_ENGINE)
    except FileNotFoundError as error:
        raise LandscapeError(f"expected a result at {path}, found none. Compute it with `landscape probe`.") from error
    except Exception as error:  # h5netcdf passes on whatever HDF5, NumPy or its own parser raise
        raise LandscapeError(
            f"expected a result of `landscape probe`, found a damaged or foreign file: {path}."
        ) from error
    if "probe" not in ds.attrs:
        raise LandscapeError(f"expected a result of `landscape probe`, found another netCDF file: {path}.")
    for name in ds.variables:  # text comes back as objects
        if ds[name].dtype.kind in "OT":
            ds[name] = ds[name].astype(np.str_)
    return ds


def available(run: Run, probe: str) -> Iterator[xr.Dataset]:
    """All stored answers of a probe that belong to this run, newest first."""
    found = []
    for path in (run.path / "results").glob(f"{probe}-*.nc"):
        try:
            found.append(load(path))
        except LandscapeError as error:  # one damaged file must not hide the others
            warnings.warn(str(error), stacklevel=2)
    mine = [ds for ds in found if ds.attrs.get("run_id") == run.id]
    return iter(sorted(mine, key=lambda ds: str(ds.attrs["created"]), reverse=True))
