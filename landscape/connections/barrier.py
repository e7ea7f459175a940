"""The highest place on a path: from losses on a grid, refined where the highest may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

__all__ = ["Peak", "barrier", "peak"]

Array = NDArray[np.float64]

XATOL = 1e-5
"""To which t is found; a maximum that is smooth there is then known to about its square."""
NEAR = 1e-3
"""Part of a cell beyond an end at which is seen whether the function rises from there."""
MOST = 3
"""Places that are refined at most."""


@dataclass(frozen=True)
class Peak:
    """The largest value of a function on [0, 1].

    Attributes:
        t: where; NaN if that is not known.
        height: the value; NaN where the function is NaN anywhere on the grid, infinite where it is infinite there.
        gain: how much the refinement added to the largest value on the grid; a large part of the height says that the
            grid was coarse.
    """

    t: float
    height: float
    gain: float


def barrier(loss: Callable[[float], float], t: Array, losses: Array) -> tuple[Peak, Peak]:
    r"""The barrier max_t [L(t) - (1 - t) L(0) - t L(1)], and the rise max_t L(t) - max(L(0), L(1)).

    Both are 0 where the path nowhere lies above the straight line between the losses, or above the higher, of its ends.

    Args:
        loss: L at any t between 0 and 1.
        t: (T,) ascending, from 0 to 1.
        losses: (T,) L there.

    Example:
        >>> f = lambda t: 16 * (t * (1 - t)) ** 2 + t
        >>> t = np.linspace(0, 1, 8)
        >>> across, above = barrier(f, t, f(t))
        >>> round(across.height, 9), round(across.t, 5)
        (1.0, 0.5)
    """
    start, end = losses[0], losses[-1]
    across = peak(lambda x: loss(x) - ((1 - x) * start + x * end), t, losses - ((1 - t) * start + t * end))
    higher = max(start, end) if math.isfinite(start + end) else math.nan
    above = peak(lambda x: loss(x) - higher, t, losses - higher)
    return across, above


def peak(function: Callable[[float], float], t: Array, values: Array) -> Peak:
    """The largest value of a function, of which values on a grid are known.

    Every place of the grid that is not below its neighbours may have the largest value beside it. The three highest
    are searched by Brent's method between their neighbours, of those that reach the largest value on the grid when what
    lies between them and the lower neighbour is added. A hump that no point of the grid shows is not seen.

    Args:
        function: of t.
        t: (T,) ascending.
        values: (T,) of the function.
    """
    if np.isnan(values).any():
        return Peak(math.nan, math.nan, math.nan)
    top = int(values.argmax())
    if math.isinf(values[top]):
        return Peak(float(t[top]), float(values[top]), math.nan)
    best = Peak(float(t[top]), float(values[top]), 0.0)
    for i in _places(values):
        low, high = t[max(i - 1, 0)], t[min(i + 1, len(t) - 1)]
        if i in (0, len(t) - 1) and function(t[i] + NEAR * (low + high - 2 * t[i])) <= values[i]:
            continue  # an end, from which it falls
        found = minimize_scalar(lambda x: -function(float(x)), bounds=(low, high), method="bounded",
                                options={"xatol": XATOL})  # fmt: skip
        if math.isnan(found.fun) or -found.fun > best.height:
            best = Peak(float(found.x), float(-found.fun), float(-found.fun) - float(values[top]))
    return best


def _places(values: Array) -> list[int]:
    """Indices of the grid beside which the largest value may lie, the most promising first."""
    before, after = np.r_[-np.inf, values[:-1]], np.r_[values[1:], -np.inf]
    local = np.flatnonzero((values >= before) & (values >= after))
    # A parabola through three points of the grid rises above the middle one, if that is the highest, by at most an
    # eighth of its larger drop to the others; all of it leaves room for humps that are as narrow as the grid.
    steepest = np.maximum(*(np.where(np.isinf(x), 0.0, np.abs(values - x)) for x in (before, after)))
    reach = values + steepest
    likely = [int(i) for i in local if reach[i] >= values.max()]
    return sorted(likely, key=lambda i: -reach[i])[:MOST]
