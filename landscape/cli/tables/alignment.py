"""Table of the probe `alignment`: gradients of one pass and of T loops."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    groups = [str(g) for g in results[0].group.values]
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        cells = [f"{number(c, 3)} ± {number(e, 1)}" for c, e in zip(last.cosine, last.cosine_stderr, strict=True)]
        cells += [number(x, 3) for x in last.dominance] if "dominance" in ds else ["–", "–"]
        rows.append([ds.attrs["run"], str(int(last.step)), str(int(last.loops)), *cells])
    columns = ["run", "step", "loops", *groups, "dominance single", "looped"]
    caption = "±: standard error over samples. Dominance: diagonal minus the rest of a row of attention, mean."
    return Table("alignment: cosine of the single and looped gradients by group", columns, rows, caption)
