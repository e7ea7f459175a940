"""Loss surfaces as files of VTK, which ParaView and PyVista read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import AbsentError

__all__ = ["path_vtk", "surface_vtk"]

Array = NDArray[np.float64]


def surface_vtk(ds: xr.Dataset) -> str:
    """The grid of a `surface` answer in VTK's legacy format (ASCII), loss and what else was measured as point data.

    Points are (alpha, beta, 0), alpha fastest: "Warp By Scalar" in ParaView makes a surface of them. All digits are
    there. A point without a value is nan, and the array `evaluated` says whether it was computed at all.

    Args:
        ds: an answer of the probe `surface` on a plane.

    Raises:
        AbsentError: for a line.

    Example:
        >>> grid = {"loss": (("alpha", "beta"), [[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]])}
        >>> text = surface_vtk(xr.Dataset(grid, {"alpha": [0, 1, 2], "beta": [0, 1]}))
        >>> text.split("LOOKUP_TABLE default")[1].split()[:6]
        ['0.0', '1.0', '2.0', '10.0', '11.0', '12.0']
    """
    if min(ds.sizes.get("alpha", 0), ds.sizes.get("beta", 0)) < 2:
        raise AbsentError("expected a plane, found a line of points, which needs no VTK: read `loss` from the answer.")
    alpha, beta = (ds[name].values.astype(float) for name in ("alpha", "beta"))
    x, y = (v.ravel() for v in np.meshgrid(alpha, beta))  # rows are beta: alpha runs fastest
    lines = [*_head(ds, "loss on a plane"), "DATASET STRUCTURED_GRID", f"DIMENSIONS {len(alpha)} {len(beta)} 1"]
    lines += [f"POINTS {x.size} double", *_points(x, y), f"POINT_DATA {x.size}"]
    for name, values in _maps(ds):
        lines += _scalars(name, values)
    return "\n".join(lines) + "\n"


def path_vtk(ds: xr.Dataset) -> str:
    """The path of training of a `surface` answer as one line through its projections, with steps and losses.

    Args:
        ds: an answer of the probe `surface` with a path.

    Raises:
        AbsentError: without a path.
    """
    n = ds.sizes.get("path_step", 0)
    if not n:
        raise AbsentError("expected a path of training on the plane, found none.")
    x, y = (ds[f"path_{name}"].values.astype(float) for name in ("alpha", "beta"))
    lines = [*_head(ds, "training path"), "DATASET POLYDATA", f"POINTS {n} double", *_points(x, y)]
    lines += [f"LINES 1 {n + 1}", " ".join(map(str, (n, *range(n)))), f"POINT_DATA {n}"]
    for name in ("path_step", "path_loss", "path_plane_loss", "path_distance"):
        if name in ds.variables:
            lines += _scalars(name, ds[name].values.astype(float))
    return "\n".join(lines) + "\n"


def _head(ds: xr.Dataset, what: str) -> list[str]:
    """The title is one line of at most 255 characters, of ASCII."""
    run = str(ds.attrs.get("run", "")).encode("ascii", "replace").decode().replace("\n", " ")
    return ["# vtk DataFile Version 3.0", f"landscape: {what} {run}"[:250], "ASCII"]


def _points(x: Array, y: Array) -> Iterable[str]:
    return (f"{a!r} {b!r} 0.0" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _maps(ds: xr.Dataset) -> Iterable[tuple[str, Array]]:
    """Every variable on the grid, a name for each layer of those that have more."""
    for name, v in ds.data_vars.items():
        if not {"alpha", "beta"} <= set(v.dims):
            continue
        others = [d for d in v.dims if d not in ("alpha", "beta")]
        layers = (
            v.transpose(*others, "beta", "alpha").values.astype(float).reshape(-1, ds.sizes["alpha"] * ds.sizes["beta"])
        )
        labels = _labels(ds, others)
        for label, layer in zip(labels, layers, strict=True):
            yield f"{name}{label}", layer


def _labels(ds: xr.Dataset, dims: list[object]) -> list[str]:
    """Names of layers have no spaces: they end at one in this format."""
    if not dims:
        return [""]
    (dim,) = dims
    known = ds[dim].values if dim in ds.variables else np.arange(ds.sizes[str(dim)])
    return ["_" + "_".join(str(v).split()) for v in known]


def _scalars(name: str, values: Array) -> list[str]:
    return [f"SCALARS {name} double 1", "LOOKUP_TABLE default", "\n".join(map(repr, values.tolist()))]
