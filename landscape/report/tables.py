"""Numbers of a dataset as rows: one for each place on its axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from landscape.report.numbers import last, number

__all__ = ["Cell", "Column", "Table", "side_by_side", "table_of"]

MOST = 300
"""Rows that a table shows."""


@dataclass(frozen=True)
class Column:
    """A column: its name, its unit ("" where there is none), what it is, and whether it holds numbers."""

    name: str
    unit: str
    about: str
    numeric: bool


@dataclass(frozen=True)
class Cell:
    """What is shown, and the whole value, by which rows are sorted."""

    text: str
    value: str


@dataclass(frozen=True)
class Table:
    """Rows of a dataset.

    Attributes:
        probe: the dataset.
        caption: what the rows are, and which are left out.
        columns: axes first.
        rows: cells.
    """

    probe: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table_of(probe: str, ds: xr.Dataset) -> Table | None:
    """The numbers of a dataset that one reads singly; None where there are none, as of a plane.

    Example:
        >>> ds = xr.Dataset({"eigenvalue": ("mode", [2.0, 1.0], {"units": "loss unit"})})
        >>> table = table_of("spectrum", ds)
        >>> [c.name for c in table.columns], [cell.text for cell in table.rows[1]]
        (['mode', 'eigenvalue'], ['2', '1'])
    """
    ds, names, note = _PARTS.get(probe, _any)(ds)
    names = [n for n in names if n in ds.variables]
    if not names:
        return None
    dims = sorted(dict.fromkeys(str(d) for n in names for d in ds[n].dims), key=lambda d: d != "step")
    axes = [_labels(ds, d) for d in dims]
    columns = [_column(ds, d, axis) for d, axis in zip(dims, axes, strict=True)]
    columns += [_column(ds, n, ds[n].values) for n in names]
    sizes = [range(len(axis)) for axis in axes]
    full = int(np.prod([len(axis) for axis in axes])) if axes else 1
    rows = []
    for place in itertools.islice(itertools.product(*sizes), MOST):
        at = dict(zip(dims, place, strict=True))
        values = [axis[i] for axis, i in zip(axes, place, strict=True)]
        values += [ds[n].values[tuple(at[str(d)] for d in ds[n].dims)] for n in names]
        rows.append(tuple(_cell(v) for v in values))
    left = f" The first {MOST} of {full} rows; the others are in the dataset." if full > MOST else ""
    return Table(probe, (note + left).strip(), tuple(columns), tuple(rows))


_SUMS = (
    ("spectrum", "eigenvalue", "largest eigenvalue"),
    ("spectrum", "residual", "its residual"),
    ("density", "trace", "trace"),
    ("density", "negative_share", "negative share"),
    ("density", "effective_rank", "effective rank"),
    ("entropy", "negative_share", "negative share (exact)"),
    ("entropy", "effective_rank", "effective rank (exact)"),
    ("samples", "loss", "mean loss of samples"),
)
"""Numbers of the last checkpoint that stand side by side."""


def side_by_side(names: Sequence[str], datasets: Sequence[Mapping[str, xr.Dataset]]) -> Table | None:
    """One row per run, of what all of them were asked alike."""
    columns = [Column("run", "", "name of the run", numeric=False), Column("step", "", "last checkpoint", numeric=True)]
    picked: list[list[Any]] = []
    steps: list[int] = []
    for probe, name, called in _SUMS:
        parts = [last(d[probe]) for d in datasets if probe in d and "step" in d[probe].dims]
        if len(parts) < len(datasets) or any(name not in ds for ds in parts):
            continue
        if probe == "spectrum" and any(str(ds["end"].values[0]) != "top" for ds in parts):
            continue
        at = [int(ds["step"]) for ds in parts]
        if steps not in ([], at):  # asked at other checkpoints: they do not stand in one row
            continue
        unit = {str(ds[name].attrs.get("units", "")) for ds in parts}
        if len(unit) > 1:  # metrics differ: no common column
            continue
        shown = unit.pop()
        about = str(parts[0][name].attrs.get("long_name", ""))
        columns.append(Column(called, "" if shown == "1" else shown, about, numeric=True))
        steps = at
        picked.append([_one(probe, ds, name) for ds in parts])
    if not picked:
        return None
    rows = [
        (_cell(name), _cell(np.int64(step)), *(_cell(np.float64(column[i])) for column in picked))
        for i, (name, step) in enumerate(zip(names, steps, strict=True))
    ]
    return Table("together", "The last checkpoint of every run.", tuple(columns), tuple(rows))


def _one(probe: str, ds: xr.Dataset, name: str) -> float:
    """The first mode, or the (weighted) mean over samples, or the number itself."""
    values = ds[name].values
    if probe == "samples":
        return float(np.average(values, weights=ds["weight"].values if "weight" in ds else None))
    return float(values[0]) if values.ndim else float(values)


Part = tuple[xr.Dataset, Sequence[str], str]


def _spectrum(ds: xr.Dataset) -> Part:
    return ds, ("end", "eigenvalue", "residual", "converged", "resolved"), "Every eigenvalue at every checkpoint."


def _valley(ds: xr.Dataset) -> Part:
    names = ("half_width", "censored", "converged", "quadratic_half_width", "exponent", "exponent_stderr")
    middle = (ds.sizes["rise"] - 1) // 2
    labelled = {"mode": ds["direction"].values} if "direction" in ds else {}
    part = last(ds).isel(rise=middle).assign_coords(labelled)
    rise = f"{number(ds['rise'][middle], 3)} {ds['rise'].attrs.get('units', '')}"
    note = f"The last checkpoint, at a rise of {rise}. Censored: the half-width is a lower bound."
    return part, (*names, "shape", "curvature", "floor_converged"), note


def _samples(ds: xr.Dataset) -> Part:
    part = last(ds)
    order = np.argsort(-part["loss"].values, kind="stable")
    part = part.assign_coords(sample=np.arange(part.sizes["sample"])).isel(sample=order)
    return (
        part,
        ("loss", "correct", "family", "information_content", "weight"),
        "The last checkpoint, largest loss first.",
    )


def _whole(ds: xr.Dataset) -> Part:
    names = ("trace", "negative_share", "effective_rank", "entropy", "log_spread", "participation_ratio", "frobenius")
    both = [x for n in names for x in (n, f"{n}_low", f"{n}_high")]
    return ds, [*both, "exact"], "low and high: the ends of a 95 % interval over the random vectors; equal if exact."


def _surface(ds: xr.Dataset) -> Part:
    names = ("path_alpha", "path_beta", "path_loss", "path_distance")
    return (
        ds,
        names,
        "The path of training: its projection on the plane, its true loss, and its distance from the plane.",
    )


def _metrics(ds: xr.Dataset) -> Part:
    names = [str(n) for n in ds.data_vars if "step" in ds[n].dims]
    return ds.isel(step=slice(None, None, -1)), names, "Last evaluation first."


def _any(ds: xr.Dataset) -> Part:
    """The variables of one number per checkpoint, or else of the axes that most have."""
    found: dict[tuple[str, ...], list[str]] = {}
    for n in ds.data_vars:
        found.setdefault(tuple(str(d) for d in ds[n].dims), []).append(str(n))
    plain = {d: names for d, names in found.items() if len(d) <= 2}
    if not plain:
        return ds, (), ""
    best = max(plain, key=lambda d: (len(plain[d]), -len(d)))
    return ds, plain[best], "The numbers of the most common axes; the others are in the dataset."


_PARTS: dict[str, Callable[[xr.Dataset], Part]] = {
    "spectrum": _spectrum,
    "valley": _valley,
    "samples": _samples,
    "density": _whole,
    "entropy": _whole,
    "surface": _surface,
    "metrics": _metrics,
}


def _labels(ds: xr.Dataset, dim: str) -> Any:
    """The coordinate of an axis, or numbers from 1."""
    return ds[dim].values if dim in ds.coords else np.arange(1, ds.sizes[dim] + 1)


def _column(ds: xr.Dataset, name: str, values: Any) -> Column:
    attrs = ds[name].attrs if name in ds.variables else {}
    unit = str(attrs.get("units", ""))
    numeric = np.asarray(values).dtype.kind in "fiu"
    return Column(name, "" if unit == "1" else unit, str(attrs.get("long_name", "")), numeric)


def _cell(value: Any) -> Cell:
    kind = np.asarray(value).dtype.kind
    if kind == "b":
        return Cell("yes" if value else "no", str(int(value)))
    if kind in "iu":
        return Cell(str(int(value)), str(int(value)))
    if kind == "f":
        return Cell(number(value, 5), repr(float(value)))
    return Cell(str(value), str(value))
