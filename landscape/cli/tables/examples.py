"""Table of the probe `examples`: squared error by number of examples."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run: no example, half of them, all of them."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        for k in sorted({0, last.sizes["examples"] // 2, last.sizes["examples"] - 1}):
            at = last.isel(examples=k)
            best = [number(at[n]) if n in at else "–" for n in ("least_squares", "bayes_expected")]
            error = f"{number(at.error)} ± {number(at.error_stderr, 2)}"
            rows.append([ds.attrs["run"], str(int(last.step)), str(int(at.examples)), error, *best])
    columns = ["run", "step", "examples", "squared error", "least squares", "best possible"]
    caption = (
        "Last loop; ± standard error over prompts. Least squares: on the same prompts. All numbers are in the result."
    )
    return Table(
        "examples: squared error by examples in the prompt (1: variance of the functions)", columns, rows, caption
    )
