"""Table of the probe `entropy`: how the spectrum is spread out."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import INTERVALS, with_interval

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    names = ["trace", "entropy", "effective_rank", "participation_ratio", "negative_share", "log_spread", "log_iqr"]
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        cells = [with_interval(last, n) for n in (*names, "slope")]
        ranks = f"{int(last.slope_first)}–{int(last.slope_last)}"
        rows.append([ds.attrs["run"], str(int(last.step)), *cells, ranks, number(ds.n_products.mean(), 3)])
    columns = ["run", "step", *(n.replace("_", " ") for n in names), "slope", "ranks of slope", "products per step"]
    caption = f"{INTERVALS} ±: standard error of the fit."
    return Table("entropy: the whole Hessian spectrum (entropy in nats)", columns, rows, caption)
