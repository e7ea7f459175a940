"""What a function of one variable may do between the points where it is known: where a maximum could hide."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Gaps"]

APART = 0.25
"""Points of one stencil are at least this part of the interval apart: rounding is not blown up by division."""

FINEST = 2e-3
"""No interval shorter than this part of the distance looked at is divided on suspicion."""

CLOSER = 0.5
"""By how much gaps are shortened where the function does not rise throughout."""

WAVY = 0.02
"""Part of the rise below which an interval that does not rise throughout does not count."""


class Gaps:
    """Intervals between the points of a scan, and how high the function could be inside each.

    Up to three cubics are drawn through an interval, through its ends and two neighbouring points each, from one side
    to the other. Its doubt is the cubic term times the length of the four points: in a smooth place several times the
    error of the cubic, and as large as the waves where these are not resolved. An interval is harmless if all cubics
    rise, or all fall, throughout by more than the doubt; or if all stay below the level by more than the doubt.
    Where an interval does neither rise nor fall throughout, the function is wavy, and all gaps are halved.

    Args:
        gap: longest interval allowed, as a part of the distance looked at.

    Example:
        >>> import numpy as np
        >>> s = [0.0, 0.2, 0.4, 0.6, 0.8]
        >>> Gaps(0.3).doubtful(s, [x * x for x in s], 0.8, 0.7, 1e-9)
        []
        >>> s = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> [round(float(x), 3) for x in Gaps(0.5).doubtful(s, [np.sin(3 * x) for x in s], 1.0, 1.0, 1e-9)]
        [0.524]
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._known: dict[tuple[float, ...], tuple[float, float]] = {}

    def doubtful(self, s: Sequence[float], r: Sequence[float], end: float, rise: float, tol: float) -> list[float]:
        """Points to look at before it can be said that the function stays below `rise` as far as `end`.

        Args:
            s: ascending, from the floor (0) on.
            r: the function there.
            end: the distance looked at; what lies beyond the first point that is not below it does not count.
            rise: the level.
            tol: relative distance that does not matter.
        """
        ends = [i for i in range(1, len(s)) if s[i - 1] < end * (1 - 4 * tol)]
        levels = {i: self._level(s, r, i) for i in ends}
        wavy = any(level > WAVY * rise for i, (level, _) in levels.items() if i > 1)
        gap = self._gap * end * (CLOSER if wavy else 1.0)
        finest, found = max(FINEST, 8 * tol) * end, []
        for i, (level, place) in levels.items():
            low, width = s[i - 1], s[i] - s[i - 1]
            if width > gap * (1 + 1e-9):
                n = math.ceil(width / gap - 1e-9)
                found += [low + width * k / n for k in range(1, n)]
            elif width > finest and not level <= rise:
                found.append(place)
        return found

    def unsettled(self, s: Sequence[float], r: Sequence[float]) -> list[float]:
        """Points to look at before it can be said that the function rises throughout from a minimum at s[0] to s[-1].

        Args:
            s: ascending, from 0 on.
            r: the function there, ascending.
        """
        gap, found = self._gap * s[-1], []
        for i in range(1, len(s)):
            low, width = s[i - 1], s[i] - s[i - 1]
            n = math.ceil(width / gap - 1e-9)
            if n == 1 and i > 1 and width > FINEST * s[-1] and self._level(s, r, i)[0] > -math.inf:
                n = 2
            found += [low + width * k / n for k in range(1, n)]
        return found

    def _level(self, s: Sequence[float], r: Sequence[float], i: int) -> tuple[float, float]:
        """The level above which interval i is harmless, and the place where it may be highest."""
        near = _stencil(s, r, i)
        key = (s[i], *(s[k] for k in near))
        at = near.index(i)
        if key not in self._known:
            sets = [near[k : k + 4] for k in range(at - 3, at) if k >= 0 and k + 4 <= len(near)]
            self._known[key] = _highest([[(s[k], r[k]) for k in four] for four in sets], s[i - 1], s[i], r[i - 1], r[i])
        return self._known[key]


def _stencil(s: Sequence[float], r: Sequence[float], i: int) -> list[int]:
    """The ends of interval i and up to two neighbours on either side, not too close and finite."""
    apart = APART * (s[i] - s[i - 1])
    left, right = [i - 1], [i]
    for side, order in ((left, range(i - 2, -1, -1)), (right, range(i + 1, len(s)))):
        for k in order:
            if len(side) == 3 or not math.isfinite(r[k]):
                break
            if abs(s[k] - s[side[-1]]) >= apart:
                side.append(k)
    return left[::-1] + right


def _highest(
    sets: Sequence[Sequence[tuple[float, float]]], low: float, high: float, at_low: float, at_high: float
) -> tuple[float, float]:
    """Upper bound of the cubics between low and high, -inf if all rise or all fall throughout, and where it may be."""
    if not sets or not math.isfinite(at_low + at_high):
        return math.inf, 0.5 * (low + high)
    unit = max(abs(y) for points in sets for _, y in points) or 1.0  # squares must not overflow
    low_value, high_value = at_low / unit, at_high / unit
    rising = falling = True
    bound = best = max(low_value, high_value)
    place = 0.5
    for points in sets:
        c, d = ((x - low) / (high - low) for x, _ in points if x not in (low, high))
        yc, yd = (y / unit - low_value for x, y in points if x not in (low, high))
        first = high_value - low_value
        second = (yc - first * c) / (c * (c - 1))
        third = ((yd - first * d) / (d * (d - 1)) - second) / (d - c)
        doubt = abs(third) * (max(c, d, 1.0) - min(c, d, 0.0))
        a, b = 3 * third, second - (1 + c) * third  # slope: a z^2 + 2 b z + first - second + c third
        slope = [a * z * z + 2 * b * z + first - second + c * third for z in _ends(a, b)]
        rising &= min(slope) > doubt
        falling &= max(slope) < -doubt
        for z in _roots(a, b, first - second + c * third):
            y = low_value + z * (first + (z - 1) * (second + (z - c) * third))
            if y > best:
                best, place = y, min(max(z, 0.1), 0.9)
        bound = max(bound, best + doubt)
    return -math.inf if rising or falling else bound * unit, low + place * (high - low)


def _ends(a: float, b: float) -> list[float]:
    """The ends of [0, 1], and the vertex of a z^2 + 2 b z if it lies between."""
    return [0.0, 1.0, -b / a] if a and 0 < -b / a < 1 else [0.0, 1.0]


def _roots(a: float, b: float, c: float) -> list[float]:
    """The roots of a z^2 + 2 b z + c in (0, 1)."""
    square = b * b - a * c
    if square < 0:
        return []
    q = -(b + math.copysign(math.sqrt(square), b))
    return [z for z in (q / a if a else math.nan, c / q if q else math.nan) if 0 < z < 1]
