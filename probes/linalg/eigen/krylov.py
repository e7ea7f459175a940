"""The Lanczos recurrence with full re-orthogonalisation: the engine below `lanczos` and `quadrature`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError

__all__ = ["Counted", "Krylov", "Locked", "gaussian", "tridiagonal"]

Vector = NDArray[np.float64]

BREAKDOWN = 10.0
"""A new direction shorter than this many roundings of |A| is rounding, not information."""


class Counted:
    """Products A q, checked, counted, and in units of a power of two that makes them of order one.

    The unit keeps float32 squares from underflowing, so an operator times 1e-8 behaves exactly like the operator.

    Attributes:
        unit: A = unit * (what `__call__` applies); 0 while only zeros were seen.
        norm: largest |A q| / unit seen for unit q: a lower bound of the spectral norm.
        n_products: products so far.

    Raises:
        LandscapeError: if a product is not finite.
    """

    def __init__(self, op: Symmetric) -> None:
        self.op = op
        self.size, self.dtype, self.device = op.size, op.dtype, op.device
        self.eps = float(torch.finfo(op.dtype).eps)
        self.unit = 0.0
        self.norm = 0.0
        self.n_products = 0

    def __call__(self, q: Tensor) -> Tensor:
        """A q / unit for a unit vector q (P,)."""
        w = self.op.mv(q).detach()
        self.n_products += 1
        peak = float(w.abs().max())
        if not math.isfinite(peak):
            raise LandscapeError(
                f"expected finite products A v, found NaN or infinity in product {self.n_products} of an operator of "
                f"size {self.size}. Check that the loss and its derivatives are finite at this point."
            )
        if self.unit == 0.0 and peak > 0.0:
            self.unit = 2.0 ** math.frexp(peak)[1]
        w = w / self.unit if self.unit else w
        self.norm = max(self.norm, float(w.norm()))
        return w


def gaussian(size: int, generator: torch.Generator, like: Counted) -> Tensor:
    """A standard normal vector (P,), drawn on the CPU so that every device sees the same one."""
    draw = torch.randn(size, dtype=torch.float64, generator=generator)
    return draw.to(dtype=like.dtype, device=like.device)


class Locked(NamedTuple):
    """Vectors set aside, rows of `basis` (l, P), with A w_i = theta_i w_i + c_i, c_i orthogonal to all of them.

    `theta` (l,) and `error` (l,) = |c_i| live on the host, in units of the operator; `image` (l, P) holds the A w_i, or
    None where they are not kept.
    """

    basis: Tensor
    theta: Vector
    error: Vector
    image: Tensor | None = None


class Krylov:
    r"""Lanczos on B = (I - W'W) A (I - W'W), W the locked rows (l, P); B = A when nothing is locked.

    A r_j = beta_{j-1} r_{j-1} + alpha_j r_j + beta_j r_{j+1} + W' h_j. Every new vector is made orthogonal to W and to
    all earlier r twice (Parlett, The Symmetric Eigenvalue Problem, 1998, section 6.9: "twice is enough").

    Args:
        op: the products.
        start: r_1 before it is made orthogonal to W and of unit length.
        locked: the vectors set aside.
        keep: number of steps up to which the products A r_j are kept beside the r_j; beyond it they are dropped.

    Attributes:
        alpha, beta: the coefficients so far, one each per step; the last beta couples to the vector not yet used.
        coupling: h_j (l,) of each step.
        ended: no new direction exists: the space is invariant, or all P dimensions are used.
    """

    def __init__(self, op: Counted, start: Tensor, locked: Locked | None = None, *, keep: int = 0) -> None:
        self.op = op
        self.keep = keep if locked is None or locked.image is not None else 0
        self._image = torch.empty((min(16, self.keep), op.size), dtype=op.dtype, device=op.device)
        self.locked = locked
        self.n_locked = 0 if locked is None else locked.basis.shape[0]
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.coupling: list[Vector] = []
        self.n_basis = self.n_locked
        self._rows = torch.empty((self.n_locked + 16, op.size), dtype=op.dtype, device=op.device)
        if locked is not None:
            self._rows[: self.n_locked] = locked.basis
        self.ended = self.n_locked >= op.size
        if not self.ended:
            self._start(start)

    def _start(self, start: Tensor) -> None:
        length = float(start.norm())
        r = start / length if length > 0 else start
        for _ in range(3):
            r = self._orthogonal(r)[0]
            length = float(r.norm())
            # What is left of a start inside the locked space is rounding: that run has nothing to find.
            if length <= math.sqrt(self.op.eps) / 8:
                self.ended = True
                return
            r = r / length
        self._append(r)

    @property
    def basis(self) -> Tensor:
        """Rows (l + steps, P), orthonormal: the locked ones, then those of the recurrence already multiplied."""
        return self._rows[: self.n_locked + len(self.alpha)]

    @property
    def newest(self) -> Tensor:
        """The vector (P,) that the next step multiplies."""
        return self._rows[self.n_locked + len(self.alpha)]

    def image(self, weights: Tensor) -> Tensor | None:
        """A times combinations (m, l + steps) of the rows of `basis`, from the products made; None if not kept."""
        steps = len(self.alpha)
        if steps > self.keep or self.keep == 0:
            return None
        total = weights[:, self.n_locked :] @ self._image[:steps]
        if self.locked is not None and self.locked.image is not None:
            total = total + weights[:, : self.n_locked] @ self.locked.image
        return total

    @property
    def complete(self) -> bool:
        """Whether the rows of `basis` span the whole space."""
        return self.n_locked + len(self.alpha) >= self.op.size

    def _keep(self, product: Tensor) -> None:
        n = len(self.alpha)
        if n >= self.keep:
            self.keep, self._image = 0, self._image[:0]
            return
        if n == self._image.shape[0]:
            self._image = _longer(self._image)
        self._image[n] = product

    def _append(self, r: Tensor) -> None:
        if self.n_basis == self._rows.shape[0]:
            self._rows = _longer(self._rows)
        self._rows[self.n_basis] = r
        self.n_basis += 1

    def _orthogonal(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """W minus its part in the basis, and the coefficients of that part."""
        rows = self._rows[: self.n_basis]
        part = rows @ w
        return w - rows.T @ part, part

    def step(self) -> None:
        """Multiply the newest vector and append the next one, or set `ended`."""
        w = self.op(self.newest)
        self._keep(w)
        before = float(w.norm())
        w, part = self._orthogonal(w)
        w, again = self._orthogonal(w)
        h = (part + again).cpu().double().numpy()
        self.coupling.append(h[: self.n_locked])
        self.alpha.append(float(h[self.n_locked + len(self.alpha)]))
        beta = float(w.norm())
        if self.complete or beta <= BREAKDOWN * self.op.eps * self.op.norm:
            self.beta.append(0.0)
            self.ended = True
            return
        self.beta.append(beta)
        w = w / beta
        if beta < math.sqrt(self.op.eps) * before:  # so much cancelled that two passes left rounding behind
            w = self._orthogonal(w)[0]
            w = w / w.norm()
        self._append(w)


def _longer(rows: Tensor) -> Tensor:
    """The same rows in a matrix with room for as many again."""
    grown = torch.empty((2 * rows.shape[0], rows.shape[1]), dtype=rows.dtype, device=rows.device)
    grown[: rows.shape[0]] = rows
    return grown


def tridiagonal(alpha: list[float], beta: list[float]) -> tuple[Vector, Vector]:
    """Eigenvalues (m,) ascending and vectors (m, m) of the Jacobi matrix; `beta` may carry one entry too many."""
    theta, vectors = eigh_tridiagonal(np.asarray(alpha), np.asarray(beta[: len(alpha) - 1]))
    return np.asarray(theta, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
