"""Table of the probe `valley`: half-widths, exponents and shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run, one row per direction."""
    rows = []
    middle = results[0].sizes["rise"] // 2
    for ds in results:
        last = ds.isel(step=-1)
        for m in range(ds.sizes["mode"]):
            at = last.isel(mode=m)
            widths, powers = ["–", "–"], ["–", "–"]
            if bool(at.floor_converged):  # around any other place they are no widths of a valley
                widths = [_width(at.isel(side=s, rise=middle)) for s in range(2)]
                powers = [f"{number(at.exponent[s], 3)} ± {number(at.exponent_stderr[s], 1)}" for s in range(2)]
            rows.append(
                [
                    ds.attrs["run"],
                    str(int(last.step)),
                    str(at.direction.item()),
                    number(at.curvature),
                    *widths,
                    number(at.quadratic_half_width[middle], 3),
                    *powers,
                    (">" if bool(at.floor_censored) else "") + number(at.floor, 2),
                    str(at["shape"].item()),
                ]
            )
    rise = number(results[0].rise[middle], 2)
    columns = [
        "run",
        "step",
        "direction",
        "curvature",
        "width −",
        "width +",
        "quadratic",
        "exponent −",
        "exponent +",
        "floor at",
        "shape",
    ]
    return Table(
        f"valley: half-widths at a rise of {rise} {units_of(results, 'rise')}, {units_of(results, 'half_width')}",
        columns,
        rows,
        "Exponent: 2 quadratic, 1 V, above 2 flat-bottomed U, where its error tells (else: undecided). "
        "> : not reached within the limit, the rise or the floor. ? : not located to tolerance. "
        "– : no floor was found; under quadratic, curvature not positive. "
        "Shape flat: no rise reached, falling: no floor, the loss falls.",
    )


def _width(at: xr.Dataset) -> str:
    """One half-width, marked where it is a bound or not to be trusted."""
    if bool(at.censored):
        return f">{number(at.half_width, 3)}"
    return number(at.half_width, 3) + ("?" if not bool(at.converged) and np.isfinite(at.half_width) else "")
