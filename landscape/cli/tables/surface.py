"""Table of the probe `surface`: loss on a plane."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """One row per run."""
    rows = [
        [
            ds.attrs["run"],
            str(ds.attrs["step"]),
            str(ds.attrs["directions"]),
            f"{ds.sizes['alpha']} x {ds.sizes['beta']}{_more(ds)}",
            number(ds.loss.min()),
            number(ds.loss.max()),
            number(ds.explained_variance.sum(), 3) if "explained_variance" in ds else "–",
            number(ds.path_distance.max(), 3) if "path_distance" in ds else "–",
        ]
        for ds in results
    ]
    columns = [
        "run",
        "centre step",
        "plane",
        "grid",
        "lowest loss",
        "highest loss",
        "path explained",
        "path's distance from plane",
    ]
    return Table(f"surface: loss on a plane ({units_of(results, 'loss')})", columns, rows)


def _more(ds: xr.Dataset) -> str:
    """What the grid was asked for besides, and how much of it was evaluated."""
    share = [f"{float(ds.evaluated.mean()):.0%} evaluated"] if "evaluated" in ds else []
    several = [
        f"{ds.sizes[what]} {name}" for what, name in (("draw", "draws"), ("frame_step", "frames")) if what in ds.sizes
    ]
    return "".join(f", {said}" for said in (*share, *several))
