"""Hessian products by differences of gradients, for losses that torch can differentiate only once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from landscape.errors import LandscapeError

__all__ = ["DifferenceProduct"]

STEPS = tuple(10.0**-k for k in range(1, 10))
"""Relative to |w| (1 if w is 0); the best is found by trying."""


class DifferenceProduct:
    r"""v -> |v| [g(w + h v/|v|) - g(w - h v/|v|)] / 2h: the Hessian product to an error that is measured, not exact.

    The first product chooses h, the one of the smallest error: the change from h to h/2, times 4 because a small change
    can be luck, and the rounding of the gradients and of w + h u, which a change alone does not show. The error is
    measured again at the products number 2, 4, 8, 16, ..., and the largest seen is kept. Two gradients a product.

    Args:
        gradient: g, a function (P,) -> (P,).
        w: where, (P,).

    Attributes:
        error: largest error of a product with a unit vector, as far as measured.
        step: h.

    Raises:
        LandscapeError: if no step leads to finite gradients.

    Example:
        >>> import torch
        >>> H = DifferenceProduct(lambda w: 4 * w**3, torch.tensor([1.0, 2.0], dtype=torch.float64))
        >>> H.mv(torch.tensor([1.0, 0.0], dtype=torch.float64)).round(decimals=6).tolist(), H.error < 1e-5
        ([12.0, 0.0], True)
    """

    def __init__(self, gradient: Callable[[Tensor], Tensor], w: Tensor) -> None:
        self._gradient, self._w = gradient, w
        self._unit, self._slope = float(w.norm()) or 1.0, float(gradient(w).norm())
        self._eps = torch.finfo(w.dtype).eps
        self._count = 0
        self.error, self.step = 0.0, 0.0

    def mv(self, v: Tensor) -> Tensor:
        """The product with v (P,)."""
        norm = float(v.norm())
        if norm == 0:
            return torch.zeros_like(v)
        u = v / norm
        if not self.step:
            self._choose(u)
        fine = self._difference(u, self.step / 2)
        self._count += 1
        if self._count & (self._count - 1) == 0:
            self.error = max(self.error, self._error(u, self.step, fine))
        return norm * fine

    def _difference(self, u: Tensor, h: float) -> Tensor:
        return (self._gradient(self._w + h * u) - self._gradient(self._w - h * u)) / (2 * h)

    def _error(self, u: Tensor, h: float, fine: Tensor) -> float:
        change = float((self._difference(u, h) - fine).norm())
        rounding = self._eps / h * (self._slope + self._unit * float(fine.norm()))
        return 4 * change + 4 * rounding

    def _choose(self, u: Tensor) -> None:
        found = {}
        for relative in STEPS:
            if relative < self._eps**0.6:
                break
            h = relative * self._unit
            error = self._error(u, h, self._difference(u, h / 2))
            if math.isfinite(error):  # a step may lead to where the loss is not finite
                found[h] = error
        if not found:
            raise LandscapeError(f"no step of {STEPS[0]:g} |w| or less leads to finite gradients on both sides.")
        self.step = min(found, key=lambda h: found[h])
