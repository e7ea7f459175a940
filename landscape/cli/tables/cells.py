"""Cells that several tables share."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import number

__all__ = ["INTERVALS", "labelled", "units_of", "with_interval"]

INTERVALS = "In brackets: 95 % interval over the random vectors, none if exact."


def with_interval(ds: xr.Dataset, name: str) -> str:
    """A number and its interval; of results without intervals, and of fits, its standard error."""
    error = float(ds[f"{name}_stderr"])
    if f"{name}_low" in ds:
        low, high = number(ds[f"{name}_low"]), number(ds[f"{name}_high"])
        return number(ds[name]) if low == high else f"{number(ds[name])} ({low} to {high})"
    return number(ds[name]) if error == 0 else f"{number(ds[name])} ± {number(error, 1)}"


def units_of(results: Sequence[xr.Dataset], name: str) -> str:
    """The units of a variable for the title of a table of several results, which may be in different metrics."""
    units = {str(ds[name].attrs["units"]) for ds in results}
    return units.pop() if len(units) == 1 else "each row in the units of its metric"


def labelled(ds: xr.Dataset) -> xr.Dataset:
    """The metric beside the run's name where it is not the plain one."""
    metric = ds.attrs.get("metric", "none")
    return ds if metric in ("none", "euclidean") else ds.assign_attrs(run=f"{ds.attrs['run']} [{metric}]")
