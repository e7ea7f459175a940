"""A curve between two points along which the mean loss is small: bends of a Bezier curve, trained on all samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.connections.bezier import Bezier, bernstein
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.plane import losses_along
from landscape.loss.points import kernel_gradient
from landscape.probes.linalg.search.minimum import minimise

__all__ = ["CurveSettings", "Fitted", "fit"]

OFFSET = 0.01
"""Distance of the first bends from the line, as a part of its length: on the line itself symmetry may hold them."""
FIRST = 0.1
"""Length of the first step tried, likewise."""


@dataclass(frozen=True, kw_only=True)
class CurveSettings:
    """How a curve is trained.

    Attributes:
        bends: points between the ends that are trained.
        nodes: of the Gauss-Legendre quadrature of the mean loss over t; None is 6 (bends + 1).
        tol: training ends where the norm of the gradient times |b - a| is at most `tol` of the spread of the loss along
            the first curve, from its lowest to its highest node.
        iterations: most steps of it.

    Raises:
        LandscapeError: for values that make no curve.
    """

    bends: int = 1
    nodes: int | None = None
    tol: float = 1e-3
    iterations: int = 100

    def __post_init__(self) -> None:
        if self.bends < 1 or self.iterations < 0 or (self.nodes is not None and self.nodes < 2) or not self.tol >= 0:
            raise LandscapeError(
                "expected a curve with bends >= 1, nodes >= 2, iterations >= 0 and tol >= 0, found "
                f"bends = {self.bends}, nodes = {self.nodes}, iterations = {self.iterations}, tol = {self.tol}."
            )

    @property
    def quadrature(self) -> tuple[Any, Any]:
        """Nodes t and weights, of the mean over [0, 1]."""
        x, q = np.polynomial.legendre.leggauss(self.nodes or 6 * (self.bends + 1))
        return (x + 1) / 2, q / 2


@dataclass(frozen=True)
class Fitted:
    """A trained curve.

    Attributes:
        bends: (n, P).
        start: mean loss of the curve that training began with, by the quadrature.
        mean: of the trained one.
        gradient_norm: of the mean loss in all bends; NaN where it could not be told.
        iterations: steps of the training.
        evaluations: values of the mean loss.
        converged: the tolerance was reached, or the mean loss cannot be seen to fall further.
        reason: why training ended: "gradient", "rounding", "iterations", "no descent", "not finite" or "no distance".
    """

    bends: Tensor
    start: float
    mean: float
    gradient_norm: float
    iterations: int
    evaluations: int
    converged: bool
    reason: str


def fit(
    objective: Objective,
    a: Tensor,
    b: Tensor,
    settings: CurveSettings,
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Fitted:
    r"""Bends c_k that minimise the mean of L(phi(t)) over t in [0, 1], by L-BFGS on all samples.

    The mean is a Gauss-Legendre quadrature with fixed nodes, so nothing is random but the start: bends evenly on the
    line, moved by a hundredth of its length in a direction drawn from `seed`. The gradient in c_k is the mean of
    B_k(t) g(phi(t)) with the weights B_k of the curve. L-BFGS holds 26 vectors a bend.

    Args:
        objective: the loss.
        a: start, (P,).
        b: end, (P,).
        settings: of the training.
        seed: of the start.
        progress: called with the number of steps made.

    Returns:
        The curve, whether or not training converged: `Fitted.converged`.

    Source:
        Garipov and others, arXiv 1802.10026, equation (2), there by stochastic gradients.

    Example:
        >>> module = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(module, lambda y, t: (y[:, 0] ** 2 - 1) ** 2, (torch.eye(2), torch.zeros(2)))
        >>> found = fit(objective, torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 1.0]), CurveSettings(), seed=0)
        >>> found.mean < found.start, found.bends.shape
        (True, torch.Size([1, 2]))
    """
    a, b = objective.vector(a), objective.vector(b)
    distance = float((b - a).norm())
    bends = _evenly(a, b, settings.bends)
    if distance == 0:  # a loop would be a curve, too, but none between two points
        loss = float(objective.loss(a))
        return Fitted(bends, loss, loss, 0.0, 0, 0, True, "no distance")
    bends = bends + _offset(bends, seed) * (OFFSET * distance)
    t, q = settings.quadrature
    weights = bernstein(t, settings.bends)[:, 1:-1]

    def losses(x: Tensor) -> Any:
        path = Bezier(a, b, x.view_as(bends))
        return losses_along(objective, a, path.moves, path.coordinates(t)).double().cpu().numpy()

    def gradient(x: Tensor) -> Tensor:
        path, total = Bezier(a, b, x.view_as(bends)), torch.zeros_like(bends)
        for at, part, row in zip(t, q, weights, strict=True):
            point = path.at(at)
            # By the kernel where it knows the loss: several times as fast as autograd.
            slope = kernel_gradient(objective.chunks, point)
            slope = objective.grad(point) if slope is None else slope
            for k, weight in enumerate(row):
                total[k] += float(part * weight) * slope
        return total.flatten()

    first = losses(bends.flatten())
    spread = float(first.max() - first.min())
    found = minimise(
        lambda x: float(q @ losses(x)), gradient, bends.flatten(), first=FIRST * distance, progress=progress,
        tol=settings.tol * spread / distance if math.isfinite(spread) else 0.0, iterations=settings.iterations,
    )  # fmt: skip
    return Fitted(
        found.x.view_as(bends), float(q @ first), found.value, found.gradient_norm, found.iterations,
        found.evaluations + 1, found.converged, found.reason,
    )  # fmt: skip


def _evenly(a: Tensor, b: Tensor, bends: int) -> Tensor:
    """Points on the line, (n, P), which make it a Bezier curve of constant speed."""
    return torch.stack([a + (k / (bends + 1)) * (b - a) for k in range(1, bends + 1)])


def _offset(bends: Tensor, seed: int) -> Tensor:
    """A direction of length 1 for all bends together."""
    generator = torch.Generator().manual_seed(seed)
    drawn: Tensor = torch.randn(bends.shape, generator=generator, dtype=torch.float64).to(bends)
    found: Tensor = drawn / drawn.norm()
    return found
