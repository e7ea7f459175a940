"""Table of the probe `force`: sums of inverse eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of, with_interval

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run, one row per lower end, the middle upper end."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1, tau=ds.sizes["tau"] // 2)
        for at in (last.isel(eps=i) for i in range(ds.sizes["eps"])):
            if float(at.eps) < float(at.tau):
                window = f"{float(at.eps):g} – {float(at.tau):g}{'' if bool(at.resolved) else ' (rounding)'}"
                cells = [with_interval(at, "count"), with_interval(at, "inverse_sum"), number(at.flattest_share, 3)]
                rows.append([ds.attrs["run"], str(int(last.step)), window, *cells])
    columns = ["run", "step", "window", "eigenvalues", "sum of 1/|λ|", "share of flattest 10 %"]
    caption = "Share: 0.1 if all are equal, near 1 if the flattest dominate. All windows are in the stored result."
    return Table(f"force: sum of 1/|eigenvalue|, {units_of(results, 'inverse_sum')}", columns, rows, caption)
