"""The points of one side of a valley: where f first passes a rise, and what could have been overlooked before."""

from __future__ import annotations

import bisect
import itertools
import math

import numpy as np
from scipy.interpolate import PchipInterpolator

from landscape.probes.linalg.lines import Ask, Search, inverse_quadratic

__all__ = ["EPS", "Scan"]

EPS = float(np.finfo(np.float64).eps)

FIRST_STEP = 2.0**-20
"""The first point of the scan, as a part of the distance available, where there is no guess."""

STEP = math.log(2.0)
"""Largest step outward, in log s."""

GAP, FINEST = 1 / 4, 1 / 60
"""Largest distance between points of the scan before a crossing, and the shortest that is looked at, as parts of it."""

SURPRISE = 0.02
"""A point that differs by more than this part of the rise from what its neighbours say asks for more around it."""

SUMMIT = 0.7
"""A maximum of the scan that reaches this part of a rise is looked at more closely."""


class Scan:
    """All points of one side evaluated so far, ascending in s, and the rises f - f0 there.

    Args:
        t0: the floor's place.
        f0: the floor's value.
        side: +1 or -1.
        span: largest s.
        guess: of the first half-width, or None.

    Attributes:
        n: values asked for.
    """

    def __init__(self, t0: float, f0: float, side: int, span: float, guess: float | None) -> None:
        self._t0, self._f0, self._side, self._span, self._guess = t0, f0, side, span, guess
        self.n = 0
        self._s: list[float] = []
        self._r: list[float] = []

    def first_crossing(self, rise: float, tol: float) -> Search[tuple[float, bool]]:
        """(half-width, censored) for one rise, after a search for an earlier one."""
        while True:
            s, censored = yield from self._crossing(rise, tol)
            if not s > 0:
                return s, censored
            known = self._above(rise)
            yield from self._filled(rise, s)
            if self._above(rise) >= known:
                return s, censored

    def _above(self, rise: float) -> float:
        """The first s of the scan at which f is not below the rise."""
        return next((s for s, r in zip(self._s, self._r, strict=True) if not r < rise), math.inf)

    def resolution(self, s: float) -> float:
        """The largest distance between neighbouring points from 0 to s, NaN if s is."""
        inside = [0.0, *(x for x in self._s if x < s), s]
        return max(b - a for a, b in itertools.pairwise(inside)) if s > 0 else math.nan

    def _filled(self, rise: float, s: float) -> Search[None]:
        """Points up to s: no wide gaps, more where they surprise, and maxima climbed; until one is above the rise."""
        inside = [0.0, *(x for x in self._s if x < s), s]
        new: list[float] = []
        for a, b in itertools.pairwise(inside):
            parts = math.ceil((b - a) / (GAP * s) - 1e-9)
            new += [a + (b - a) * k / parts for k in range(1, parts)]
        while new:
            expected = self._expected(new)
            found = yield from self._ask_all(new)
            if self._above(rise) < s * (1 - 1e-6):
                return
            odd = [x for x, e, r in zip(new, expected, found, strict=True) if abs(r - e) > SURPRISE * rise]
            new = sorted({m for x in odd for m in self._beside(x, FINEST * s)})
        yield from self._climbed(rise, s)

    def _expected(self, at: list[float]) -> list[float]:
        """What the points so far say of f - f0 elsewhere."""
        x, y = np.array([0.0, *self._s]), np.array([0.0, *self._r])
        keep = np.isfinite(y) & (np.diff(x, prepend=-1.0) > 1e-9 * x)  # a bracket's last points are of one place
        x, y = x[keep], y[keep]
        if len(x) > 2 and (y[1:] > 0).all():  # a power law is a straight line
            curve = PchipInterpolator(np.log(x[1:]), np.log(y[1:]), extrapolate=True)
            with np.errstate(over="ignore"):
                return [float(v) for v in np.exp(curve(np.log(at)))]
        return [float(v) for v in PchipInterpolator(x, y, extrapolate=True)(at)] if len(x) > 1 else [0.0] * len(at)

    def _beside(self, x: float, least: float) -> list[float]:
        """The middles of the gaps on both sides of a point that are wider than `least`."""
        i = bisect.bisect_left(self._s, x)
        ends = [self._s[i - 1] if i else 0.0, x, *self._s[i + 1 : i + 2]]
        return [0.5 * (a + b) for a, b in itertools.pairwise(ends) if b - a > least]

    def _climbed(self, rise: float, s: float) -> Search[None]:
        """The tops of maxima below the rise, by parabolas through three points, until one is above it or is located."""
        for _ in range(8):
            tops = []
            for i in range(1, len(self._s) - 1):
                (a, b, c), (fa, fb, fc) = self._s[i - 1 : i + 2], self._r[i - 1 : i + 2]
                if c < s and max(fa, fc) < fb < rise and fb > SUMMIT * rise and c - a > FINEST * s * 1e-2:
                    up, down = (fb - fa) / (b - a), (fb - fc) / (c - b)
                    top = b + 0.5 * (up * (c - b) - down * (b - a)) / (up + down)
                    # A top where the middle point is: halve the wider side, or nothing new would be seen.
                    wide = 0.5 * (a + b) if b - a > c - b else 0.5 * (b + c)
                    height = fb + 0.25 * (up + down) * (c - a)
                    if height >= rise:
                        tops.append(top if abs(top - b) > 0.05 * (c - a) else wide)
            if not tops:
                return
            yield from self._ask_all(tops)
            if self._above(rise) < s * (1 - 1e-6):
                return

    def _crossing(self, rise: float, tol: float) -> Search[tuple[float, bool]]:
        """(half-width, censored) for one rise, from the points there are and as few more as possible."""
        if self._span <= 0:
            return self._span, True
        if not self._s:
            yield from self._begin()
        short = 0  # steps that were predicted to arrive and did not
        while True:
            j = next((i for i, r in enumerate(self._r) if not r < rise), len(self._r))
            for i in {j - 1, min(j, len(self._r) - 1)}:
                if j > 0 and (found := self._near(i, rise, tol)) is not None:
                    return found, False
            if j == len(self._r):
                last = math.log(self._s[-1])
                if self._s[-1] >= self._span:
                    return self._span, True
                u = self._outward(rise) if short < 3 else math.inf
                short += u < last + STEP
                yield from self._ask(min(math.exp(min(max(u, last + tol), last + STEP)), self._span))
            elif j == 0:
                s = self._inward(rise)
                if s <= 4 * EPS * abs(self._t0) or s < self._span * 2.0**-200:
                    return math.nan, False  # f jumps at the floor itself
                yield from self._ask(s)
            elif math.isnan(self._r[j]):
                return math.nan, False
            else:
                return (yield from self._closed(j, rise, tol)), False

    def _begin(self) -> Search[None]:
        """The first three points, from a quarter of the guess on."""
        s = self._span * FIRST_STEP * 4 if self._guess is None else min(self._guess, self._span)
        self._s = [0.25 * s, 0.5 * s, s]
        self.n += len(self._s)
        answer = yield Ask("value", tuple(self._t0 + self._side * s for s in self._s))
        self._r = (answer - self._f0).tolist()

    def _ask(self, s: float) -> Search[int]:
        """One more point; its place."""
        yield from self._ask_all([s])
        return bisect.bisect_left(self._s, s)

    def _ask_all(self, new: list[float]) -> Search[list[float]]:
        """More points at once; f - f0 there."""
        self.n += len(new)
        answer = yield Ask("value", tuple(self._t0 + self._side * s for s in new))
        found = [float(x) - self._f0 for x in answer]
        for s, r in zip(new, found, strict=True):
            place = bisect.bisect_left(self._s, s)
            self._s.insert(place, s)
            self._r.insert(place, r)
        return found

    def _level(self, i: int, rise: float) -> float:
        """Log of the rise at a point over the one looked for; NaN where there is no logarithm."""
        r = self._r[i]
        return math.log(r) - math.log(rise) if 0 < r < math.inf else math.nan

    def _near(self, i: int, rise: float, tol: float) -> float | None:
        """The crossing, if a point is within tol of it by the smallest slope to its neighbours; else None."""
        u, y = math.log(self._s[i]), self._level(i, rise)
        slopes = []
        for order in (range(i - 1, -1, -1), range(i + 1, len(self._s))):
            other = next((k for k in order if abs(math.log(self._s[k]) - u) > 1e-5), None)
            if other is not None:
                slopes.append((self._level(other, rise) - y) / (math.log(self._s[other]) - u))
        slopes = [p for p in slopes if not math.isnan(p)]
        if not slopes or not min(slopes) > 0 or not abs(y) <= tol * min(slopes):
            return None
        return min(math.exp(u - y / min(slopes)), self._span)

    def _outward(self, rise: float) -> float:
        """The log s of the crossing, extrapolated from up to three points that are not too close; inf if impossible."""
        chosen: list[tuple[float, float]] = []
        for i in reversed(range(len(self._s))):
            u, y = math.log(self._s[i]), self._level(i, rise)
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

    def _inward(self, rise: float) -> float:
        """A point closer to the floor than all others, below the rise if f is like a power law."""
        s, r = self._s[0], self._r[0]
        if not math.isfinite(r):
            return s / 16.0
        p = 2.0
        if len(self._s) > 1 and r < self._r[1] < math.inf:
            p = math.log(self._r[1] / r) / math.log(self._s[1] / s)
        return s * min(max(0.5 * math.exp((math.log(rise) - math.log(r)) / p), 1 / 16), 0.5)

    def _closed(self, j: int, rise: float, tol: float) -> Search[float]:
        """The crossing between two neighbours of the scan, the rise below at j - 1 and not at j."""
        widths: list[float] = []
        while True:
            low, high = math.log(self._s[j - 1]), math.log(self._s[j])
            widths.append(high - low)
            middle = 0.5 * (low + high)
            if high - low <= tol:
                return math.exp(middle)
            slow = len(widths) > 2 and high - low > 0.5 * widths[-3]
            u = middle if slow else self._interpolated(j, rise, middle)
            margin = 0.25 * min(tol, high - low)
            newest = yield from self._ask(math.exp(min(max(u, low + margin), high - margin)))
            if math.isnan(self._r[newest]):
                return math.nan
            if (found := self._near(newest, rise, tol)) is not None:
                return found
            j = newest if not self._r[newest] < rise else newest + 1

    def _interpolated(self, j: int, rise: float, middle: float) -> float:
        """The log s of the crossing from the bracket and the nearest point beyond it; the middle if impossible."""
        ends = [(math.log(self._s[i]), self._level(i, rise)) for i in (j - 1, j)]
        if any(math.isnan(y) for _, y in ends) or ends[0][1] == ends[1][1]:
            return middle
        (a, ya), (b, yb) = ends
        others = [(math.log(self._s[i]), self._level(i, rise)) for i in (j - 2, j + 1) if 0 <= i < len(self._s)]
        others = sorted((o for o in others if not math.isnan(o[1])), key=lambda o: abs(o[0] - middle))
        bent = inverse_quadratic([*ends, others[0]]) if others else math.nan
        return bent if a < bent < b else a - ya * (b - a) / (yb - ya)
