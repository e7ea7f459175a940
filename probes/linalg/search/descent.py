"""Downhill along a line to its first minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from landscape.probes.linalg.search.driver import Ask, Search, sign_change
from landscape.probes.linalg.search.humps import Gaps

__all__ = ["Floor", "Points", "descend"]

GAP = 0.25
"""Longest gap between values on the way to a floor, as a part of the way."""

ROUNDS = 8
"""How often gaps on the way are divided, and how often a barrier seen there sends the search back."""

Array = NDArray[np.float64]


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


def descend(points: Points, side: float, first: float, limit: float, tol: float, rounding: float) -> Search[Floor]:
    """Down from 0 to the first minimum on one side; f does not rise on the way as far as cubics can tell."""
    low, high = yield from _bracket(points, side, first, limit, rounding)
    floor = yield from _bottom(points, low, high, limit, tol, rounding)
    for _ in range(ROUNDS):
        before = yield from _barrier(points, side, floor, rounding)
        if before is None:
            return replace(floor, n_evaluations=points.n)
        floor = yield from _bottom(points, *before, limit, tol, rounding)
    return replace(floor, converged=False)


def _bottom(points: Points, low: float, high: float, limit: float, tol: float, rounding: float) -> Search[Floor]:
    """The minimum between two points with slopes of opposite sign."""
    f0 = points.value[0.0]
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


def _barrier(points: Points, side: float, floor: Floor, rounding: float) -> Search[tuple[float, float] | None]:
    """Two points with a minimum between them, nearer to 0 than the floor; None if nothing shows that there is one."""
    unit, gaps = rounding * abs(points.value[0.0]), Gaps(GAP)
    for _ in range(ROUNDS if floor.drop > 1e4 * unit else 0):
        way = sorted((abs(t - floor.t0), t) for t in points.value if 0 <= side * t <= side * floor.t0)
        s, r = [x for x, _ in way], [points.value[t] - floor.value for _, t in way]
        risen = [i for i in range(1, len(s)) if r[i - 1] > r[i] + 8 * unit]
        if risen:
            high, low, *back = (t for _, t in way[risen[-1] - 1 :])
            if side * (yield from points.slope_at(low)) < 0.0:
                return (yield from _between(points, side, low, high, points.value[low]))
            for t in back:  # f turned before it was seen to rise
                low, high = t, low
                if side * (yield from points.slope_at(low)) < 0.0:
                    break
            return low, high
        new = gaps.unsettled(s, r)
        if not new:
            return None
        yield from points.values([floor.t0 - side * x for x in new])
    return None


def _root(points: Points, low: float, high: float, tol: float) -> Search[tuple[float, bool]]:
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


def _bracket(points: Points, side: float, first: float, limit: float, rounding: float) -> Search[tuple[float, float]]:
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


def _between(points: Points, side: float, low: float, high: float, f_low: float) -> Search[tuple[float, float]]:
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


class Points:
    """Values and slopes asked for so far, each only once, and their number."""

    def __init__(self) -> None:
        self.value: dict[float, float] = {}
        self.slope: dict[float, float] = {}
        self.n = 0

    def values(self, ts: list[float]) -> Search[Array]:
        """F at some points."""
        new = [t for t in dict.fromkeys(ts) if t not in self.value]
        if new:
            self.n += len(new)
            answer = yield Ask("value", tuple(new))
            self.value.update(zip(new, answer.tolist(), strict=True))
        return np.array([self.value[t] for t in ts])

    def slope_at(self, t: float) -> Search[float]:
        """The slope at one point."""
        if t not in self.slope:
            self.n += 1
            answer = yield Ask("slope", (t,))
            self.slope[t] = float(answer[0])
        return self.slope[t]
