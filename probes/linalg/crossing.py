"""Where a function of one variable rises by given amounts above its floor."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from landscape.errors import LandscapeError

if TYPE_CHECKING:
    from landscape.probes.linalg.line import Line

__all__ = ["Crossings", "crossings"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
EPS = float(np.finfo(np.float64).eps)

FIRST_STEP = 2.0**-20
"""The first point of the scan, as a part of the distance available."""

CHUNK = 7
"""Points of the scan evaluated in one call."""

ACCURACY = 1e-3
"""A half-width whose relative error is estimated above this is not called converged."""


@dataclass(frozen=True)
class Crossings:
    """Half-widths of a valley on one side of its floor.

    Attributes:
        half_width: (n_rises,) smallest s found with f(t0 + side s) = f0 + rise; where the limit came first, the
            distance searched; NaN where f is NaN before the rise is reached.
        censored: (n_rises,) bool, the limit came first.
        converged: (n_rises,) bool, reached, and `relative_error` is small.
        relative_error: (n_rises,) estimate from the tolerance and the rounding of f and t; NaN where not reached.
        n_evaluations: values computed.
    """

    half_width: Array
    censored: Bools
    converged: Bools
    relative_error: Array
    n_evaluations: int


def crossings(
    line: Line,
    *,
    t0: float,
    f0: float,
    side: int,
    rises: Array,
    limit: float,
    tol: float = 1e-9,
    rounding: float = EPS,
) -> Crossings:
    r"""Half-widths s > 0 with f(t0 + side s) - f0 = rise, within \|t0 + side s\| <= limit.

    A scan outward on s = 2^i (distance available) / 2^20, shared by all rises and stopped at the largest, brackets
    every crossing to a factor of 2; Brent's method on log(f - f0) against log s, straight for a power law, finds it.
    Going above a rise and back between two points of the scan is not seen. +inf counts as above every rise.

    Args:
        line: the function; only `value` and `values` are used.
        t0: the floor's place.
        f0: the floor's value.
        side: +1 or -1.
        rises: (n_rises,) positive, ascending.
        limit: bound on |t|, not on the distance from t0.
        tol: relative tolerance of the half-widths.
        rounding: relative rounding of f; give the one of float32 for a line computed in it.

    Raises:
        LandscapeError: for another side, rises not positive and ascending, an infinite t0 or f0, or |t0| > limit.

    Source:
        Brent, Algorithms for Minimization without Derivatives (1973), chapter 4.

    Example:
        >>> class Parabola:
        ...     def value(self, t): return 3.0 * t * t
        ...     def values(self, ts): return 3.0 * np.asarray(ts) ** 2
        ...     def slope(self, t): return 6.0 * t
        >>> found = crossings(Parabola(), t0=0.0, f0=0.0, side=1, rises=np.array([3.0, 12.0, 300.0]), limit=5.0)
        >>> found.half_width.round(8).tolist(), found.censored.tolist()
        ([1.0, 2.0, 5.0], [False, False, True])
    """
    rises = np.asarray(rises, dtype=np.float64)
    _check(t0, f0, side, rises, limit, tol)
    scan = _Scan(line, t0, f0, side, limit - side * t0)
    n = rises.size
    width, censored, error = np.full(n, math.nan), np.zeros(n, dtype=bool), np.full(n, math.nan)
    for i, rise in enumerate(rises.tolist()):
        width[i], censored[i] = scan.crossing(rise, tol)
        if not censored[i] and width[i] > 0:
            noise = 4 * rounding * abs(f0) / rise + EPS * abs(t0) / width[i]
            error[i] = math.nan if math.isnan(width[i]) else max(tol, noise)
    return Crossings(width, censored, error <= ACCURACY, error, scan.n)


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


class _Scan:
    """All points of one side evaluated so far, ascending in s, and the rises f - f0 there."""

    def __init__(self, line: Line, t0: float, f0: float, side: int, span: float) -> None:
        self._line, self._t0, self._f0, self._side, self._span = line, t0, f0, side, span
        self.n = 0
        self._s: list[float] = []
        self._rise: list[float] = []

    def crossing(self, rise: float, tol: float) -> tuple[float, bool]:
        """(half-width, censored) for one rise."""
        while True:
            j = next((i for i, r in enumerate(self._rise) if not r < rise), None)
            if j is not None and (j > 0 or not self._inward()):
                break
            if j is None and not self._outward():
                return self._span, True
        if math.isnan(self._rise[j]) or j == 0:
            return math.nan, False  # j = 0: f jumps at the floor itself
        root = self._root(self._s[j - 1], self._s[j], rise, tol)
        return root, False

    def _outward(self) -> bool:
        """The next points of the scan; False at the end."""
        last = self._s[-1] if self._s else self._span * FIRST_STEP / 2
        if last >= self._span or self._span <= 0:
            return False
        s = np.minimum(last * 2.0 ** np.arange(1, CHUNK + 1), self._span)
        s = s[: int(np.searchsorted(s, self._span)) + 1]
        self.n += s.size
        values = np.array(self._line.values(self._t0 + self._side * s), dtype=np.float64)
        self._s.extend(s.tolist())
        self._rise.extend((values - self._f0).tolist())
        return True

    def _inward(self) -> bool:
        """A point closer to the floor than all others; False below the rounding of t."""
        s = self._s[0] / 16.0
        if s <= 4 * EPS * abs(self._t0) or s < self._span * 2.0**-200:
            return False
        self._s.insert(0, s)
        self._rise.insert(0, self._at(s))
        return True

    def _at(self, s: float) -> float:
        self.n += 1
        return float(self._line.value(self._t0 + self._side * s)) - self._f0

    def _root(self, low: float, high: float, rise: float, tol: float) -> float:
        """The crossing between two neighbours of the scan, the rise below at `low` and not at `high`."""
        start, stop = math.log(low), math.log(high)
        ends = {
            start: self._rise[bisect.bisect_left(self._s, low)],
            stop: self._rise[bisect.bisect_left(self._s, high)],
        }
        broken = False

        def level(u: float) -> float:
            nonlocal broken
            r = ends.get(u)
            if r is None:
                s = math.exp(u)
                r = self._at(s)
                place = bisect.bisect_left(self._s, s)
                self._s.insert(place, s)
                self._rise.insert(place, r)
            broken = broken or math.isnan(r)
            # Clipped, for f may dip below the floor or be infinite; a 0 stops the root finder.
            return 0.0 if broken else math.log(min(max(r / rise, 1e-20), 1e20))

        u = float(brentq(level, start, stop, xtol=tol / 4, rtol=4 * EPS))
        return math.nan if broken else math.exp(u)
