"""Table of the probe `evolution`: how the Hessian changes along training."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import with_interval

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """Every run, with the phases for each penalty."""
    rows = []
    for ds in results:
        first = ds.isel(path_step=0).entropy
        chosen = ds.phase.values
        begins = [str(s) for s, p, q in zip(ds.path_step.values[1:], chosen[1:], chosen[:-1], strict=True) if p != q]
        rise = with_interval(ds, "rise_after_minimum")
        span = f"{number(first)} → {number(ds.entropy.min())} → {number(ds.entropy[-1])}"
        phases = " ".join(f"{int(n)}" for n in ds.n_phases.values) if int(ds.n_phases.max()) else "–"
        angle = ds.angle.values[0, -1]
        rows.append(
            [
                ds.attrs["run"],
                str(ds.sizes["path_step"]),
                span,
                rise,
                " ".join(begins) or "–",
                phases,
                number(ds.mutual_information.values[0, -1]),
                f"{number(angle[0], 3)} – {number(angle[-1], 3)}",
            ]
        )
    grid = " ".join(f"{float(p):g}" for p in results[0].penalty.values)
    columns = [
        "run", "checkpoints", "entropy first → least → last", "rise after minimum", "phases begin at step",
        f"number of phases for penalty {grid}", "mutual information first, last", "angles first, last",
    ]  # fmt: skip
    caption = (
        "Entropy and information in nats, angles between leading eigenspaces in rad. – : see `note` in the result. "
        "± of the rise: as if errors at two checkpoints were independent."
    )
    return Table("evolution: how the Hessian changes along training", columns, rows, caption)
