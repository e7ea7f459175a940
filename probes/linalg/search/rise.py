"""From which point on a function of one variable lies above where it starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landscape.errors import LandscapeError

__all__ = ["Rise", "first_rise"]

NARROWEST = 2.0**-40
"""Smallest point tried, as a part of the limit."""


@dataclass(frozen=True)
class Rise:
    """A bracket of the point at which f rises above f(0): f(low) <= f(0), and f(high) > f(0) or f(high) is NaN.

    Attributes:
        low: 0 if f was above f(0) at every point tried.
        high: infinite if f did not rise up to the limit.
        at_zero: f(0).
        at_high: f(high), NaN if there is no such point.
        fall: f(0) minus the smallest value seen; 0 if none was smaller by more than rounding.
        relative_error: of the middle of the bracket: half its width, and what rounding of f makes of it where f is a
            parabola; infinite without a bracket or a fall.
        n_evaluations: values computed.
    """

    low: float
    high: float
    at_zero: float
    at_high: float
    fall: float
    relative_error: float
    n_evaluations: int


def first_rise(
    f: Callable[[float], float],
    *,
    start: float,
    limit: float,
    tol: float,
    rounding: float = float(np.finfo(np.float64).eps),
) -> Rise:
    """Bracket the point t > 0 at which f rises above f(0): doubling or halving `start`, then bisection.

    A rise between the points tried is not seen: before `low` they are a factor of 2 apart, from `start` on. NaN counts
    as a rise. Halving ends where f differs from f(0) by 8 roundings or less: there is nothing to be seen below.

    Args:
        f: the function.
        start: first point; cut to the limit.
        limit: largest point.
        tol: width of the bracket over its upper end at which bisection ends.
        rounding: relative rounding of f.

    Raises:
        LandscapeError: for a tolerance outside (0, 1), or a start or limit that is not positive and finite.

    Example:
        >>> found = first_rise(lambda t: (t - 1.5) ** 2, start=0.1, limit=10.0, tol=1e-3)  # back at f(0) where t = 3
        >>> found.low <= 3 < found.high, found.high - found.low < 3e-3, found.n_evaluations
        (True, True, 17)
    """
    if not (0 < tol < 1 and 0 < start < math.inf and 0 < limit < math.inf):
        raise LandscapeError(
            f"expected a tolerance in (0, 1), and a start and a limit that are positive and finite, found {tol}, "
            f"{start} and {limit}."
        )
    f0 = f(0.0)
    seen = [f0]

    def falls(t: float) -> bool:  # or stays
        seen.append(f(t))
        return seen[-1] <= f0

    noise = 8 * rounding * abs(f0)
    low, high, at_high, t = 0.0, math.inf, math.nan, min(max(start, NARROWEST * limit), limit)
    while falls(t):
        low = t
        if t == limit:
            break
        t = min(2 * t, limit)
    else:
        high, at_high = t, seen[-1]
    while low == 0 and high > NARROWEST * limit and not abs(at_high - f0) <= noise:
        if falls(high / 2):
            low = high / 2
        else:
            high, at_high = high / 2, seen[-1]
    if 0 < low < high < math.inf and f0 - min(v for v in seen if v <= f0) <= noise:
        falls(low / 2)  # low may be the very place of the rise: the fall lies before it
    while 0 < low < high < math.inf and high - low > tol * high:
        middle = low + (high - low) / 2
        if not low < middle < high:  # neighbours
            break
        if falls(middle):
            low = middle
        else:
            high, at_high = middle, seen[-1]
    fall = f0 - min(v for v in seen if v <= f0)
    fall = fall if fall > noise else 0.0
    known = fall > 0 and 0 < low < high < math.inf
    # Near the rise of a parabola f has the slope -f'(0), and |f'(0)| times its place is four times the fall.
    error = (high - low) / (high + low) + noise / (4 * fall) if known else math.inf
    return Rise(low, high, f0, at_high, fall, error, len(seen))
