"""Numbers of a seed that come from spectra and walls."""

from __future__ import annotations

import numpy as np
import xarray as xr

from landscape.studies.dominance import dominance
from landscape.verdict.quantity import Pick

__all__ = ["at_groups", "count_difference", "dominated", "forces", "kappa", "phases", "plain"]


def plain(name: str) -> Pick:
    """A variable as it is."""
    return lambda ds: ds[name]


def phases(evolution: xr.Dataset) -> xr.DataArray:
    """Number of phases of the matrix entropy at each penalty; NaN with too few checkpoints."""
    found = evolution.n_phases.astype(float)
    known: xr.DataArray = found.where(found > 0)
    return known


def at_groups(name: str, group: str) -> Pick:
    """A variable of the probe `valley`, of one group of directions."""

    def pick(valley: xr.Dataset) -> xr.DataArray:
        index = [str(g) for g in valley["group"].values].index(group)
        return valley[name].isel(group=index, drop=True).drop_vars("group", errors="ignore")

    return pick


def kappa(kind: str) -> Pick:
    """Condition number of the valley where it has one, over thresholds."""

    def pick(split: xr.Dataset) -> xr.DataArray:
        return split[f"kappa_{kind}"].where(split[f"converged_{kind}"].astype(bool))

    return pick


def forces(prefix: str = "") -> Pick:
    """Sum of 1/eigenvalue over windows whose lower end is above the rounding of the eigenvalues."""

    def pick(force: xr.Dataset) -> xr.DataArray:
        eps, tau = f"{prefix}eps", f"{prefix}tau"
        found = force[f"{prefix}inverse_sum"].where(force[f"{prefix}resolved"].astype(bool))
        low, high = force[eps].values, force[tau].values
        i, j = np.nonzero(low[:, None] < high)
        labels = [f"{low[a]:.4g} < λ ≤ {high[b]:.4g}" for a, b in zip(i, j, strict=True)]
        window = {eps: xr.DataArray(i, dims="window"), tau: xr.DataArray(j, dims="window")}
        return found.isel(window).drop_vars([eps, tau]).assign_coords(window=labels)

    return pick


def count_difference(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
    """Eigenvalues below each threshold, A minus B."""
    return _dominance(a, b, "count_below_difference")


def dominated(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
    """Share of the ranks below each threshold at which A's eigenvalue is no larger than B's."""
    return _dominance(a, b, "dominance_fraction")


def _dominance(a: xr.Dataset, b: xr.Dataset, name: str) -> xr.DataArray:
    steps = np.intersect1d(a.step.values, b.step.values)
    taus = a.tau.values.tolist()
    found = np.full((len(steps), len(taus)), np.nan)
    if "eigenvalue" in a and "eigenvalue" in b:
        for i, step in enumerate(steps):
            one, two = b.sel(step=step), a.sel(step=step)  # "b against a" of `dominance` is A against B here
            floor = max(float(one.resolution), float(two.resolution))
            found[i] = dominance(one.eigenvalue.values, two.eigenvalue.values, taus, floor=floor)[name]
    return xr.DataArray(found, {"step": steps, "tau": taus}, dims=("step", "tau"))
