"""Geometry of a function of one variable: the floor of a line through a landscape, and how wide it is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from landscape.errors import LandscapeError
from landscape.probes.linalg.crossing import Crossings, crossings

__all__ = ["Crossings", "Floor", "Line", "crossings", "exponent", "find_floor"]

FIRST_STEP = 2.0**-20
"""The first step of a walk, as a part of its limit."""

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


class Line(Protocol):
    """A function f of one variable t, such as L(w + t u), with its derivative."""

    def value(self, t: float) -> float:
        """f(t)."""

    def values(self, ts: Sequence[float] | Array) -> Array:
        """F at many points (B,) -> (B,); the same numbers as `value`."""

    def slope(self, t: float) -> float:
        """f'(t)."""


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

    Steps double from limit * 2^-20 until the slope changes sign; then the root of the slope (Brent). The slope, not
    the value, sets the accuracy: values fix a minimum only to sqrt(rounding). Values are a guard: where f rises between
    two points at which it falls, a minimum lies between them and the bracket moves there. A kink such as \|t - a\| is a
    sign change like any other. A basin narrower than its distance from 0 can be stepped over unseen.

    A slope at 0 too small to change f by one rounding within the whole limit (\|f'(0)\| limit <= eps \|f(0)\|) counts
    as 0: then t0 = 0, converged if f does not fall on either side within the first step.

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
        Brent, Algorithms for Minimization without Derivatives (1973), chapter 4.

    Example:
        >>> class Parabola:
        ...     def value(self, t): return 1.0 + (t - 0.25) ** 2
        ...     def values(self, ts): return 1.0 + (np.asarray(ts) - 0.25) ** 2
        ...     def slope(self, t): return 2.0 * (t - 0.25)
        >>> floor = find_floor(Parabola(), limit=1.0)
        >>> floor.t0, floor.converged, round(floor.drop, 12)
        (0.25, True, 0.0625)
    """
    first = limit * FIRST_STEP if step is None else step
    if not (0 < limit < math.inf and first > 0 and tol > 0):
        raise LandscapeError(
            f"expected positive limit, step and tol, found {limit!r}, {step!r}, {tol!r}. Give a finite limit on |t|."
        )
    counted = _CountedLine(line)
    f0, s0 = counted.value(0.0), counted.slope(0.0)
    if not (math.isfinite(f0) and math.isfinite(s0)):
        return Floor(math.nan, math.nan, math.nan, False, False, counted.n)
    first = min(first, limit)
    if abs(s0) * limit <= EPS * abs(f0):
        minimum = counted.slope(first) >= 0.0 >= counted.slope(-first)
        return Floor(0.0, f0, 0.0, minimum, False, counted.n)
    side = -1.0 if s0 > 0 else 1.0
    low, high = _bracket(counted, side, f0, first, limit)
    if math.isnan(high):
        return Floor(math.nan, math.nan, math.nan, False, False, counted.n)
    if low == high:
        censored = abs(high) == limit
        value = counted.value(high)
        return Floor(high, value, f0 - value, False, censored, counted.n)
    t0 = float(brentq(counted.finite_slope, low, high, xtol=tol * abs(high - low), rtol=4 * EPS))
    candidates = {t: counted.value(t) for t in (t0, low, high)}
    value = candidates[t0]
    lowest = min(v for v in candidates.values() if not math.isnan(v))
    good = not counted.broken and value <= lowest + 8 * EPS * max(abs(f0), abs(value))
    return Floor(t0, value, f0 - value, good, False, counted.n)


def _bracket(line: _CountedLine, side: float, f0: float, first: float, limit: float) -> tuple[float, float]:
    """Two points with slopes of opposite sign; twice the same where f falls to the end; NaN where f is NaN."""
    ts, t = [0.0], first
    while True:
        t = min(t, limit)
        ts.append(side * t)
        slope = side * line.slope(side * t)
        if not slope < 0.0 or t == limit:
            break
        t *= 2.0
    values = np.concatenate([[f0], line.values(ts[1:])])
    values[np.isposinf(values)] = np.finfo(np.float64).max  # a wall, and comparable
    if np.isnan(values).any():
        return ts[0], math.nan
    risen = np.flatnonzero(np.diff(values) > 8 * EPS * np.maximum(np.abs(values[1:]), np.abs(values[:-1])))
    if risen.size and (risen[0] < len(ts) - 2 or not slope >= 0.0):
        return _between(line, side, ts[risen[0]], ts[risen[0] + 1], float(values[risen[0]]))
    if slope >= 0.0:
        return ts[-2], ts[-1]
    return (ts[-1], ts[-1]) if slope < 0.0 else (ts[0], math.nan)


def _between(line: _CountedLine, side: float, low: float, high: float, f_low: float) -> tuple[float, float]:
    """A sign change of the slope between `low`, where f falls, and `high`, where f is above f(low)."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        slope, value = side * line.slope(middle), line.value(middle)
        if math.isnan(value):
            return low, math.nan
        if slope >= 0.0:
            return low, middle
        if value > f_low or not math.isfinite(value) or math.isnan(slope):
            high = middle
        else:
            low, f_low = middle, value
    return low, low  # f jumps up here: a lowest point, but no minimum that a slope could locate


class _CountedLine:
    """A line that counts its evaluations and remembers whether a slope was not finite."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._slopes: dict[float, float] = {}
        self.n = 0
        self.broken = False

    def value(self, t: float) -> float:
        self.n += 1
        return float(self._line.value(t))

    def values(self, ts: Sequence[float]) -> Array:
        self.n += len(ts)
        return np.array(self._line.values(ts), dtype=np.float64)

    def slope(self, t: float) -> float:
        if t not in self._slopes:
            self.n += 1
            self._slopes[t] = float(self._line.slope(t))
        return self._slopes[t]

    def finite_slope(self, t: float) -> float:
        """The slope for a root finder, which a 0 stops at once."""
        slope = self.slope(t)
        self.broken = self.broken or not math.isfinite(slope)
        return slope if math.isfinite(slope) else 0.0


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
