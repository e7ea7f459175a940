"""Spectral radius and norm of a square matrix that is known by its products, and need not be symmetric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.probes.linalg.eigen.lanczos import lanczos

__all__ = ["DENSE", "Radius", "spectral_radius"]

Product = Callable[[Tensor], Tensor]

DENSE = 64
"""Matrices up to this size are written out: ARPACK finds no more than n - 2 eigenvalues."""
_WANTED = 2
"""Eigenvalues asked for: a pair of complex ones has the same magnitude."""
_VECTORS, _RESTARTS = 40, 50
"""Of Arnoldi's method, Krylov vectors and restarts at most."""


class Radius(NamedTuple):
    """What was found.

    Attributes:
        radius: largest magnitude of an eigenvalue, from products with the matrix.
        angle: |arg| of that eigenvalue in radians: 0 for a positive one, pi for a negative one.
        residual: |A x - lambda x| of it, x of length 1.
        error: difference between the radius and the one from products with the transpose, which has the same
            eigenvalues: where these are ill-conditioned, a small residual says little and the two disagree.
        norm: largest singular value.
        converged: the residuals, also those of the transpose and the norm, are at most tol times the norm, and the
            error is at most tol times the radius.
        n_products: with A and its transpose.
    """

    radius: float
    angle: float
    residual: float
    error: float
    norm: float
    converged: bool
    n_products: int


def spectral_radius(
    product: Product, transposed: Product, n: int, *, seed: int, tol: float, dtype: torch.dtype = torch.float64
) -> Radius:
    """Largest |eigenvalue| by Arnoldi's method (ARPACK) and largest singular value by Lanczos's of a matrix A (n, n).

    Up to n = 64 the matrix is written out, and LAPACK asked.

    Args:
        product: v -> A v.
        transposed: v -> A' v.
        n: size.
        seed: of the start vectors.
        tol: accuracy below which the result is `converged`.
        dtype: of the vectors.

    Example:
        >>> import torch
        >>> A = torch.tensor([[0.0, -2.0], [0.5, 0.0]], dtype=torch.float64)  # eigenvalues +-i
        >>> found = spectral_radius(A.mv, A.T.mv, 2, seed=0, tol=1e-6)
        >>> round(found.radius, 6), round(found.angle, 6), round(found.norm, 6), found.converged
        (1.0, 1.570796, 2.0, True)
    """
    sides = [_Side(f, n, dtype) for f in (product, transposed)]
    if n <= DENSE:
        A, B = (np.stack([side.mv(e) for e in np.eye(n)], axis=1) for side in sides)
        norm, norm_residual = float(np.linalg.norm(A, 2)), float(np.linalg.norm(A - B.T, 2))
        found, other = (_leading(*np.linalg.eig(M), M) for M in (A, B))
    else:
        fine = max(1e-4 * tol, 4 * torch.finfo(dtype).eps)
        gram = Symmetric(n, dtype, lambda v: sides[1](sides[0](v)))
        pair = lanczos(gram, k=1, which="top", tol=fine, seed=seed, check_missed=False)
        norm = float(pair.values[0].clamp(min=0).sqrt())
        norm_residual = float(pair.residuals[0]) / norm if norm else 0.0
        start = np.random.default_rng([seed, 0x726164]).standard_normal(n)
        found, other = (_arnoldi(side, start, fine, norm) for side in sides)
    radius, error = abs(found[0]), abs(abs(found[0]) - abs(other[0]))
    good = max(found[1], other[1], norm_residual) <= tol * norm and error <= tol * radius
    return Radius(
        radius=float(radius),
        angle=float(abs(np.angle(found[0]))),
        residual=found[1],
        error=float(error),
        norm=norm,
        converged=bool(good),
        n_products=sum(side.n_products for side in sides),
    )


class _Side:
    """Products with a matrix, counted."""

    def __init__(self, product: Product, n: int, dtype: torch.dtype) -> None:
        self._product, self.n, self.dtype, self.n_products = product, n, dtype, 0

    def __call__(self, v: Tensor) -> Tensor:
        self.n_products += 1
        return self._product(v)

    def mv(self, v: NDArray[Any]) -> NDArray[np.float64]:
        """Of an array, in the dtype that the matrix knows."""
        found: NDArray[np.float64] = self(torch.tensor(np.ravel(v), dtype=self.dtype)).double().cpu().numpy()
        return found

    @property
    def operator(self) -> LinearOperator:
        """As scipy sees it."""
        return LinearOperator((self.n, self.n), matvec=self.mv, dtype=np.float64)


def _leading(values: NDArray[Any], vectors: NDArray[Any], A: Any) -> tuple[complex, float]:
    """The eigenvalue of largest magnitude among those found, and its residual; NaN if there is none."""
    if not len(values):
        return complex(np.nan), np.nan
    i = int(np.argmax(np.abs(values)))
    x = vectors[:, i] / np.linalg.norm(vectors[:, i])
    return complex(values[i]), float(np.linalg.norm(A @ x.real + 1j * (A @ x.imag) - values[i] * x))


def _arnoldi(side: _Side, start: NDArray[Any], tol: float, norm: float) -> tuple[complex, float]:
    """By ARPACK; what has converged when the restarts ran out is taken, and has the residual that it has."""
    if norm == 0:
        return 0j, 0.0
    A = side.operator
    try:
        found = eigs(A, k=_WANTED, ncv=min(_VECTORS, side.n), v0=start, tol=tol, maxiter=_RESTARTS)
    except ArpackNoConvergence as error:
        found = error.eigenvalues, error.eigenvectors
    except ArpackError:  # such as a Krylov space that ends at once
        found = np.empty(0), np.empty((side.n, 0))
    return _leading(found[0], found[1], A)
