"""All eigenpairs of an operator small enough to write down: the truth the other solvers are held against."""

from __future__ import annotations

import torch

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.probes.linalg.eigen.lanczos import Eigenpairs
from landscape.probes.linalg.eigen.ritz import WHICH, Which, choose, ends

__all__ = ["dense_eigenpairs"]


def dense_eigenpairs(op: Symmetric, *, k: int | None = None, which: Which = "top", tol: float = 1e-6) -> Eigenpairs:
    r"""Eigenpairs from the dense matrix: P products, one LAPACK `eigh` of (A + A') / 2 in float64.

    The residuals are \|A v - lam v\|_2 with the dense matrix A as measured, not symmetrised, so an operator that is not
    symmetric shows in them and in `asymmetry` = max |A - A'| / max |A|. `resolved` is always True.

    Args:
        op: the operator A (P, P); needs 8 P^2 bytes a few times over.
        k: number of pairs (from each end for "both"); all when None.
        which: "top", "bottom", "both" or "largest", as in `lanczos`.
        tol: residual relative to the spectral norm that counts as converged.

    Returns:
        The pairs in float64 on `op.device`.

    Raises:
        LandscapeError: for a wrong k or which, or a matrix that is not finite.

    Example:
        >>> pairs = dense_eigenpairs(Symmetric.from_dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]])))
        >>> [round(x, 12) for x in pairs.values.tolist()], pairs.asymmetry
        ([3.0, 1.0], 0.0)
    """
    if which not in WHICH:
        raise LandscapeError(f"expected which to be one of {', '.join(WHICH)}, found {which!r}.")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise LandscapeError(f"expected k to be None or an integer >= 1, found {k!r}. None gives all {op.size} pairs.")
    before = op.n_products
    matrix = op.dense().detach().to(torch.float64)
    if not bool(torch.isfinite(matrix).all()):
        raise LandscapeError(
            f"expected a finite matrix, found NaN or infinity in the dense operator of size {op.size}. "
            "Check that the loss and its derivatives are finite at this point."
        )
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    index = torch.as_tensor(choose(values.cpu().numpy(), op.size if k is None else k, which), device=op.device)
    scale = float(values.abs().max())
    values, vectors = values[index], vectors[:, index]
    residuals = (matrix @ vectors - vectors * values).norm(dim=0)
    peak = float(matrix.abs().max())
    gram = vectors.T @ vectors
    return Eigenpairs(
        values=values,
        vectors=vectors,
        residuals=residuals,
        converged=residuals <= tol * scale,
        end=ends(values.numel(), which),
        scale=scale,
        orthogonality=float((gram - torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)).abs().max()),
        n_products=op.n_products - before,
        resolved=True,
        asymmetry=float((matrix - matrix.T).abs().max()) / peak if peak > 0 else 0.0,
    )
