"""Bezier curves between two parameter vectors; with no bend it is the straight line."""

from __future__ import annotations

from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Bezier", "bernstein"]

_LENGTH_NODES = 64
"""Of the quadrature of the length."""


def bernstein(t: NDArray[np.float64], bends: int) -> NDArray[np.float64]:
    """Weights of the ends and bends at each t, (T, bends + 2); every row sums to 1.

    Example:
        >>> bernstein(np.array([0.0, 0.5, 1.0]), 1).tolist()
        [[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]]
    """
    n = bends + 1
    return np.stack([comb(n, k) * t**k * (1 - t) ** (n - k) for k in range(n + 1)], axis=1)


class Bezier:
    r"""phi(t) = sum_k C(n, k) t^k (1 - t)^(n - k) c_k, t in [0, 1], with c_0 = a, c_n = b and n - 1 bends between.

    Args:
        a: start, (P,).
        b: end, (P,).
        bends: (n - 1, P); none of them make the straight line.

    Attributes:
        moves: (n, P), the bends and b as seen from a: c_k - a.

    Source:
        Garipov and others, Loss surfaces, mode connectivity, and fast ensembling of DNNs (arXiv 1802.10026), section
        3.2 with one bend.

    Example:
        >>> arch = Bezier(torch.zeros(2), torch.tensor([2.0, 0.0]), torch.tensor([[1.0, 1.0]]))
        >>> arch.at(0.5).tolist(), round(arch.length, 4)
        ([1.0, 0.5], 2.2956)
    """

    def __init__(self, a: Tensor, b: Tensor, bends: Tensor) -> None:
        self.a = a
        self.moves = torch.cat([bends - a, (b - a)[None]])

    @classmethod
    def line(cls, a: Tensor, b: Tensor) -> Bezier:
        """The straight line."""
        return cls(a, b, a.new_zeros(0, len(a)))

    @property
    def bends(self) -> int:
        """How many."""
        return len(self.moves) - 1

    def coordinates(self, t: NDArray[np.float64]) -> Tensor:
        """(T, n): phi(t) = a + coordinates @ moves."""
        return torch.from_numpy(bernstein(np.asarray(t, dtype=np.float64), self.bends)[:, 1:].copy())

    def at(self, t: float) -> Tensor:
        """The point phi(t), (P,)."""
        c = self.coordinates(np.array([t])).to(self.a)[0]
        point = self.a
        for weight, move in zip(c, self.moves, strict=True):
            point = point + weight * move
        return point

    @property
    def length(self) -> float:
        """The integral of |phi'(t)|, in parameter units, by Gauss-Legendre quadrature."""
        legs = torch.diff(self.moves, dim=0, prepend=torch.zeros_like(self.moves[:1])).double()
        gram = (legs @ legs.T).cpu().numpy()
        x, q = np.polynomial.legendre.leggauss(_LENGTH_NODES)
        weights = (self.bends + 1) * bernstein((x + 1) / 2, self.bends - 1)
        speed = np.sqrt(np.maximum(np.einsum("ti,ij,tj->t", weights, gram, weights), 0.0))
        return float(q @ speed / 2)
