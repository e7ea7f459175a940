"""Table of the probe `spectrum`: Hessian eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        value = last.eigenvalue.values
        rows.append(
            [
                ds.attrs["run"],
                str(int(last.step)),
                number(value[0]),
                number(value[1]) if len(value) > 1 else "–",
                number(value[-1]),
                number(last.residual.max(), 2),
                f"{int(ds.converged.sum())}/{ds.converged.size}",
                number(ds.n_products.mean(), 3),
            ]
        )
    columns = ["run", "step", "first", "second", "last", "max residual", "converged (all steps)", "products per step"]
    return Table(f"spectrum: Hessian eigenvalues, {units_of(results, 'eigenvalue')}", columns, rows)
