"""Table of the probe `loops`: the state of a recursion, pass by pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        loops, passes = int(last.loops), ds["pass"].values
        own = last.sel({"pass": loops}) if loops in passes else last.isel({"pass": -1})
        best = int(passes[np.argmin(np.where(np.isfinite(last.loss), last.loss, np.inf))])
        at = last.isel(at=int(np.argmin(np.abs(ds["at"].values - max(loops, 1)))))
        numbers = (own.loss, last.loss.isel({"pass": -1}), own.step_length, own.cosine, last.growth)
        radius, gain = (f"{number(at[n], 3)} ± {number(at[f'{n}_stderr'], 1)}" for n in ("radius", "gain"))
        share = float(last.share.max())
        cells = [str(loops or "?"), f"{last.label.item()} ({100 * share:.0f} %)", *map(number, numbers), str(best)]
        sure = f"{int(ds.converged.sum())}/{ds.converged.size}"
        rows.append([ds.attrs["run"], str(int(last.step)), *cells, radius, gain, sure])
    columns = ["run", "step", "T", "state", "loss at T", "loss at last", "step length at T", "cosine at T", "growth"]
    columns += ["best pass", "radius at T", "gain at T", "converged (all)"]
    caption = (
        "T: passes of the model; last: the last that was asked for. State: of most samples, in the second half of the "
        "passes. Growth: of the steps per pass there. Radius, gain: of the Jacobian of one pass, at or near T."
    )
    return Table(
        f"loops: the state of the recursion, pass by pass ({units_of(results, 'loss')})", columns, rows, caption
    )
