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
from landscape.probes.linalg.eigen.rows import Rows

__all__ = ["Counted", "Krylov", "Locked", "gaussian", "norm", "tridiagonal"]

Vector = NDArray[np.float64]

BREAKDOWN = 10.0
"""A new direction shorter than this many roundings of |A| is rounding, not information."""

PART = 2**18
"""Numbers of a vector added up or drawn at a time: a multiple of 16, so that torch draws the same ones."""

AGAIN = 0.7
"""A vector of which a pass of orthogonalisation leaves less than this part needs another pass."""


class Counted:
    """Products A q, checked, counted, and in units of a power of two that makes them of order one.

    The unit keeps float32 squares from underflowing, so an operator times 1e-8 behaves exactly like the operator.

    Attributes:
        unit: A = unit * (what `__call__` applies); 0 while only zeros were seen.
        norm: largest |A q| / unit seen for unit q: a lower bound of the spectral norm.
        length: |A q| / unit of the newest product.
        n_products: products so far.

    Raises:
        LandscapeError: if a product is not finite.
    """

    def __init__(self, op: Symmetric) -> None:
        self.op = op
        self.size, self.dtype, self.device = op.size, op.dtype, op.device
        self.eps = float(torch.finfo(op.dtype).eps)
        self.unit = 0.0
        self.norm = self.length = 0.0
        self.n_products = 0

    @property
    def like(self) -> Tensor:
        """An empty tensor of the vectors' dtype, on their device."""
        return torch.empty(0, dtype=self.dtype, device=self.device)

    def __call__(self, q: Tensor, out: Tensor | None = None) -> Tensor:
        """A q / unit for a unit vector q (P,): a new tensor or `out`, for the caller to change."""
        w = self.op.mv(q).detach()
        self.n_products += 1
        if self.unit == 0.0:
            peak = float(torch.linalg.vector_norm(w, math.inf))
            self.unit = 2.0 ** math.frexp(peak)[1] if 0.0 < peak < math.inf else 0.0
        w = torch.div(w, self.unit or 1.0, out=out)
        self.length = norm(w)
        if not math.isfinite(self.length):
            raise LandscapeError(
                f"expected finite products A v, found NaN or infinity in product {self.n_products} of an operator of "
                f"size {self.size}. Check that the loss and its derivatives are finite at this point."
            )
        self.norm = max(self.norm, self.length)
        return w


def norm(v: Tensor) -> float:
    """Euclidean norm of a vector (P,), to rounding.

    Torch's own is off by 4e-4 for 10 million numbers in float32 on a CPU: it adds the squares up one after another.
    """
    if v.numel() <= 2**16:
        return float(v.norm())
    return math.sqrt(float(torch.stack([part.dot(part) for part in torch.split(v, PART)]).double().sum()))


def gaussian(size: int, generator: torch.Generator, like: Counted) -> Tensor:
    """A standard normal vector (P,), drawn on the CPU so that every device sees the same one."""
    out = like.like.new_empty(size)
    for part in torch.split(out, PART):
        part.copy_(torch.randn(part.numel(), dtype=torch.float64, generator=generator))
    return out


class Locked(NamedTuple):
    """What is known of the vectors set aside, the first l rows: A w_i = theta_i w_i + ahead_i r_1 + d_i.

    r_1 is the start of the recurrence, d_i is orthogonal to all w, and `error` (l,) = |d_i|. `theta` and `ahead` (l,);
    all of them live on the host, in units of the operator. `ahead` is known where r_1 is what an earlier recurrence
    left over (a thick restart: Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000), else it is 0.
    """

    theta: Vector
    error: Vector
    ahead: Vector


class Krylov:
    r"""Lanczos on B = (I - W'W) A (I - W'W), W the locked rows (l, P); B = A when nothing is locked.

    A r_j = beta_{j-1} r_{j-1} + alpha_j r_j + beta_j r_{j+1} + W' h_j. What the recurrence knows is taken off first:
    the parts along r_{j-1} and r_j, in the first step those along W. Then every new vector is made orthogonal to W and
    to all earlier r, and once more if that took much of it (Parlett, The Symmetric Eigenvalue Problem, 1998, section
    6.9: "twice is enough").

    Args:
        op: the products.
        start: r_1 before it is made orthogonal to W and of unit length.
        locked: what is known of W, which are the first rows of `rows`.
        rows: where the vectors lie; what is behind W is overwritten. Their own, which grow, if left out.

    Attributes:
        alpha, beta: the coefficients so far, one each per step; the last beta couples to the vector not yet used.
        coupling: h_j (l,) of each step.
        ended: no new direction exists: the space is invariant, or all P dimensions are used.
        forgets: a step was made without room for its vector: the coefficients go on, the vectors are gone.
    """

    def __init__(self, op: Counted, start: Tensor, locked: Locked | None = None, *, rows: Rows | None = None) -> None:
        self.op = op
        self.locked = locked
        self.n_locked = 0 if locked is None else locked.theta.size
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.coupling: list[Vector] = []
        self.rows = Rows(op.size, op.like) if rows is None else rows
        self.rows.n = self.n_locked
        self.forgets = False
        self._before = self._at = self.n_locked
        self.ended = self.n_locked >= op.size
        if not self.ended:
            self._start(start)

    def _start(self, start: Tensor) -> None:
        r = torch.div(start, norm(start) or 1.0, out=self.rows.work)
        for _ in range(3):
            self._orthogonal(r)
            length = norm(r)
            # What is left of a start inside the locked space is rounding: that run has nothing to find.
            if length <= math.sqrt(self.op.eps) / 8:
                self.ended = True
                return
            r.div_(length)
            if length > AGAIN:
                break
        self._append(r, 1.0)

    @property
    def basis(self) -> Tensor:
        """Rows (l + steps, P), orthonormal: the locked ones, then those of the recurrence already multiplied."""
        return self.rows.head(self.n_locked + len(self.alpha))

    @property
    def newest(self) -> Tensor:
        """The vector (P,) that the next step multiplies."""
        return self.rows.head(self.rows.n)[self._at]

    @property
    def complete(self) -> bool:
        """Whether the rows of `basis` span the whole space."""
        return not self.forgets and self.n_locked + len(self.alpha) >= self.op.size

    def _append(self, r: Tensor, length: float) -> None:
        # Without room, only the last two of the vectors behind those that are held go on, as the recurrence needs them.
        self.forgets = self.forgets or self.rows.full
        before = self._at
        self._at = self.rows.put(r, length, self._before if self.forgets else None)
        self._before = before

    def _orthogonal(self, w: Tensor) -> Vector:
        """Take the part in the basis off w, in place; the coefficients of that part."""
        rows = self.rows.head(self.rows.n)
        part = rows @ w
        w.addmv_(rows.T, part, alpha=-1)
        return np.asarray(part.cpu().double().numpy())

    def step(self) -> None:
        """Multiply the newest vector and append the next one, or set `ended`."""
        r = self.newest
        w = self.op(r, self.rows.work)
        product = self.op.length
        self.rows.keep(self._at, w)
        ahead = None if self.locked is None or self.beta else self.locked.ahead
        if self.beta:
            w.sub_(self.rows.head(self.rows.n)[self._before], alpha=self.beta[-1])
        elif ahead is not None and ahead.any():
            w.addmv_(self.rows.head(self.n_locked).T, torch.as_tensor(ahead).to(w), alpha=-1)
        alpha = float(r.dot(w))
        w.sub_(r, alpha=alpha)
        h = self._orthogonal(w)
        beta = norm(w)
        if np.linalg.norm(h) > beta:
            h += self._orthogonal(w)
            beta = norm(w)
        self.coupling.append(h[: self.n_locked] + (0.0 if ahead is None else ahead))
        self.alpha.append(alpha + float(h[self._at]))
        if self.complete or beta <= BREAKDOWN * self.op.eps * self.op.norm:
            self.beta.append(0.0)
            self.ended = True
            return
        self.beta.append(beta)
        if beta < math.sqrt(self.op.eps) * product:  # so much cancelled that two passes left rounding behind
            w.div_(beta)
            self._orthogonal(w)
            beta = norm(w)
        self._append(w, beta)


def tridiagonal(alpha: list[float], beta: list[float]) -> tuple[Vector, Vector]:
    """Eigenvalues (m,) ascending and vectors (m, m) of the Jacobi matrix; `beta` may carry one entry too many."""
    theta, vectors = eigh_tridiagonal(np.asarray(alpha), np.asarray(beta[: len(alpha) - 1]))
    return np.asarray(theta, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
