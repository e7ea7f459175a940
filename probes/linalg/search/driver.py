"""Searches along many lines at once: each asks for values and slopes, one driver collects and answers them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError

__all__ = ["Ask", "Kind", "Line", "Search", "drive", "inverse_quadratic", "sign_change", "solve"]

Array = NDArray[np.float64]
Kind = Literal["value", "slope"]
EPS = float(np.finfo(np.float64).eps)
T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """What a search wants to know next: values or slopes of its line at the points t; the answer is an array (n,)."""

    kind: Kind
    t: tuple[float, ...]


Search: TypeAlias = Generator[Ask, Array, T]
"""A search along one line, written as if it were alone: it yields an `Ask`, gets the numbers, and returns a result."""


class Line(Protocol):
    """A function f of one variable t, such as L(w + t u), with its derivative."""

    def values(self, ts: Sequence[float] | Array) -> Array:
        """F at many points (B,) -> (B,)."""

    def slope(self, t: float) -> float:
        """f'(t)."""


def drive(
    searches: Sequence[Search[T]], evaluate: Callable[[Kind, NDArray[np.int64], Array], Array], *, batch: int = 256
) -> list[T]:
    """Run searches side by side; what all of them ask for is evaluated together.

    A search sees only its own numbers, so its result does not depend on which others run, as far as `evaluate` gives
    the same numbers in any batch; where it rounds otherwise in another batch, results agree to their tolerance.

    Args:
        searches: one generator per line.
        evaluate: ``(kind, index (B,), t (B,)) -> (B,)``; values or slopes of line ``index[i]`` at ``t[i]``.
        batch: largest B.

    Returns:
        What the searches return, in their order.

    Raises:
        LandscapeError: for a batch below 1, or an answer of another shape.

    Example:
        >>> def lowest(points):
        ...     values = yield Ask("value", points)
        ...     return points[int(values.argmin())]
        >>> drive([lowest((0.0, 1.0)), lowest((2.0, 3.0, 4.0))], lambda kind, i, t: (t - 2.5 * i - 1.0) ** 2)
        [1.0, 3.0]
    """
    if batch < 1:
        raise LandscapeError(f"expected batch >= 1, found {batch}.")
    results: dict[int, T] = {}
    asked: dict[int, Ask] = {}

    def advance(i: int, answer: Array | None) -> None:
        try:
            asked[i] = searches[i].send(answer) if answer is not None else next(searches[i])
        except StopIteration as stop:
            results[i] = stop.value

    for i in range(len(searches)):
        advance(i, None)
    kinds: tuple[Kind, ...] = ("slope", "value")
    while asked:
        for kind in kinds:
            waiting = {i: asked.pop(i).t for i in sorted(asked) if asked[i].kind == kind}
            if not waiting:
                continue
            index = np.repeat(np.array(list(waiting), dtype=np.int64), [len(t) for t in waiting.values()])
            points = np.concatenate([np.array(t, dtype=np.float64) for t in waiting.values()])
            parts = [slice(k, k + batch) for k in range(0, len(index), batch)]
            answer = np.concatenate([_checked(evaluate(kind, index[p], points[p]), len(index[p])) for p in parts])
            ends = np.cumsum([len(t) for t in waiting.values()])[:-1]
            for i, part in zip(waiting, np.split(answer, ends), strict=True):
                advance(i, part)
    return [results[i] for i in range(len(searches))]


def _checked(answer: Array, n: int) -> Array:
    answer = np.asarray(answer, dtype=np.float64)
    if answer.shape != (n,):
        raise LandscapeError(f"expected {n} numbers from `evaluate`, found an array {answer.shape}.")
    return answer


def solve(search: Search[T], line: Line) -> T:
    """The result of one search along one line.

    Example:
        >>> class Parabola:
        ...     def values(self, ts): return np.asarray(ts) ** 2
        ...     def slope(self, t): return 2.0 * t
        >>> def at(t):
        ...     slope = yield Ask("slope", (t,))
        ...     return float(slope[0])
        >>> solve(at(3.0), Parabola())
        6.0
    """

    def evaluate(kind: Kind, _: NDArray[np.int64], t: Array) -> Array:
        return line.values(t) if kind == "value" else np.array([line.slope(float(x)) for x in t])

    return drive([search], evaluate)[0]


def sign_change(a: float, fa: float, b: float, fb: float, *, tol: float) -> Generator[float, float, float]:
    """A root of a function between a and b, where it has opposite signs; yields points, is sent the function there.

    Secant first, then inverse quadratic interpolation where the last points say that it is safe, else bisection.

    Args:
        a: one end.
        fa: the function there.
        b: the other end.
        fb: the function there.
        tol: error of the root, absolute.

    Returns:
        The root; NaN as soon as the function is not finite.

    Source:
        Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without
        using derivatives, Advances in Engineering Software 28 (1997).

    Example:
        >>> search = sign_change(0.0, -2.0, 2.0, 2.0, tol=1e-12)
        >>> x = next(search)
        >>> try:
        ...     while True:
        ...         x = search.send(x * x - 2.0)
        ... except StopIteration as stop:
        ...     round(stop.value, 12)
        1.414213562373
    """
    x1, f1, x2, f2 = b, fb, a, fa
    share = f1 / (f1 - f2) if math.isfinite(f1 - f2) and f1 != f2 else 0.5
    while True:
        best, at_best = (x1, f1) if abs(f1) < abs(f2) else (x2, f2)
        closest = (0.5 * tol + 2 * EPS * abs(best)) / abs(x2 - x1) if x1 != x2 else math.inf
        if closest >= 0.5 or at_best == 0.0:
            return best
        x = x1 + min(max(share, closest), 1 - closest) * (x2 - x1)
        f = yield x
        if not math.isfinite(f):
            return math.nan
        if (f > 0) == (f1 > 0):
            x3, f3 = x1, f1
        else:
            x3, f3, x2, f2 = x2, f2, x1, f1
        x1, f1 = x, f
        share = _interpolated(x1, f1, x2, f2, x3, f3)


def _interpolated(x1: float, f1: float, x2: float, f2: float, x3: float, f3: float) -> float:
    """Where between x1 (0) and x2 (1) the root is by inverse quadratic interpolation; 0.5 where that is not safe."""
    x = inverse_quadratic([(x1, f1), (x2, f2), (x3, f3)])
    if math.isnan(x):
        return 0.5
    xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
    return (x - x1) / (x2 - x1) if phi * phi < xi and (1 - phi) ** 2 < 1 - xi else 0.5


def inverse_quadratic(points: Sequence[tuple[float, float]]) -> float:
    """The x at y = 0 of the parabola x(y) through three points (x, y); NaN if two have the same y, or one is infinite.

    Example:
        >>> round(inverse_quadratic([(1.0, 1.0), (2.0, 4.0), (3.0, 9.0)]), 12)
        0.6
    """
    (a, ya), (b, yb), (c, yc) = points
    if len({ya, yb, yc}) < 3 or not all(map(math.isfinite, (ya, yb, yc))):
        return math.nan
    # Differences from the middle value keep the sum free of cancellation where a, b and c agree in most digits.
    x: float = b
    x += (a - b) * (yb / (ya - yb)) * (yc / (ya - yc))
    x += (c - b) * (ya / (yc - ya)) * (yb / (yc - yb))
    return x
