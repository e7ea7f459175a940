"""Where a function of one variable rises by given amounts above its floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.probes.linalg.search.driver import Search
from landscape.probes.linalg.search.scan import Scan
from landscape.probes.linalg.search.walls import ACCURACY, Wall

__all__ = ["Crossings", "crossing_search"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
EPS = float(np.finfo(np.float64).eps)

GAP = 0.2
"""Longest gap between points before a half-width, as a part of it."""


@dataclass(frozen=True)
class Crossings:
    """Half-widths of a valley on one side of its floor.

    Attributes:
        half_width: (n_rises,) smallest s found with f(t0 + side s) = f0 + rise; where the limit came first, the
            distance searched; NaN where f is NaN before the rise is reached.
        censored: (n_rises,) bool, the limit came first.
        converged: (n_rises,) bool, reached, `relative_error` is small, and nothing between the points looks as if f
            might reach the rise before.
        relative_error: (n_rises,) estimate from the tolerance and the rounding of f and t; NaN where not reached.
        resolution: (n_rises,) longest gap between the points from the floor to the half-width: f is not above the rise
            on any longer stretch before it.
        lowest: smallest f - f0 at any point; negative where f falls below the floor.
        n_evaluations: values computed.
    """

    half_width: Array
    censored: Bools
    converged: Bools
    relative_error: Array
    resolution: Array
    lowest: float
    n_evaluations: int


def crossing_search(
    *,
    t0: float,
    f0: float,
    side: int,
    rises: Array,
    limit: float,
    tol: float = 1e-9,
    rounding: float = EPS,
    guess: float | None = None,
    gap: float = GAP,
) -> Search[Crossings]:
    r"""Half-widths s > 0 with f(t0 + side s) - f0 = rise, within \|t0 + side s\| <= limit.

    A scan outward, shared by all rises and stopped at the largest. log(f - f0) is close to a straight line in log s (it
    is one for a power law), so the next point is extrapolated from the last three, at most a factor of 2 further, and a
    bracket is closed by inverse quadratic interpolation, with bisection where that is slow. A point counts as the
    crossing when its distance from it, \|log((f - f0) / rise)\| over the smallest slope to a neighbour, is below `tol`.

    Then it is made sure that no crossing comes before. No two neighbouring points before it may be further apart than
    `gap` of its distance, half of that where f does not rise throughout; and intervals are divided until the cubics
    through each and its neighbours say that f stays below the rise, or the interval is shorter than 0.002 of the
    distance (see `Gaps`). What is narrower than `resolution`, the longest gap left, and shows in no point around it
    is not seen: f may be above the rise there. At most 256 points are spent so; where they do not suffice, the
    half-width is neither `converged` nor `censored`. +inf counts as above every rise.

    A search for `drive` or `solve`, which asks for values only.

    Args:
        t0: the floor's place.
        f0: the floor's value.
        side: +1 or -1.
        rises: (n_rises,) positive, ascending.
        limit: bound on |t|, not on the distance from t0.
        tol: relative tolerance of the half-widths.
        rounding: relative rounding of f; give the one of float32 for a line computed in it.
        guess: of the first half-width; the scan starts at `gap` of it. None starts at (distance available) / 2^20.
        gap: longest distance between neighbouring points before a half-width, as a part of it.

    Raises:
        LandscapeError: for another side, rises not positive and ascending, an infinite t0 or f0, |t0| > limit, a guess
            that is not positive, or a gap that is not in (0, 0.5].

    Source:
        Method of this project; inverse interpolation as in Brent, Algorithms for Minimization without Derivatives
        (1973), chapter 4.

    Example:
        >>> from landscape.probes.linalg.search.driver import solve
        >>> class Parabola:
        ...     def values(self, ts): return 3.0 * np.asarray(ts) ** 2
        ...     def slope(self, t): return 6.0 * t
        >>> search = crossing_search(t0=0.0, f0=0.0, side=1, rises=np.array([3.0, 12.0, 300.0]), limit=5.0)
        >>> found = solve(search, Parabola())
        >>> found.half_width.round(8).tolist(), found.censored.tolist()
        ([1.0, 2.0, 5.0], [False, False, True])
    """
    rises = np.asarray(rises, dtype=np.float64)
    _check(t0, f0, side, rises, limit, tol)
    if guess is not None and not guess > 0:
        raise LandscapeError(f"expected a positive guess of the half-width or None, found {guess!r}.")
    if not 0 < gap <= 0.5:
        raise LandscapeError(f"expected a gap in (0, 0.5], a part of the half-width, found {gap!r}.")
    wall = Wall(Scan(t0, f0, side, limit - side * t0), guess, gap)
    n = rises.size
    width, censored, error = np.full(n, math.nan), np.zeros(n, dtype=bool), np.full(n, math.nan)
    sure, resolution = np.zeros(n, dtype=bool), np.full(n, math.nan)
    for i, rise in enumerate(rises.tolist()):
        noise = 4 * rounding * abs(f0) / rise
        width[i], censored[i], sure[i] = yield from wall.first(rise, max(tol, noise))
        resolution[i] = wall.longest(float(width[i]))
        if not censored[i] and width[i] > 0:
            error[i] = max(tol, noise + EPS * abs(t0) / width[i])
    lowest = min((r for r in wall.scan.r if not math.isnan(r)), default=0.0)
    return Crossings(width, censored, sure & (error <= ACCURACY), error, resolution, min(lowest, 0.0), wall.scan.n)


def _check(t0: float, f0: float, side: int, rises: Array, limit: float, tol: float) -> None:
    if side not in (1, -1):
        raise LandscapeError(f"expected side +1 or -1, found {side!r}.")
    if rises.ndim != 1 or not (np.isfinite(rises) & (rises > 0)).all() or (np.diff(rises) <= 0).any():
        raise LandscapeError(f"expected positive, ascending rises (n,), found {rises.tolist()}. Sort them, no repeats.")
    if not (math.isfinite(t0) and math.isfinite(f0) and 0 < limit < math.inf and abs(t0) <= limit and tol > 0):
        raise LandscapeError(
            f"expected a finite floor with |t0| <= limit and tol > 0, found t0={t0!r}, f0={f0!r}, limit={limit!r}, "
            f"tol={tol!r}. Widths need a floor that was found; check `Floor.converged`."
        )
