"""Extreme eigenpairs of a symmetric operator by Lanczos, with a check that no repeated eigenvalue was missed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.probes.linalg.eigen.krylov import Counted, gaussian, norm
from landscape.probes.linalg.eigen.ritz import WHICH, Which, ends
from landscape.probes.linalg.eigen.rounds import Solver
from landscape.probes.linalg.eigen.rows import Rows, columns

__all__ = ["DEFAULT_MEMORY", "Eigenpairs", "lanczos"]

DEFAULT_MEMORY = 8 * 2**30
"""Bytes that the vectors of one solve may take."""

SMALL = 2**29
"""Bytes of rows that are no matter: so many are taken, if memory allows, before a solve restarts."""

SPARE = 6
"""Rows that a solve needs at least beside those of its result."""

WORK = 6
"""Vectors at a time beside the rows and the result: products, sums, random vectors drawn in float64."""


@dataclass(frozen=True)
class Eigenpairs:
    r"""Eigenpairs that say whether to believe them: some eigenvalue of A lies within `residuals` of each value.

    Attributes:
        values: (m,) Rayleigh quotients v' A v, algebraically descending.
        vectors: (P, m) columns v of unit norm.
        residuals: (m,) true \|A v - lam v\|_2, from products with A that were made, never the recurrence's word.
        converged: (m,) bool, residual <= tol * scale.
        end: (m,) which end of the spectrum a pair was asked from: "top", "bottom" or "largest".
        scale: estimate of the spectral norm, the largest |Ritz value| seen.
        orthogonality: max |V'V - I|.
        n_products: products A v used, those of the residuals and of the check included.
        resolved: the check for missed eigenvalues ended well (see `lanczos`).
        asymmetry: max |A - A'| / max |A| where the matrix is known (`dense_eigenpairs`), else NaN.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: Tensor
    end: tuple[str, ...]
    scale: float
    orthogonality: float
    n_products: int
    resolved: bool
    asymmetry: float = float("nan")


def lanczos(
    op: Symmetric,
    *,
    k: int = 10,
    which: Which = "top",
    tol: float = 1e-6,
    max_products: int | None = None,
    seed: int,
    init: Tensor | None = None,
    check_missed: bool = True,
    memory: int = DEFAULT_MEMORY,
) -> Eigenpairs:
    r"""The k extreme eigenpairs of `op`, A v_i = lam_i v_i, by Lanczos with full re-orthogonalisation.

    Stops when \|beta_m s_mi\| <= tol * scale / 2 for every wanted Ritz pair, then computes all residuals from the
    products A q_j that were made, v = sum_j s_j q_j, or, where memory has no room for these, from the recurrence, A v =
    theta v + beta_m s_m q_{m+1}; one fresh product with a random combination of the pairs must agree, else all of them
    are made again.
    Where memory has no room for all steps it restarts (thick restarts, a form of Krylov-Schur): of m vectors it keeps
    the wanted Ritz vectors, half of what else there is room for, and q_{m+1}. The fewer vectors, the more products.
    `converged` promises an eigenvalue within the residual of the value; isolated values are far better than that
    (error about residual^2 / gap).

    One start vector sees one copy of a repeated eigenvalue. `check_missed` therefore runs Lanczos from a fresh random
    vector on what is orthogonal to the Ritz vectors found, until the orthogonal polynomials of that run prove that no
    eigenvalue beyond the k-th found by more than tol * scale is left there, except with probability 1e-4 (over the
    seed; `missed.py` has the argument). A missed one is added and the check repeated. So `resolved` and all of
    `converged` mean: the i-th value is within 3 tol * scale of the i-th eigenvalue, counted with multiplicity. Values
    closer to each other than that are not told apart. `resolved` is False if `check_missed` is, or if products ran out:
    the pairs are then still eigenpairs to within their residuals, but another one may be missing. A check cannot
    restart; where its vectors find no room it goes on without them (`missed.py`), and begins anew if it finds
    something. In the check tol counts as no less than 20 roundings of the dtype. It costs a quarter to a half of the
    solve: 8 products after 34 for 40 outliers 40 / i over a bulk of 1460, k = 10; 12 after 31 for a trained looped
    model of P = 4608.

    Args:
        op: the operator A, (P, P).
        k: number of pairs; for "both" k from each end. With k >= P (2k >= P for "both") all P pairs come once.
        which: "top" or "bottom" of the algebraic order, "both", or "largest" in magnitude.
        tol: residual relative to the spectral norm. In float32 products are rarely better than 1e-6: use 1e-5.
        max_products: ceiling of all products. When it is reached, the best pairs are returned, unconverged (fewer than
            k if it is below 2k). Default 300 + 30 per wanted pair.
        seed: seed of the local generator of all random vectors.
        init: start vector (P,), or a block (P, b) of which the sum of the unit columns starts the run (vectors of a
            nearby problem save about a tenth of the products).
        check_missed: run the check.
        memory: bytes for all vectors at a time, the result and all intermediate ones included, but not what a product
            takes inside. Of what is allowed, a solve takes no more than it can use: vectors and their products for as
            many steps as `max_products` if the vectors come to half a GiB at most; else half a GiB, or 2 k + 10
            vectors (4 k + 10 for "both") where that is more; the result and six more vectors in each case.

    Returns:
        The pairs on `op.device` in `op.dtype`.

    Raises:
        LandscapeError: for a wrong k, which, tol, max_products or shape of init, a product that is not finite, or if
            memory has no room for 2 k + 12 vectors (4 k + 12 for "both"): the result, as many rows and 6 more, and 6 to
            work with.

    Source:
        Parlett, The Symmetric Eigenvalue Problem (SIAM 1998), chapter 13; Wu and Simon, SIAM J. Matrix Anal. Appl. 22
        (2000) for the restarts.

    Example:
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([3.0, 3.0, 1.0, -5.0], dtype=torch.float64)))
        >>> pairs = lanczos(A, k=2, seed=0)
        >>> [round(x, 9) for x in pairs.values.tolist()], pairs.resolved
        ([3.0, 3.0], True)
    """
    n_wanted = _check(op, k, which, tol, max_products, init)
    budget = 300 + 30 * n_wanted if max_products is None else max_products
    counted = Counted(op)
    rows = _room(counted, n_wanted, budget, memory)
    solver = Solver(counted, k, which, tol, budget, torch.Generator().manual_seed(seed), rows=rows)
    solver.begin(_start(counted, solver.generator, init))
    resolved = solver.solve(check_missed=check_missed)
    vectors, host, errors = solver.verified()
    order = np.argsort(-host, kind="stable")
    for part in columns(vectors, n_wanted):
        part[:] = part[torch.as_tensor(order, device=op.device)]
    unit, residuals = counted.unit, torch.as_tensor(errors[order]).to(vectors)
    gram = sum(((part @ part.T).double() for part in columns(vectors, n_wanted)), vectors.new_zeros(()).double())
    return Eigenpairs(
        values=torch.as_tensor(host[order]).to(vectors) * unit,
        vectors=vectors.T,
        residuals=residuals * unit,
        converged=residuals <= tol * solver.scale,
        end=ends(host.size, which),
        scale=solver.scale * unit,
        orthogonality=float((gram - torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)).abs().max()),
        n_products=counted.n_products,
        resolved=resolved,
    )


def _start(op: Counted, generator: torch.Generator, init: Tensor | None) -> Tensor:
    """The start vector (P,): random, or the sum of the unit columns of `init`."""
    if init is None:
        return gaussian(op.size, generator, op)
    start = op.like.new_zeros(op.size)
    for column in init.detach().reshape(op.size, -1).T:
        c = column.to(start)
        peak = float(torch.linalg.vector_norm(c, math.inf))
        if peak > 0:
            c = c / peak  # before squaring: a start of size 1e-30 is as good as any
            start.add_(c.div_(norm(c)))
    return start if bool(start.any()) else gaussian(op.size, generator, op)


def _room(op: Counted, n_wanted: int, budget: int, memory: int) -> Rows:
    """The rows that a solve may take: all that it can come to need where they are small, else a moderate number."""
    vector = op.size * op.like.element_size()
    most = memory // vector - n_wanted - WORK  # the result is there together with the rows
    every = min(budget, op.size) + 1
    least = min(every, n_wanted + SPARE)
    if most < least:
        total = least + n_wanted + WORK
        raise LandscapeError(
            f"Lanczos for {n_wanted} pairs of P = {op.size} parameters holds at least {total} vectors: "
            f"{total * vector / 2**30:.3g} GiB; the limit is {memory / 2**30:.3g}. Ask for fewer pairs, use float32, "
            "or raise `memory`."
        )
    capacity = min(every, max(SMALL // vector, 2 * n_wanted + 10), most)
    images = capacity == every and 2 * every <= most
    return Rows(op.size, op.like, capacity=capacity, fixed=True, images=images)


def _check(op: Symmetric, k: int, which: str, tol: float, max_products: int | None, init: Tensor | None) -> int:
    """Refuse bad input; the number of wanted pairs."""
    if which not in WHICH:
        raise LandscapeError(f"expected which to be one of {', '.join(WHICH)}, found {which!r}.")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise LandscapeError(f"expected k to be an integer >= 1, found {k!r}. Ask for at least one eigenpair.")
    if not 0.0 < tol < 1.0:
        raise LandscapeError(f"expected a relative tolerance 0 < tol < 1, found {tol!r}. Use for example 1e-6.")
    if max_products is not None and max_products < 2:
        raise LandscapeError(
            f"expected max_products >= 2, found {max_products!r}: one pair needs a product and one for its residual."
        )
    if init is not None and (init.ndim not in (1, 2) or init.shape[0] != op.size or init.numel() == 0):
        raise LandscapeError(
            f"expected init of shape ({op.size},) or ({op.size}, b), found {tuple(init.shape)}. "
            "Give one vector, or a block with one vector a column."
        )
    if init is not None and not bool(torch.isfinite(init).all()):
        raise LandscapeError("expected a finite init, found NaN or infinity. Leave init out for a random start.")
    return min(op.size, 2 * k if which == "both" else k)
