"""Table of `landscape show` on runs of several seeds."""

from __future__ import annotations

import numpy as np
import xarray as xr

from landscape.cli.console import Table, number
from landscape.errors import LandscapeError
from landscape.studies.study import Study

__all__ = ["outcome_tables"]


def outcome_tables(study: Study, *, against: str | None) -> list[Table]:
    """Means with intervals per kind of run, if some kind has several seeds; asked for by name, the reason why not."""
    try:
        ds = study.outcomes(against=against)
    except LandscapeError:
        if against is not None:
            raise
        return []
    if against is None and int(ds.n_seeds.max()) < 2:
        return []
    families = [str(f) for f in ds.family.values]
    rows, differences = [], []
    for kind in map(str, ds.kind.values):
        at = ds.sel(kind=kind)
        accuracy = [_interval(at.sel(family=f), "accuracy") for f in families]
        rows.append([kind, str(int(at.n_seeds)), *accuracy, f"{float(at.flops):.3g}", _interval(at, "seconds")])
        if kind != ds.attrs["against"]:
            gap = [_interval(at.sel(family=f), "accuracy_difference") for f in families]
            ratios = [_interval(at, n) for n in ("flops_ratio", "seconds_ratio")]
            differences.append([kind, str(int(at.n_pairs)), *gap, *ratios])
    level = f"{ds.attrs['level']:.0%} intervals over seeds (Student's t)"
    left = f" {ds.attrs['left_out']} unfinished runs are left out." if ds.attrs["left_out"] else ""
    columns = ["kind of run", "seeds", *families, "FLOP", "seconds"]
    caption = f"Accuracy on the test split at the last step; {level}.{left}"
    tables = [Table("Over seeds", columns, rows, caption)]
    if differences:
        columns = ["kind of run", "pairs", *families, "FLOP ratio", "time ratio"]
        caption = f"Accuracy, kind minus {ds.attrs['against']}, and ratios to it, paired by seed; {level}."
        tables.append(Table(f"Against {ds.attrs['against']}", columns, differences, caption, text=True))
    return tables


def _interval(at: xr.Dataset, name: str) -> str:
    low, high = float(at[f"{name}_low"]), float(at[f"{name}_high"])
    mean = number(at[name], 3)
    return f"{mean} [{number(low, 3)}, {number(high, 3)}]" if np.isfinite(low) else mean
