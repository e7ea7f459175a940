"""Table of the probe `samples`: loss per sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    families = list(dict.fromkeys(map(str, results[0].family.values))) if "family" in results[0].coords else []
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        row = [ds.attrs["run"], str(int(last.step)), str(ds.sizes["sample"]), number(last.loss.mean())]
        for f in families:
            row += [
                number(last.loss.values[ds.family.values == f].mean()),
                number(last.correct.values[ds.family.values == f].mean(), 3),
            ]
        if families:
            content = ds.information_content.values
            row.append(number(np.corrcoef(content, last.loss.values)[0, 1], 3) if np.isfinite(content).all() else "–")
        rows.append(row)
    columns = ["run", "step", "samples", "mean loss"]
    for f in families:
        columns += [f"loss {f}", f"correct {f}"]
    columns += ["corr(IC, loss)"] if families else []
    right = ", correct as the task counts it" if families else ""
    return Table(f"samples: loss per sample ({units_of(results, 'loss')}){right}", columns, rows)
