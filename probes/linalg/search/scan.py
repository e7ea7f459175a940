"""The points of one wall evaluated so far, and what a power law says about the next."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from landscape.probes.linalg.search.driver import Ask, Search, inverse_quadratic

__all__ = ["Scan"]

FIRST_STEP = 2.0**-20
"""The first point, as a part of the distance available, where there is no guess."""

STEP = math.log(2.0)
"""Largest step outward, in log s."""


class Scan:
    """All points of one side evaluated so far, ascending in s, and the rises f - f0 there.

    Attributes:
        s: distances from the floor.
        r: f - f0 there.
        span: the distance available.
        offset: |t0|, which sets the rounding of s.
        n: values asked for.

    Example:
        >>> from landscape.probes.linalg.search.driver import solve
        >>> class Parabola:
        ...     def values(self, ts): return ts**2
        ...     def slope(self, t): return 2 * t
        >>> scan = Scan(0.0, 0.0, 1, 8.0)
        >>> solve(scan.ask([1.0, 2.0]), Parabola())
        >>> round(math.exp(scan.outward(9.0)), 12)
        3.0
    """

    def __init__(self, t0: float, f0: float, side: int, span: float) -> None:
        self._t0, self._f0, self._side, self.span = t0, f0, side, span
        self.offset = abs(t0)
        self.n = 0
        self.s: list[float] = []
        self.r: list[float] = []

    def ask(self, points: Sequence[float]) -> Search[None]:
        """Evaluate more points, together."""
        self.n += len(points)
        answer = yield Ask("value", tuple(self._t0 + self._side * s for s in points))
        for s, value in zip(points, answer.tolist(), strict=True):
            place = bisect.bisect_left(self.s, s)
            self.s.insert(place, s)
            self.r.insert(place, value - self._f0)

    def above(self, rise: float) -> int:
        """The first point that is not below a rise (NaN is not); the number of points if there is none."""
        return next((i for i, r in enumerate(self.r) if not r < rise), len(self.r))

    def near(self, i: int, rise: float, tol: float) -> float | None:
        """The crossing, if a point is within tol of it by the smallest slope to its neighbours; else None."""
        u, y = math.log(self.s[i]), self._level(i, rise)
        slopes = []
        for order in (range(i - 1, -1, -1), range(i + 1, len(self.s))):
            other = next((k for k in order if abs(math.log(self.s[k]) - u) > 1e-5), None)
            if other is not None:
                slopes.append((self._level(other, rise) - y) / (math.log(self.s[other]) - u))
        slopes = [p for p in slopes if not math.isnan(p)]
        if not slopes or not min(slopes) > 0 or not abs(y) <= tol * min(slopes):
            return None
        return min(math.exp(u - y / min(slopes)), self.span)

    def outward(self, rise: float) -> float:
        """The log s of the crossing, extrapolated from up to three points that are not too close; inf if impossible."""
        chosen: list[tuple[float, float]] = []
        for i in reversed(range(len(self.s))):
            u, y = math.log(self.s[i]), self._level(i, rise)
            if not math.isnan(y) and (not chosen or u < chosen[-1][0] - 0.2):
                chosen.append((u, y))
            if len(chosen) == 3:
                break
        if len(chosen) < 2 or chosen[0][1] <= chosen[1][1]:
            return math.inf
        (a, ya), (b, yb) = chosen[:2]
        straight = a - ya * (a - b) / (ya - yb)
        bent = inverse_quadratic(chosen) if len(chosen) == 3 else math.nan
        return bent if a < bent < 2 * straight - a else straight

    def inward(self, rise: float) -> float:
        """A point closer to the floor than all others, below the rise if f is like a power law."""
        s, r = self.s[0], self.r[0]
        if not math.isfinite(r):
            return s / 16.0
        p = 2.0
        if len(self.s) > 1 and r < self.r[1] < math.inf:
            p = math.log(self.r[1] / r) / math.log(self.s[1] / s)
        return s * min(max(0.5 * math.exp((math.log(rise) - math.log(r)) / p), 1 / 16), 0.5)

    def interpolated(self, j: int, rise: float, middle: float) -> float:
        """The log s of the crossing from the bracket and the nearest point beyond it; the middle if impossible."""
        ends = [(math.log(self.s[i]), self._level(i, rise)) for i in (j - 1, j)]
        if any(math.isnan(y) for _, y in ends) or ends[0][1] == ends[1][1]:
            return middle
        (a, ya), (b, yb) = ends
        others = [(math.log(self.s[i]), self._level(i, rise)) for i in (j - 2, j + 1) if 0 <= i < len(self.s)]
        others = sorted((o for o in others if not math.isnan(o[1])), key=lambda o: abs(o[0] - middle))
        bent = inverse_quadratic([*ends, others[0]]) if others else math.nan
        return bent if a < bent < b else a - ya * (b - a) / (yb - ya)

    def _level(self, i: int, rise: float) -> float:
        """Log of the rise at a point over the one looked for; NaN where there is no logarithm."""
        r = self.r[i]
        return math.log(r) - math.log(rise) if 0 < r < math.inf else math.nan
