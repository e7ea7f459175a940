"""Geometry of a function of one variable: the floor of a line through a landscape, and how wide it is there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.probes.linalg.crossing import Crossings, crossing_search, crossings
from landscape.probes.linalg.lines import Ask, Line, Search, sign_change, solve

__all__ = ["Crossings", "Floor", "Line", "crossing_search", "crossings", "exponent", "find_floor", "floor_search"]

FIRST_STEP = 2.0**-20
"""The first step of a walk, as a part of its limit."""

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Floor:
    """The lowest point of the basin that t = 0 lies in.

    Attributes:
        t0: where the floor is; NaN if the line is not finite on the way.
        value: f(t0).
        drop: f(0) - f(t0).
        converged: t0 is a minimum, located to the tolerance.
        censored: f still falls at the limit; t0 = +-limit is then no minimum.
        n_evaluations: values and slopes computed.
    """

    t0: float
    value: float
    drop: float
    converged: bool
    censored: bool
    n_evaluations: int


def find_floor(line: Line, *, limit: float, step: float | None = None, tol: float = 1e-10) -> Floor:
    r"""Walk downhill from t = 0 to the first minimum, t0 = argmin f on the basin of 0 within \|t\| <= limit.

    Steps double from limit * 2^-20 until the slope changes sign; then the root of the slope (`sign_change`). The slope,
    not the value, sets the accuracy: values fix a minimum only to sqrt(rounding). Values are a guard: where f rises
    between two points at which it falls, a minimum lies between them and the bracket moves there. A kink such as
    \|t - a\| is a sign change like any other. A basin narrower than its distance from 0 can be stepped over unseen.

    A slope at 0 too small to change f by one rounding within the whole limit (\|f'(0)\| limit <= eps \|f(0)\|) counts
    as 0: then t0 = 0 if f does not fall on either side within the first step; else, at a maximum, the walk goes down
    the steeper side (+ if both are the same). Where it comes no deeper than rounding, t0 = 0, not converged.

    Args:
        line: the function.
        limit: how far to go, in the units of t.
        step: the first step; a good guess (Newton's -f'/f'') saves evaluations. Default limit * 2^-20.
        tol: error of t0 relative to the bracket, which is about as wide as t0 is far from 0 (or the first step).

    Returns:
        The floor. NaN on the way gives t0 = NaN, neither converged nor censored; +inf counts as a wall.

    Raises:
        LandscapeError: for a limit, step or tol that is not positive.

    Source:
        Chandrupatla, Advances in Engineering Software 28 (1997), for the root.

    Example:
        >>> class Parabola:
        ...     def values(self, ts): return 1.0 + (np.asarray(ts) - 0.25) ** 2
        ...     def slope(self, t): return 2.0 * (t - 0.25)
        >>> floor = find_floor(Parabola(), limit=1.0)
        >>> floor.t0, floor.converged, round(floor.drop, 12)
        (0.25, True, 0.0625)
    """
    return solve(floor_search(limit=limit, step=step, tol=tol), line)


def floor_search(
    *,
    limit: float,
    step: float | None = None,
    tol: float = 1e-10,
    start: tuple[float, float] | None = None,
    rounding: float = EPS,
) -> Search[Floor]:
    """`find_floor` as a search for `drive`, also for a function that is computed in less than double precision.

    Args:
        limit: how far to go.
        step: the first step.
        tol: error of t0 relative to the bracket.
        start: f(0) and f'(0) where they are known, which saves asking for them.
        rounding: relative rounding of f; give the one of float32 for a line computed in it. Values closer than 8 of it
            count as equal, so that no floor is lost where they scatter.

    Raises:
        LandscapeError: for a limit, step or tol that is not positive, or a rounding that is not between 0 and 1.

    Example:
        >>> class Parabola:
        ...     def values(self, ts): return (np.asarray(ts) - 0.25) ** 2
        ...     def slope(self, t): return 2.0 * (t - 0.25)
        >>> solve(floor_search(limit=1.0, start=(0.0625, -0.5)), Parabola()).t0
        0.25
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
    points = _Points()
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
        floor = yield from _walk(points, 1.0 if -right >= left else -1.0, first, limit, tol, rounding)
        return floor if not floor.drop <= 8 * rounding * abs(f0) else replace(here, n_evaluations=points.n)
    return (yield from _walk(points, -1.0 if s0 > 0 else 1.0, first, limit, tol, rounding))


def _walk(points: _Points, side: float, first: float, limit: float, tol: float, rounding: float) -> Search[Floor]:
    """Down from 0 to one side."""
    f0 = points.value[0.0]
    low, high = yield from _bracket(points, side, first, limit, rounding)
    if math.isnan(high):
        return Floor(math.nan, math.nan, math.nan, False, False, points.n)
    if low == high:
        value = float((yield from points.values([high]))[0])
        return Floor(high, value, f0 - value, False, abs(high) == limit, points.n)
    t0, broken = yield from _root(points, low, high, tol)
    value, *ends = (yield from points.values([t0, low, high])).tolist()
    lowest = min(v for v in (value, *ends) if not math.isnan(v))
    good = not broken and value <= lowest + 8 * rounding * max(abs(f0), abs(value))
    return Floor(t0, value, f0 - value, good, False, points.n)


def _root(points: _Points, low: float, high: float, tol: float) -> Search[tuple[float, bool]]:
    """The place where the slope changes sign, and whether a slope on the way was not finite."""
    a = yield from points.slope_at(low)
    b = yield from points.slope_at(high)
    if not (math.isfinite(a) and math.isfinite(b)):
        return (low if math.isfinite(a) else high), True
    search = sign_change(low, a, high, b, tol=tol * abs(high - low))
    try:
        t = next(search)
        while True:
            t = search.send((yield from points.slope_at(t)))
    except StopIteration as stop:
        root = float(stop.value)
    return (t, True) if math.isnan(root) else (root, False)


def _bracket(points: _Points, side: float, first: float, limit: float, rounding: float) -> Search[tuple[float, float]]:
    """Two points with slopes of opposite sign; twice the same where f falls to the end; NaN where f is NaN."""
    ts, t = [0.0], first
    while True:
        t = min(t, limit)
        ts.append(side * t)
        slope = side * (yield from points.slope_at(side * t))
        if not slope < 0.0 or t == limit:
            break
        t *= 2.0
    values = (yield from points.values(ts)).copy()
    values[np.isposinf(values)] = np.finfo(np.float64).max  # a wall, and comparable
    if np.isnan(values).any():
        return ts[0], math.nan
    risen = np.flatnonzero(np.diff(values) > 8 * rounding * np.maximum(np.abs(values[1:]), np.abs(values[:-1])))
    if risen.size and (risen[0] < len(ts) - 2 or not slope >= 0.0):
        return (yield from _between(points, side, ts[risen[0]], ts[risen[0] + 1], float(values[risen[0]])))
    if slope >= 0.0:
        return ts[-2], ts[-1]
    return (ts[-1], ts[-1]) if slope < 0.0 else (ts[0], math.nan)


def _between(points: _Points, side: float, low: float, high: float, f_low: float) -> Search[tuple[float, float]]:
    """A sign change of the slope between `low`, where f falls, and `high`, where f is above f(low)."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        slope = side * (yield from points.slope_at(middle))
        value = float((yield from points.values([middle]))[0])
        if math.isnan(value):
            return low, math.nan
        if slope >= 0.0:
            return low, middle
        if value > f_low or not math.isfinite(value) or math.isnan(slope):
            high = middle
        else:
            low, f_low = middle, value
    return low, low  # f jumps up here: a lowest point, but no minimum that a slope could locate


class _Points:
    """Values and slopes asked for so far, each only once, and their number."""

    def __init__(self) -> None:
        self.value: dict[float, float] = {}
        self.slope: dict[float, float] = {}
        self.n = 0

    def values(self, ts: list[float]) -> Search[Array]:
        new = [t for t in dict.fromkeys(ts) if t not in self.value]
        if new:
            self.n += len(new)
            answer = yield Ask("value", tuple(new))
            self.value.update(zip(new, answer.tolist(), strict=True))
        return np.array([self.value[t] for t in ts])

    def slope_at(self, t: float) -> Search[float]:
        if t not in self.slope:
            self.n += 1
            answer = yield Ask("slope", (t,))
            self.slope[t] = float(answer[0])
        return self.slope[t]


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
