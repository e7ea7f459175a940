"""The whole spectrum of the Hessian, for models small enough to have their Hessian written out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.metric import RescaledObjective
from landscape.loss.objective import Objective
from landscape.loss.strategies import BLOCK, Strategy
from landscape.probes.linalg import dense_eigenpairs

__all__ = ["DENSE_MEMORY", "Spectrum", "dense_hessian", "exact_spectrum", "fits"]

DENSE_MEMORY = 8 * 2**30
"""Bytes that a dense solution may take: 32 P^2, for the matrix, its eigenvectors and LAPACK's workspace."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""All eigenvalues of a Hessian; float64 on the CPU.

    Attributes:
        values: (P,) descending.
        vectors: (P, P) unit eigenvectors as columns, or None.
        residual: largest \|H v - lambda v\|, NaN without vectors.
        asymmetry: max \|H - H'\| / max \|H\|, the rounding of the products. Where symmetry was used to make H
            ("native"), the distance max \|H v - (a product with v)\| / max \|H\| in its place, for one unit vector v.
        n_products: Hessian-vector products used.
        strategy: how they were computed.
    """

    values: Tensor
    vectors: Tensor | None
    residual: float
    asymmetry: float
    n_products: int
    strategy: str


def fits(size: int) -> bool:
    """Whether a dense Hessian of P = size parameters fits the memory set aside.

    Example:
        >>> fits(4608), fits(100_000)
        (True, False)
    """
    return 32 * size**2 <= DENSE_MEMORY


def dense_hessian(objective: Objective, w: Tensor, *, strategy: Strategy = "auto") -> tuple[Tensor, str, float]:
    """The Hessian (P, P) in float64 on the objective's device, the strategy that made it, and its `Spectrum.asymmetry`.

    Remembered for this w.

    "auto" takes the native kernel where it knows the loss, compiles where P is large enough to pay for it and a C++
    compiler is there, and else keeps the gradient's graph, with a warning if one of the others failed. Every strategy
    is exact; a product with a vector that is not special must agree with the matrix.

    Raises:
        LandscapeError: if it does not fit (see `DENSE_MEMORY`), or is not finite.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> dense_hessian(objective, objective.w0)[0].tolist()
        [[4.0, 0.0], [0.0, 1.0]]
    """
    if not fits(objective.size):
        raise LandscapeError(
            f"a dense Hessian of P = {objective.size} parameters needs {32 * objective.size**2 / 2**30:.1f} GiB "
            f"(4 x 8 P^2 bytes), more than the limit of {DENSE_MEMORY / 2**30:.0f}. "
            'Use engine="lanczos" with some k, the probe `density`, or fewer `parameters`.'
        )

    def make() -> tuple[Tensor, str, float]:
        if isinstance(objective, RescaledObjective):  # D H D, and H may be known already from another metric
            inner, used, _ = dense_hessian(objective.base, objective.parameters_at(w), strategy=strategy)
            d = objective.scale.to(inner)
            matrix = d[:, None] * inner * d
            peak = float(matrix.abs().max())
            off = float((matrix - matrix.T).abs().max())
            if used == "native":
                off = _distance(objective.hessian(w, strategy="native"), matrix)
            return matrix, used, off / peak if peak > 0 else 0.0
        H = objective.hessian(w, strategy=strategy, products=objective.size, block=BLOCK)
        used = H.strategy
        matrix = H.dense().detach().to(torch.float64)
        if not bool(torch.isfinite(matrix).all()):
            raise LandscapeError(
                f"expected a finite Hessian, found NaN or infinity in the dense matrix of size {objective.size}. "
                "Check that the loss and its derivatives are finite at this point."
            )
        off, peak = _distance(H, matrix), float(matrix.abs().max())
        if used != "native":
            off = float((matrix - matrix.T).abs().max())
        return matrix, used, off / peak if peak > 0 else 0.0

    found: tuple[Tensor, str, float] = objective.remember(f"dense {strategy}", w, make)
    return found


def _distance(H: Symmetric, matrix: Tensor) -> float:
    """The largest entry of |M v - H v| for one unit vector v; an error if that is more than rounding."""
    v = torch.sin(1.0 + torch.arange(H.size, dtype=torch.float64, device=matrix.device))
    v /= v.norm()
    rest = matrix @ v - H.mv(v).to(matrix)
    if not float(rest.norm()) <= torch.finfo(H.dtype).eps ** 0.5 * float(matrix.norm()):
        raise LandscapeError(
            f"the dense Hessian (norm {float(matrix.norm()):.1e}) and a product with it differ by "
            f'{float(rest.norm()):.1e}: a fault of the compiler. Use strategy="cached".'
        )
    return float(rest.abs().max())


def exact_spectrum(objective: Objective, w: Tensor, *, vectors: bool = False, strategy: Strategy = "auto") -> Spectrum:
    r"""All eigenvalues of the Hessian of the mean loss at w, from the dense matrix; remembered for this w.

    Args:
        objective: the loss.
        w: where, (P,).
        vectors: compute eigenvectors and the residuals \|H v - lambda v\| too.
        strategy: of the products, see `dense_hessian`.

    Raises:
        LandscapeError: if P is too large, or the Hessian is not finite.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> exact_spectrum(objective, objective.w0).values.tolist()
        [4.0, 1.0]
    """

    def make() -> Spectrum:
        matrix, used, asymmetry = dense_hessian(objective, w, strategy=strategy)
        n = objective.size
        if not vectors:
            values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0)
            return Spectrum(values.cpu(), None, math.nan, asymmetry, n, used)
        pairs = dense_eigenpairs(Symmetric.from_dense(matrix))
        return Spectrum(pairs.values.cpu(), pairs.vectors.cpu(), float(pairs.residuals.max()), asymmetry, n, used)

    found: Spectrum = objective.remember(f"spectrum {vectors} {strategy}", w, make)
    return found
