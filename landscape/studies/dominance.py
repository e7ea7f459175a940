"""Spectral dominance: has one spectrum more, and component-wise smaller, eigenvalues below a threshold?

Of two spectra, and of two runs between whose checkpoints the eigenvalues are interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from landscape.errors import LandscapeError

__all__ = ["dominance", "interpolate", "with_dominance"]

Array = NDArray[np.float64]


def dominance(a: ArrayLike, b: ArrayLike, taus: Sequence[float], *, floor: float = 0.0) -> dict[str, NDArray[Any]]:
    r"""Count and compare, eigenvalue by eigenvalue, what lies in floor < lam <= tau of two spectra.

    The eigenvalues of a window are ordered from the smallest: if any assignment of each of a's to another one of b's
    that is no larger exists, then this one is. Assumption 1 of the paper holds for b against a where
    `count_below_difference` > 0 and `dominance_fraction` = 1.

    Args:
        a: all eigenvalues (P_a,), in any order.
        b: all eigenvalues (P_b,).
        taus: thresholds, positive.
        floor: eigenvalues not above it (negative ones, rounding) do not belong to the valley.

    Returns:
        Arrays, one entry per threshold: `count_below_a`, `count_below_b`, `count_below_difference` (b - a),
        `dominance_ranks` (the smaller count: ranks that both have), and `dominance_fraction`, the share of these with
        lam_i(b) <= lam_i(a); NaN without ranks or for spectra that are not finite.

    Raises:
        LandscapeError: for thresholds that are not positive, or a negative floor.

    Source:
        arXiv 2510.10089, Assumption 1; the paper gives no threshold and no order of the components.

    Example:
        >>> found = dominance([4.0, 0.5, 0.2], [3.0, 0.6, 0.1, 0.01], [1.0])
        >>> {name: float(value[0]) for name, value in found.items()}  # 0.01 <= 0.2, 0.1 <= 0.5
        {'count_below_a': 2.0, 'count_below_b': 3.0, 'count_below_difference': 1.0, 'dominance_ranks': 2.0,
         'dominance_fraction': 1.0}
    """
    if not all(t > 0 for t in taus) or floor < 0:
        raise LandscapeError(f"expected positive thresholds and a floor >= 0, found {tuple(taus)} and {floor}.")
    one, two = np.sort(np.asarray(a, float)), np.sort(np.asarray(b, float))
    known = bool(np.isfinite(one).all() and np.isfinite(two).all())
    rows = []
    for tau in taus:
        p, q = (x[(x > floor) & (x <= tau)] for x in (one, two))
        n = min(len(p), len(q))
        fraction = float(np.mean(q[:n] <= p[:n])) if n else np.nan
        rows.append((len(p), len(q), len(q) - len(p), n, fraction) if known else (np.nan,) * 5)
    names = ("count_below_a", "count_below_b", "count_below_difference", "dominance_ranks", "dominance_fraction")
    return dict(zip(names, np.array(rows, dtype=float).reshape(-1, 5).T, strict=True))


def with_dominance(
    out: xr.Dataset,
    a: Sequence[tuple[Array, xr.Dataset]],
    b: Sequence[tuple[Array, xr.Dataset]],
    grid: Array,
    at: str,
    taus: Sequence[float] | None,
) -> tuple[xr.Dataset, list[str]]:
    """`dominance` of every pair at every value of the abscissa, from eigenvalues interpolated rank by rank.

    Args:
        out: gets the variables of `dominance`, if all results hold all eigenvalues.
        a: of every run, its checkpoints on the abscissa and its result.
        b: likewise.
        grid: the abscissa.
        at: its name.
        taus: thresholds; None takes those of the results, if they have any.

    Raises:
        LandscapeError: for thresholds that are not positive, or that would be ignored.
    """
    if not all("eigenvalue" in ds and ds["eigenvalue"].dims[1:] == ("rank",) for _, ds in (*a, *b)):
        if taus is not None:
            raise LandscapeError(
                "thresholds tau need all eigenvalues, and these results do not hold them. Leave them out, or compare "
                "`entropy` or `force` from dense Hessians."
            )
        return out, []
    first = a[0][1]
    given = first["tau"].values.tolist() if taus is None and "tau" in first.coords else taus
    if not given:
        return out, []
    found: dict[str, list[Any]] = {}
    for (x, one), (y, two) in zip(a, b, strict=True):
        left, right = interpolate(x, one["eigenvalue"].values, grid), interpolate(y, two["eigenvalue"].values, grid)
        floors = np.fmax(*(interpolate(z, ds["resolution"].values, grid) for z, ds in ((x, one), (y, two))))
        rows = [dominance(p, q, given, floor=f) for p, q, f in zip(left, right, floors, strict=True)]
        for name in rows[0]:
            found.setdefault(name, []).append([row[name] for row in rows])
    out = out.assign_coords(tau=("tau", np.array(given), first["eigenvalue"].attrs | {"long_name": "threshold"}))
    for name, values in found.items():
        label = {"units": "1", "long_name": name.replace("_", " ")}
        out[name] = (("seed", at, "tau"), np.array(values, dtype=float), label)
    notes = ["eigenvalues up to the rounding of the coarser spectrum are not counted"]
    sizes = {side: ds[0][1].sizes["rank"] for side, ds in zip("ab", (a, b), strict=True)}
    if sizes["a"] != sizes["b"]:
        notes.append(f"spectra of {sizes['a']} and {sizes['b']} eigenvalues: compared on the smaller number of ranks")
    return out, notes


def interpolate(x: Array, y: NDArray[Any], at: Array) -> Array:
    """Linear interpolation of y (T, ...) known at monotone x (T,) to `at` (n,); (n, ...), NaN beyond the ends of x.

    Where x repeats, the first value counts. At a value of x itself the result is exactly y there.

    Example:
        >>> interpolate(np.array([3.0, 1.0, 1.0]), np.array([0.0, 1.0, 9.0]), np.array([4.0, 2.0, 1.0])).tolist()
        [nan, 0.5, 1.0]
    """
    known = np.isfinite(x)
    x, first = np.unique(x[known], return_index=True)  # ascending; the first of equal ones
    y = np.asarray(y, dtype=float)[known][first]
    if not len(x):
        return np.full((len(at), *y.shape[1:]), np.nan)
    right = np.clip(np.searchsorted(x, at), 0, len(x) - 1)
    left = np.maximum(right - 1, 0)
    span = np.where(right > left, x[right] - x[left], 1.0)
    t = ((at - x[left]) / span).reshape(-1, *[1] * (y.ndim - 1))
    hit = (x[right] == at).reshape(t.shape)
    between = np.where(hit, y[right], (1 - t) * y[left] + t * y[right])
    outside = ((at < x[0]) | (at > x[-1])).reshape(t.shape)
    return np.where(outside, np.nan, between)
