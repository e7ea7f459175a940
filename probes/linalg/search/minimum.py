"""A minimum of a function of many variables by L-BFGS; values that are not finite are steps too far."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Minimum", "minimise"]

ARMIJO, WOLFE = 1e-4, 0.9
"""Part of the predicted fall that a step must make, and part of the slope that it may leave."""
TRIES = 40
"""Steps tried along one direction."""
ROUNDINGS = 8
"""Of a value: a fall that is predicted to be smaller cannot be seen."""


@dataclass(frozen=True)
class Minimum:
    """Where a descent ended.

    Attributes:
        x: (P,).
        value: f(x).
        gradient_norm: |f'(x)|; NaN if it could not be told.
        iterations: steps made.
        evaluations: values computed.
        converged: the gradient is below the tolerance, or f cannot be seen to fall further.
        reason: why it ended: "gradient", "rounding", "iterations", "no descent" or "not finite".
    """

    x: Tensor
    value: float
    gradient_norm: float
    iterations: int
    evaluations: int
    converged: bool
    reason: str


def minimise(
    value: Callable[[Tensor], float],
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    first: float,
    tol: float,
    iterations: int,
    memory: int = 10,
    progress: Callable[[int], None] | None = None,
) -> Minimum:
    """Descend from x by L-BFGS with a weak Wolfe line search, deterministic, in float64 or the dtype of x.

    A value that is NaN or infinite is a step too far. `gradient` is asked only where the value is finite. At most
    2 `memory` + 6 vectors are held.

    Args:
        value: x -> f(x).
        gradient: x -> f'(x), (P,).
        x: start, (P,).
        first: length of the first step tried.
        tol: of the norm of the gradient.
        iterations: most steps.
        memory: pairs of steps and changes of the gradient that are kept.
        progress: called with the number of steps made.

    Source:
        Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4; the line search by bisection is that of Lewis
        and Overton, Nonsmooth optimization via quasi-Newton methods (2013).

    Example:
        >>> bowl, slope = lambda x: float((x - 1) @ (x - 1)), lambda x: 2 * (x - 1)
        >>> found = minimise(bowl, slope, torch.zeros(3).double(), first=0.1, tol=1e-9, iterations=50)
        >>> found.converged, found.reason, found.x.round(decimals=9).tolist()
        (True, 'gradient', [1.0, 1.0, 1.0])
    """
    f, evaluations, done = value(x), 1, 0
    if not math.isfinite(f):
        return Minimum(x, f, math.nan, 0, 1, False, "not finite")
    g, pairs = gradient(x), deque[tuple[Tensor, Tensor, float]](maxlen=memory)
    epsilon = torch.finfo(x.dtype).eps
    while True:
        norm = float(g.norm())
        if norm <= tol:
            return Minimum(x, f, norm, done, evaluations, True, "gradient")
        d = _direction(g, pairs)
        slope = float(g @ d)
        if not slope < 0:  # rounding has spoilt the pairs
            pairs.clear()
            d, slope = -g, -norm * norm
        if not pairs:
            d, slope = d * (first / norm), slope * first / norm
        if -slope <= ROUNDINGS * epsilon * abs(f):
            return Minimum(x, f, norm, done, evaluations, True, "rounding")
        if done >= iterations:
            return Minimum(x, f, norm, done, evaluations, False, "iterations")
        best, tried = _step(value, gradient, x, d, f, slope)
        evaluations += tried
        if best is None:
            if not pairs:
                return Minimum(x, f, norm, done, evaluations, False, "no descent")
            pairs.clear()  # once more, along the gradient
            continue
        step, f, new = best
        s, y = step * d, new - g
        if (curvature := float(s @ y)) > epsilon * float(s.norm() * y.norm()):
            pairs.append((s, y, curvature))
        x, g, done = x + s, new, done + 1
        if progress is not None:
            progress(done)


def _direction(g: Tensor, pairs: deque[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Minus the inverse Hessian that the pairs tell, times g: the two loops."""
    d, weights = -g, []
    for s, y, curvature in reversed(pairs):
        weights.append(float(s @ d) / curvature)
        d = d - weights[-1] * y
    if pairs:
        _, y, curvature = pairs[-1]
        d = d * (curvature / float(y @ y))
    for (s, y, curvature), a in zip(pairs, reversed(weights), strict=True):
        d = d + (a - float(y @ d) / curvature) * s
    return d


def _step(
    value: Callable[[Tensor], float],
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    d: Tensor,
    f: float,
    slope: float,
) -> tuple[tuple[float, float, Tensor] | None, int]:
    """Length of the step, value and gradient after it; None if f falls nowhere; and how many values that took."""
    low, high, t = 0.0, math.inf, 1.0
    best: tuple[float, float, Tensor] | None = None
    for tried in range(1, TRIES + 1):
        found = value(x + t * d)
        if not (math.isfinite(found) and found <= f + ARMIJO * t * slope):
            high = t
        else:
            new = gradient(x + t * d)
            best = (t, found, new)
            if float(new @ d) >= WOLFE * slope:
                return best, tried
            low = t
        t = 2 * low if math.isinf(high) else (low + high) / 2
        if best is not None and high - low < 1e-3 * high:
            break
    return best, tried
