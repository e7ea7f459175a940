"""Traces of functions of an operator from few products: stochastic Lanczos quadrature, and Hutch++."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.probes.linalg.eigen.eigenspaces import Eigenspaces
from landscape.probes.linalg.eigen.krylov import Counted, Krylov, gaussian, tridiagonal
from landscape.probes.linalg.trace.intervals import SIGMAS, Estimate

__all__ = ["Quadrature", "Rules", "hutchpp", "lanczos_quadrature", "spectral_sum"]


EARLY = (0.5, 0.75, 1.0)
"""Parts of the steps, less one at least, whose rules tell what more steps would change."""


@dataclass(frozen=True)
class Quadrature:
    r"""Gauss quadratures of the spectral measures of random unit vectors; float64 on the CPU.

    Attributes:
        node: (n_vectors, n_steps) ascending; NaN where the Krylov space ended earlier.
        weight: (n_vectors, n_steps), the sum over each row is 1; 0 where the node is NaN.
        count: (n_vectors, n_steps) eigenvalues that the vector puts at the node, P in each row: the exact number where
            that is known, the rest of P by weight.
        known: (n_vectors, n_steps) bool, whether it is: see `Eigenspaces`.
        residual: (n_vectors, n_steps) of the node as an eigenvalue, \|A y - node y\| of a unit vector y.
        early_node, early_weight: (3, n_vectors, n_steps) the rules of the first half and three quarters of the steps,
            and of all but the last.
        n_products: products used.
        size: P.
        eps: rounding of the operator.
        blind: the known eigenvalues leave some of P over, but a vector has no part there: no count is taken as known.
    """

    node: Tensor
    weight: Tensor
    count: Tensor
    known: Tensor
    residual: Tensor
    early_node: Tensor
    early_weight: Tensor
    n_products: int
    size: int
    eps: float
    blind: bool


class Rules:
    """The rules of Lanczos runs as they end, and what they have found together.

    Args:
        op: the products.
        n_vectors: number of runs.
        n_steps: most steps of a run.
        search: whether the start vectors are random, so that what they agree on is known.
    """

    def __init__(self, op: Counted, n_vectors: int, n_steps: int, *, search: bool = True) -> None:
        self._op = op
        self._spaces = Eigenspaces(op, n_vectors, n_steps) if search else None
        shape = (n_vectors, n_steps)
        self._node, self._residual = (torch.full(shape, math.nan, dtype=torch.float64) for _ in "ab")
        self._weight = torch.zeros(shape, dtype=torch.float64)
        self._early_node = torch.full((len(EARLY), *shape), math.nan, dtype=torch.float64)
        self._early_weight = torch.zeros((len(EARLY), *shape), dtype=torch.float64)

    def add(self, i: int, run: Krylov) -> None:
        """The rule of start vector i."""
        theta, vectors = tridiagonal(run.alpha, run.beta)
        residual = np.abs(run.beta[-1] * vectors[-1])
        n = theta.size
        self._node[i, :n] = torch.as_tensor(theta * self._op.unit)
        self._weight[i, :n] = torch.as_tensor(vectors[0] ** 2 / (vectors[0] ** 2).sum())
        self._residual[i, :n] = torch.as_tensor(residual * self._op.unit)
        if self._spaces is not None:
            self._spaces.add(i, run, theta, vectors, residual)
        for node, weight, part in zip(self._early_node, self._early_weight, EARLY, strict=True):
            if not run.ended:  # otherwise the rule is exact
                theta, vectors = tridiagonal(run.alpha[: max(1, min(n - 1, math.ceil(part * n)))], run.beta)
            node[i, : theta.size] = torch.as_tensor(theta * self._op.unit)
            weight[i, : theta.size] = torch.as_tensor(vectors[0] ** 2 / (vectors[0] ** 2).sum())

    def quadrature(self) -> Quadrature:
        """All rules."""
        count = torch.zeros_like(self._weight)
        for found in [] if self._spaces is None else self._spaces.known():
            count[found.run, found.place] = found.number
            self._node[found.run, found.place] = found.value * self._op.unit  # for all vectors the same
        known = count > 0
        left = self._op.size - count.sum(dim=1)  # the same for all vectors
        rest = torch.where(known, 0.0, self._weight)
        share = rest.sum(dim=1)
        blind = bool(((left > 0) & (share <= self._op.eps)).any())
        if blind:
            known, count, rest, share, left = known & False, 0 * count, self._weight, share**0, left * 0 + self._op.size
        count = torch.where(known, count, rest * (left / torch.where(left > 0, share, 1.0))[:, None])
        return Quadrature(
            node=self._node,
            weight=self._weight,
            count=count,
            known=known,
            residual=self._residual,
            early_node=self._early_node,
            early_weight=self._early_weight,
            n_products=self._op.n_products,
            size=self._op.size,
            eps=self._op.eps,
            blind=blind,
        )


def lanczos_quadrature(
    op: Symmetric,
    *,
    n_vectors: int,
    n_steps: int,
    seed: int,
    distribution: Literal["rademacher", "gaussian"] = "rademacher",
    start: Tensor | None = None,
) -> Quadrature:
    r"""Quadratures with z' f(A) z ~ sum_j weight_j f(node_j), exact for polynomials of degree 2 n_steps - 1.

    Nodes are the eigenvalues of the Lanczos matrix of a unit vector z, weights the squared first entries of its
    eigenvectors. Full re-orthogonalisation, so there are no spurious copies. Where the Krylov space ends before
    n_steps the quadrature is exact for every f, and the rest of the row is padded.

    Args:
        op: the operator A (P, P).
        n_vectors: number of random vectors; the standard error needs two.
        n_steps: Lanczos steps, i.e. products, per vector.
        seed: seed of the local generator.
        distribution: of the vectors before they are made unit. Both are unbiased, E[P z' f(A) z] = tr f(A).
        start: (n_vectors, P) vectors to use in place of random ones, e.g. all unit vectors for an exact answer.

    Raises:
        LandscapeError: for counts below 1, an unknown distribution, a wrong `start`, or a product that is not finite.

    Source:
        Ubaru, Chen, Saad, SIAM J. Matrix Anal. Appl. 38 (2017); Golub, Welsch, Math. Comp. 23 (1969).

    Example:
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)))
        >>> q = lanczos_quadrature(A, n_vectors=4, n_steps=3, seed=0)
        >>> round(spectral_sum(q, lambda x: x)[0], 9)
        6.0
    """
    if n_vectors < 1 or n_steps < 1:
        raise LandscapeError(f"expected n_vectors, n_steps >= 1, found {n_vectors}, {n_steps}. Try 10 and 80.")
    if distribution not in ("rademacher", "gaussian"):
        raise LandscapeError(f"expected distribution rademacher or gaussian, found {distribution!r}.")
    if start is not None and start.shape != (n_vectors, op.size):
        raise LandscapeError(f"expected start of shape ({n_vectors}, {op.size}), found {tuple(start.shape)}.")
    counted = Counted(op)
    generator = torch.Generator().manual_seed(seed)
    rules = Rules(counted, n_vectors, n_steps, search=start is None)
    for i in range(n_vectors):
        z = gaussian(op.size, generator, counted) if start is None else start[i].to(op.device, op.dtype)
        if start is None and distribution == "rademacher":
            z = z.sign() + (z == 0)
        run = Krylov(counted, z)
        if run.ended:
            raise LandscapeError(f"expected start vectors that are not zero, found row {i} to be zero.")
        while not run.ended and len(run.alpha) < n_steps:
            run.step()
        rules.add(i, run)
    return rules.quadrature()


def spectral_sum(quadrature: Quadrature, f: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    r"""Estimate of tr f(A) = sum_i f(lam_i), and its standard error over the vectors.

    Mean over vectors of sum_j count_j f(node_j); the error is std / sqrt(n_vectors), NaN for one vector. It is the
    sampling error only: a function with a kink or a jump also has a quadrature error that falls with n_steps.

    Args:
        quadrature: from `lanczos_quadrature`.
        f: elementwise function of a 1-D float64 tensor of nodes. A NaN of f at a node makes the estimate NaN.

    Example:
        >>> A = Symmetric.from_dense(torch.eye(5, dtype=torch.float64))
        >>> spectral_sum(lanczos_quadrature(A, n_vectors=3, n_steps=2, seed=0), torch.ones_like)
        (5.0, 0.0)
    """
    real = quadrature.count > 0
    terms = torch.zeros_like(quadrature.weight)
    terms[real] = quadrature.count[real] * f(quadrature.node[real]).to(torch.float64)
    samples = terms.sum(dim=1)
    return float(samples.mean()), _standard_error(samples)


def hutchpp(op: Symmetric, *, n_products: int, seed: int) -> Estimate[float]:
    r"""Trace by Hutch++: tr A ~ tr(Q'AQ) + mean over g of g'(I - QQ')A(I - QQ')g, Q an orthonormal basis of A S.

    S (P, m) and the g (P,) are Rademacher, a third of the products each for A S, A Q and the g. The variance is that
    of the small rest after the best-captured m directions. Exact when m reaches P.

    Args:
        op: the operator A (P, P).
        n_products: number of products, at least 3.
        seed: seed of the local generator.

    Returns:
        The trace; its standard error from the spread over the g, NaN with fewer than two, 0 when exact; its interval,
        from the lengths of the (I - QQ')A(I - QQ')g, whose mean square bounds half the variance of a sample.

    Raises:
        LandscapeError: for fewer than 3 products or a product that is not finite.

    Source:
        Meyer, Musco, Musco, Woodruff, Hutch++: optimal stochastic trace estimation (SOSA 2021), algorithm 1.

    Example:
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)))
        >>> round(hutchpp(A, n_products=6, seed=0).value, 9)
        9.0
    """
    if n_products < 3:
        raise LandscapeError(f"expected n_products >= 3, found {n_products}: Hutch++ splits them in three.")
    counted = Counted(op)
    generator = torch.Generator().manual_seed(seed)

    def sign() -> Tensor:
        z = gaussian(op.size, generator, counted)
        return z.sign() + (z == 0)

    m = min(n_products // 3, op.size)
    sketch = torch.stack([counted(sign()) for _ in range(m)], dim=1)  # (P, m)
    q = torch.linalg.qr(sketch)[0]
    captured = sum(float(column.dot(counted(column))) for column in q.T)
    samples, squares = [], []
    for _ in range(n_products - 2 * m if m < op.size else 0):
        g = sign()
        for _ in range(2):
            g = g - q @ (q.T @ g)
        product = counted(g)
        samples.append(float(g.dot(product)))
        squares.append(float((product - q @ (q.T @ product)).square().sum()))
    rest = torch.tensor(samples or [0.0], dtype=torch.float64)
    error = _standard_error(rest) if samples else 0.0
    n, square = len(rest), sum(squares) / len(rest)
    # As in `deviations`, for one eigenvalue that holds all of the rest: the worst case.
    half = (SIGMAS**2 * 2 / n * square + SIGMAS**4 / n**2 * square) ** 0.5 + SIGMAS**2 / n * square**0.5
    trace = captured + float(rest.mean())
    half += 64 * counted.eps * op.size**0.5 * max(counted.norm, abs(trace))
    return Estimate(*(x * counted.unit for x in (trace, error, trace - half, trace + half)))


def _standard_error(samples: Tensor) -> float:
    n = samples.numel()
    return float(samples.std()) / math.sqrt(n) if n > 1 else math.nan
