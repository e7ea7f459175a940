"""Table of the probe `density`: the whole spectrum from random vectors."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import INTERVALS, units_of, with_interval

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    names = ("trace", "trace_hutchpp", "frobenius", "effective_rank", "negative_share", "log_spread")
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        cells = [with_interval(last, n) for n in names]
        rows.append([ds.attrs["run"], str(int(last.step)), *cells, number(ds.n_products.mean(), 3)])
    columns = [
        "run",
        "step",
        "trace",
        "trace (Hutch++)",
        "Frobenius norm",
        "effective rank",
        "negative share",
        "spread of log",
        "products per step",
    ]
    return Table(
        f"density: the whole Hessian spectrum (trace: {units_of(results, 'trace')})",
        columns,
        rows,
        f"{INTERVALS} Negative share: of the sum of |eigenvalue|.",
    )
