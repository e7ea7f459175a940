"""Table of the probe `split`: valley and river."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run, one row per threshold."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        for kind, axis in (("absolute", "eps"), ("relative", "eps_relative")):
            for at in (last.isel({axis: i}) for i in range(ds.sizes[axis])):
                cells = [number(at[f"{name}_{kind}"]) for name in ("dimension", "kappa", "gap")]
                threshold = f"{float(at[axis]):g}{' λ₁' if kind == 'relative' else ''}"
                rows.append([ds.attrs["run"], str(int(last.step)), threshold, *cells])
    columns = ["run", "step", "threshold", "dimension of the valley", "kappa", "gap at the threshold"]
    caption = (
        "Gap near 1: the spectrum is continuous there, and kappa is set by the threshold alone. –: P is too large."
    )
    return Table("split: valley (eigenvalues above a threshold) and its condition number", columns, rows, caption)
