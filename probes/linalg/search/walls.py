"""The first place where one wall reaches a rise, and whether anything before it looks as if it did."""

from __future__ import annotations

import itertools
import math

import numpy as np

from landscape.probes.linalg.search.driver import Search
from landscape.probes.linalg.search.humps import Gaps
from landscape.probes.linalg.search.scan import FIRST_STEP, STEP, Scan

__all__ = ["ACCURACY", "Wall"]

EPS = float(np.finfo(np.float64).eps)

ACCURACY = 1e-3
"""A half-width whose relative error is estimated above this is not called converged."""

MOST = 256
"""Points of one side that may be spent on a suspicion."""


class Wall:
    """The search for crossings on one side; all share one scan."""

    def __init__(self, scan: Scan, guess: float | None, gap: float) -> None:
        self.scan, self._guess, self._gap = scan, guess, gap
        self._gaps, self._left = Gaps(gap), MOST

    def first(self, rise: float, tol: float) -> Search[tuple[float, bool, bool]]:
        """(half-width, censored, sure) of the first crossing of a rise; sure: nothing looks as if one came before."""
        scan = self.scan
        if scan.span <= 0:
            return scan.span, True, True
        while True:
            width, censored = yield from self._crossing(rise, tol)
            if math.isnan(width) or tol > ACCURACY:  # it will not be called converged
                return width, censored, True
            new = self._gaps.doubtful([0.0, *scan.s], [0.0, *scan.r], width, rise, tol)
            if not new:
                return width, censored, True
            self._left -= len(new)
            if self._left < 0:
                return width, False, False
            yield from scan.ask(new)

    def longest(self, width: float) -> float:
        """The longest gap between points as far as the half-width; NaN for a NaN."""
        if math.isnan(width):
            return math.nan
        places = [0.0, *(s for s in self.scan.s if s < width), width]
        return max(b - a for a, b in itertools.pairwise(places))

    def _crossing(self, rise: float, tol: float) -> Search[tuple[float, bool]]:
        """(half-width, censored) from the first point that is not below a rise."""
        scan = self.scan
        if not scan.s:
            yield from self._begin()
        short = 0  # steps that were predicted to arrive and did not
        while True:
            j = scan.above(rise)
            for i in {j - 1, min(j, len(scan.s) - 1)}:
                if j > 0 and (found := scan.near(i, rise, tol)) is not None:
                    return found, False
            if j == len(scan.s):
                if scan.s[-1] >= scan.span:
                    return scan.span, True
                u = scan.outward(rise) if short < 3 else math.inf
                short += u < math.log(scan.s[-1]) + STEP
                yield from self._step(u, tol)
            elif j == 0:
                s = scan.inward(rise)
                if s <= 4 * EPS * scan.offset or s < scan.span * 2.0**-200:
                    return math.nan, False  # f jumps at the floor itself
                yield from scan.ask([s])
            elif math.isnan(scan.r[j]):
                return math.nan, False
            else:
                return (yield from self._closed(rise, tol)), False

    def _begin(self) -> Search[None]:
        """The first points: even ones before the guess."""
        s = self.scan.span * FIRST_STEP * 4 if self._guess is None else min(self._guess, self.scan.span)
        n = math.ceil(1 / self._gap - 1e-9)
        yield from self.scan.ask([s * k / n for k in range(1, n)])

    def _step(self, u: float, tol: float) -> Search[None]:
        """Outward to where the crossing is predicted, leaving no long gap; a factor of 2 where it is further."""
        last, far = self.scan.s[-1], u >= math.log(self.scan.s[-1]) + STEP
        s = min(2 * last if far else max(math.exp(u), last * (1 + tol)), self.scan.span)
        n = 1 if far else math.ceil((s - last) / (self._gap * s) - 1e-9)
        yield from self.scan.ask([*(last + (s - last) * k / n for k in range(1, n)), s])

    def _closed(self, rise: float, tol: float) -> Search[float]:
        """The crossing between the first point that is not below the rise and its neighbour."""
        scan, widths = self.scan, list[float]()
        while True:
            j = scan.above(rise)
            low, high = math.log(scan.s[j - 1]), math.log(scan.s[j])
            widths.append(high - low)
            middle = 0.5 * (low + high)
            if high - low <= tol:
                return math.exp(middle)
            slow = len(widths) > 2 and high - low > 0.5 * widths[-3]
            u = middle if slow else scan.interpolated(j, rise, middle)
            margin = 0.25 * min(tol, high - low)
            s = math.exp(min(max(u, low + margin), high - margin))
            yield from scan.ask([s])
            newest = scan.s.index(s)
            if math.isnan(scan.r[newest]):
                return math.nan
            if (found := scan.near(newest, rise, tol)) is not None:
                return found
