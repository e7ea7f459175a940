"""Table of the probe `sharpness`: the loss along the optimiser's update."""

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
        bound = "≤ " if bool(last.censored) else ""
        numbers = (last.directional_sharpness, 2 / last.learning_rate, last.curvature, last.change)
        cells = [bound + number(last.critical_sharpness), *map(number, numbers)]
        sure = f"{int(ds.converged.sum())}/{ds.converged.size}"
        rows.append([ds.attrs["run"], str(int(last.step)), *cells, sure, number(ds.n_evaluations.mean(), 3)])
    columns = ["run", "step", "2/η_c", "directional", "2/η", "u'Hu / |u|²", "change of loss"]
    columns += ["converged (all steps)", "losses per step"]
    units = f"{units_of(results, 'curvature')}; {units_of(results, 'change')}"
    caption = (
        "η_c: learning rate at which the loss rises along the update u. Above 2/η the next update raises the loss."
    )
    return Table(f"sharpness: the loss along the optimiser's update ({units})", columns, rows, caption)
