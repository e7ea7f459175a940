"""Numbers of a seed that come from replayed updates and from gradients."""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["GROUPS", "cosines", "diagonal", "hop_rate", "river_share"]

GROUPS = ("W_Q", "W_K")
"""Of parameters, which Theorem 3 is about."""
STAGES = 5
"""Checkpoints at which gradients are compared, evenly spaced among those that were asked."""


def hop_rate(hopping: xr.Dataset) -> xr.DataArray:
    """Share of consecutive updates with opposite signs, mean over the leading directions that converged."""
    found: xr.DataArray = hopping.hop_rate.where(hopping.converged.astype(bool)).mean("mode")
    return found


def river_share(hopping: xr.Dataset) -> xr.DataArray:
    """River part of the decrease of the loss, first and second order, over the decrease; NaN where nothing fell."""
    index = [str(s) for s in hopping["subspace"].values].index("river")
    river = hopping.net_sum.isel(subspace=index, drop=True).drop_vars("subspace", errors="ignore")
    found: xr.DataArray = river / hopping.decrease_sum.where(hopping.decrease_sum > 0)
    return found


def cosines(alignment: xr.Dataset) -> xr.DataArray:
    """Cosine of the two gradients, per group and at five of the checkpoints, along `group` and `stage`."""
    there = [str(g) for g in alignment["group"].values]
    chosen = [g for g in GROUPS if g in there]
    rows = np.unique(np.linspace(0, alignment.sizes["step"] - 1, STAGES).round().astype(int))
    found = alignment.cosine.transpose("step", "group").values[
        np.ix_(rows, np.array([there.index(g) for g in chosen], dtype=int))
    ]
    return xr.DataArray(
        found, {"stage": [f"step {s}" for s in alignment.step.values[rows]], "of": chosen}, dims=("stage", "of")
    )


def diagonal(alignment: xr.Dataset) -> xr.DataArray:
    """Diagonal dominance of the looped model's attention."""
    found: xr.DataArray = alignment.dominance.isel(architecture=-1, drop=True)
    return found.drop_vars("architecture", errors="ignore")
