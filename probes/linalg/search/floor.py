"""Geometry of a function of one variable: the floor of a line through a landscape, and how wide it is there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.probes.linalg.search.descent import Floor, Points, descend
from landscape.probes.linalg.search.driver import Search

__all__ = ["exponent", "floor_search"]

FIRST_STEP = 2.0**-20
"""The first step of a walk, as a part of its limit."""

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


def floor_search(
    *,
    limit: float,
    step: float | None = None,
    tol: float = 1e-10,
    start: tuple[float, float] | None = None,
    rounding: float = EPS,
) -> Search[Floor]:
    r"""Walk downhill from t = 0 to the first minimum, t0 = argmin f on the basin of 0 within \|t\| <= limit.

    Steps double from limit * 2^-20 until the slope changes sign; then the root of the slope (`sign_change`). The slope,
    not the value, sets the accuracy: values fix a minimum only to sqrt(rounding). Values are a guard: where f rises
    between two points at which it falls, a minimum lies between them and the bracket moves there. A kink such as
    \|t - a\| is a sign change like any other.

    Then values on the way, no further apart than a quarter of it, and more where cubics through them (`Gaps`) do not
    say that f falls throughout: where it rises in between, the minimum before that is the floor. A basin that shows in
    none of these values can still be stepped over unseen.

    A slope at 0 too small to change f by one rounding within the whole limit (\|f'(0)\| limit <= eps \|f(0)\|) counts
    as 0: then t0 = 0 if f does not fall on either side within the first step; else, at a maximum, the walk goes down
    the steeper side (+ if both are the same). Where it comes no deeper than rounding, t0 = 0, not converged.

    Args:
        limit: how far to go, in the units of t.
        step: the first step; a good guess (Newton's -f'/f'') saves evaluations. Default limit * 2^-20.
        tol: error of t0 relative to the bracket, which is about as wide as t0 is far from 0 (or the first step).
        start: f(0) and f'(0) where they are known, which saves asking for them.
        rounding: relative rounding of f; give the one of float32 for a line computed in it. Values closer than 8 of it
            count as equal, so that no floor is lost where they scatter.

    Returns:
        The floor, by a search for `drive` or `solve`. NaN on the way gives t0 = NaN, neither converged nor censored;
        +inf counts as a wall.

    Raises:
        LandscapeError: for a limit, step or tol that is not positive, or a rounding that is not between 0 and 1.

    Source:
        Chandrupatla, Advances in Engineering Software 28 (1997), for the root.

    Example:
        >>> from landscape.probes.linalg.search.driver import solve
        >>> class Parabola:
        ...     def values(self, ts): return 1.0 + (np.asarray(ts) - 0.25) ** 2
        ...     def slope(self, t): return 2.0 * (t - 0.25)
        >>> found = solve(floor_search(limit=1.0), Parabola())
        >>> found.t0, found.converged, round(found.drop, 12)
        (0.25, True, 0.0625)
    """
    first = limit * FIRST_STEP if step is None else step
    if not (0 < limit < math.inf and first > 0 and tol > 0):
        raise LandscapeError(
            f"expected positive limit, step and tol, found {limit!r}, {step!r}, {tol!r}. Give a finite limit on |t|."
        )
    if not 0 < rounding < 1:
        raise LandscapeError(
            f"expected a relative rounding between 0 and 1, found {rounding!r}. Give eps of the dtype."
        )
    points = Points()
    if start is not None:
        points.value[0.0], points.slope[0.0] = start
    f0 = float((yield from points.values([0.0]))[0])
    s0 = yield from points.slope_at(0.0)
    if not (math.isfinite(f0) and math.isfinite(s0)):
        return Floor(math.nan, math.nan, math.nan, False, False, points.n)
    first = min(first, limit)
    if abs(s0) * limit <= rounding * abs(f0):
        right = yield from points.slope_at(first)
        left = yield from points.slope_at(-first)
        here = Floor(0.0, f0, 0.0, right >= 0.0 >= left, False, points.n)
        if here.converged or math.isnan(right) or math.isnan(left):
            return here
        found = yield from descend(points, 1.0 if -right >= left else -1.0, first, limit, tol, rounding)
        return found if not found.drop <= 8 * rounding * abs(f0) else replace(here, n_evaluations=points.n)
    return (yield from descend(points, -1.0 if s0 > 0 else 1.0, first, limit, tol, rounding))


def exponent(half_width: Array, rises: Array, censored: NDArray[np.bool_]) -> tuple[float, float]:
    r"""Shape exponent p of f - floor ~ s^p, by least squares of log rise on log half-width.

    2 for a parabola, 1 for a V, above 2 for a flat-bottomed U.

    Args:
        half_width: (n,) where each rise is reached; NaN ones are left out.
        rises: (n,) positive.
        censored: (n,) bool, left out.

    Returns:
        (p, standard error); NaN with fewer than 2 different half-widths, the error NaN with fewer than 3 points.

    Raises:
        LandscapeError: if the shapes differ.

    Example:
        >>> p, error = exponent(np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 16.0]), np.zeros(3, dtype=bool))
        >>> round(p, 12), round(error, 12)
        (2.0, 0.0)
    """
    half_width, rises = np.asarray(half_width, np.float64), np.asarray(rises, np.float64)
    censored = np.asarray(censored, np.bool_)
    if not half_width.shape == rises.shape == censored.shape or half_width.ndim != 1:
        raise LandscapeError(
            f"expected three arrays of one shape (n,), found {half_width.shape}, {rises.shape}, {censored.shape}. "
            "Give one half-width and one flag per rise."
        )
    keep = ~censored & np.isfinite(half_width) & (half_width > 0) & (rises > 0)
    x, y = np.log(half_width[keep]), np.log(rises[keep])
    if x.size < 2 or np.ptp(x) == 0.0:
        return math.nan, math.nan
    dx, dy = x - x.mean(), y - y.mean()
    p = float(dx @ dy / (dx @ dx))
    if x.size < 3:
        return p, math.nan
    return p, math.sqrt(float(((dy - p * dx) ** 2).sum()) / (x.size - 2) / float(dx @ dx))
