"""Table of the probe `hopping`: updates along leading eigenvectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from landscape.cli.console import Table, number
from landscape.cli.tables.cells import units_of

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint with the most updates of every run."""
    rows = []
    for ds in results:
        most = np.flatnonzero(ds.n_updates.values == ds.n_updates.values.max())[-1]
        last = ds.isel(step=most)
        hops, lag = (
            [f"{number(last[n][i], 3)} ± {number(last[f'{n}_stderr'][i], 1)}" for i in (0, -1)]
            for n in ("hop_rate", "autocorrelation")
        )
        loss = [*last.net_sum.values, last.cross_term_sum, last.remainder_sum, last.decrease_sum]
        pairs = [str(int(last.n_pairs[i])) for i in (0, -1)]
        cells = [
            _edge(last),
            *hops,
            *pairs,
            *lag,
            number(last.river_progress, 3),
            number(last.straightness, 3),
            *map(number, loss),
        ]
        cells += [_noise(last), _pm(last, "batch_sharpness")]
        rows.append([ds.attrs["run"], str(int(last.step)), str(int(last.n_updates)), *cells])
    columns = ["run", "step", "updates", "λ₁ / edge", "hop rate first", "hop rate last", "pairs first", "pairs last"]
    columns += [
        "lag-1 first",
        "lag-1 last",
        "river progress",
        "straightness",
        "decrease: valley",
        "river",
        "cross",
        "remainder",
        "in all",
    ]
    columns += ["noise first", "batch g'Hg/g'g"]
    caption = (
        "Last checkpoint with the most updates. First, last: eigenvector. Hop rate: 1 crosses the valley each time. "
        "Edge: of stability, 2/η without momentum, where descent on a parabola hops above half of it. Noise: standard "
        "deviation of a mini-batch gradient along the first eigenvector, over its mean."
    )
    title = f"hopping: updates along leading eigenvectors (decreases in {units_of(results, 'decrease_sum')})"
    return Table(title, columns, rows, caption)


def _edge(last: xr.Dataset) -> str:
    """The leading eigenvalue over the edge of stability; results of earlier versions have none."""
    return number(last.eigenvalue[0] / last.edge, 3) if "edge" in last else "-"


def _noise(last: xr.Dataset) -> str:
    """Noise over slope along the first eigenvector."""
    return number(np.sqrt(last.noise[0]) / abs(last.slope[0]), 3) if "noise" in last else "-"


def _pm(last: xr.Dataset, name: str) -> str:
    """A number with its standard error."""
    return f"{number(last[name], 3)} ± {number(last[f'{name}_stderr'], 1)}" if name in last else "-"
