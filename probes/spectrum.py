"""Which curvatures does the loss have? Extreme eigenpairs of the Hessian, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
import xarray as xr
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.strategies import Strategy
from landscape.probes.base import CURVATURE, Context, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg import Eigenpairs, dense_eigenpairs, lanczos
from landscape.probes.tools.counts import lanczos_products, lanczos_vectors
from landscape.probes.tools.dense import dense_hessian
from landscape.probes.tools.pyhessian import pyhessian_eigenpairs

__all__ = ["PROBE", "spectrum"]

Engine = Literal["lanczos", "dense", "pyhessian"]

SCHEMA = Schema(
    {
        "eigenvalue": Variable(("mode",), CURVATURE, "Hessian eigenvalue"),
        "residual": Variable(("mode",), CURVATURE, "|H v - lambda v|, an error bound of the eigenvalue"),
        "converged": Variable(("mode",), "1", "residual below tol times the spectral norm", "b"),
        "end": Variable(("mode",), "", "end of the spectrum the mode was asked from", "U", swept=False),
        "spectral_norm": Variable((), CURVATURE, "largest |eigenvalue| found"),
        "orthogonality": Variable((), "1", "max |V'V - I| of the eigenvectors"),
        "resolved": Variable((), "1", "multiplicities were checked and no eigenvalue is missing", "b"),
        "n_products": Variable((), "1", "Hessian-vector products used, NaN if the engine does not count", "if"),
        "eigenvector": Variable(("mode", "parameter"), "1", "unit eigenvector"),
        "edge": Variable((), CURVATURE, "eigenvalue above which the optimiser's updates diverge; NaN if not known"),
    },
    optional=frozenset({"eigenvector", "edge"}),
    probe="spectrum",
)


def spectrum(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    edge: float | None = None,
    k: int = 10,
    which: Literal["top", "bottom", "both", "largest", "all"] = "top",
    engine: Engine = "lanczos",
    tol: float = 1e-6,
    max_products: int | None = None,
    eigenvectors: bool = False,
    check_missed: bool = True,
    strategy: Strategy = "auto",
    memory: float = 8.0,
) -> xr.Dataset:
    r"""Eigenpairs H v = lambda v of the Hessian of the mean loss at w, in algebraically descending order.

    Every pair carries its true residual \|H v - lambda v\|_2, from the products made: H has an eigenvalue within that
    distance of lambda. Pairs that miss the tolerance are returned with `converged` False, not dropped.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: of the start vector.
        edge: of stability of the optimiser in this metric, such as 2 / lr of gradient descent: kept beside the
            eigenvalues; of a run it is that of its own optimiser and learning rate.
        k: number of pairs, from each end for "both".
        which: "top" or "bottom" end, "both", "largest" in magnitude, or "all" (dense, whatever the engine).
        engine: "lanczos" with full re-orthogonalisation; "dense" (P products and one LAPACK call);
            "pyhessian" (power iteration, float32 vectors, largest magnitude only) as a second opinion.
        tol: residual over spectral norm below which a pair is `converged`; for "pyhessian" its own stopping tolerance
            too.
        max_products: budget of the iterative engines; None lets Lanczos choose; power iterations per pair for
            "pyhessian" (default 100).
        eigenvectors: keep the vectors in the result (k P numbers).
        check_missed: prove that no eigenvalue was missed, multiplicities included, for about a third more products;
            without, `resolved` is False.
        strategy: how products are computed, see `Objective.hessian`; all but "difference" are exact, and the measured
            error of those is added to the residuals. "auto" takes the
            native kernel where there is one, else keeps gradient graphs, and compiles where so many products are to
            come (a dense matrix, a sweep) that timings say it pays.
        memory: GiB for all vectors of Lanczos, which restarts when they find no room; see `lanczos`.

    Returns:
        Dataset with dim `mode`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for settings out of range, a Hessian that is not finite, or a dense matrix over 8 GiB.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> spectrum(objective, objective.w0, seed=0, k=2).eigenvalue.values.round(9).tolist()
        [4.0, 1.0]
    """
    if engine not in get_args(Engine):
        raise LandscapeError(f"unknown engine {engine!r}. Valid names: {', '.join(get_args(Engine))}.")
    if k < 1 or (max_products is not None and max_products < 1):
        raise LandscapeError(f"expected k >= 1 and max_products >= 1, found {k} and {max_products}.")
    if (which == "all" or engine == "dense") and max_products is not None:
        raise LandscapeError(
            f"a dense matrix takes P = {objective.size} products: max_products={max_products} is no use."
        )
    if engine == "pyhessian":
        if which != "largest":
            raise LandscapeError(
                f'engine "pyhessian" finds the largest in magnitude: expected which="largest", found {which!r}.'
            )
        if strategy != "auto":
            raise LandscapeError(f'engine "pyhessian" makes its own products: no strategy {strategy!r}.')
        used = "pyhessian"
        pairs = _witness(
            objective, w, k=k, tol=tol, max_iterations=100 if max_products is None else max_products, seed=seed
        )
    elif engine == "dense" or which == "all":
        every = which == "all"
        matrix, used, _ = dense_hessian(objective, w, strategy=strategy)
        dense = Symmetric.from_dense(matrix)
        pairs = dense_eigenpairs(dense, k=None if every else k, which="top" if which == "all" else which, tol=tol)
    else:
        limit = int(memory * 2**30)
        H = objective.hessian(w, strategy=strategy)
        used = H.strategy
        pairs = lanczos(
            H,
            k=k,
            which=which,
            tol=tol,
            max_products=max_products,
            seed=seed,
            check_missed=check_missed,
            memory=limit,
        )
        if H.error:  # a difference is no product to rounding: the bound of an eigenvalue's error is wider
            residuals = pairs.residuals + H.error
            pairs = replace(pairs, residuals=residuals, converged=pairs.converged & (residuals <= tol * pairs.scale))
    values: dict[str, Any] = {
        "eigenvalue": pairs.values,
        "residual": pairs.residuals,
        "converged": pairs.converged,
        "spectral_norm": pairs.scale,
        "orthogonality": pairs.orthogonality,
        "resolved": pairs.resolved,
        "n_products": float("nan") if engine == "pyhessian" else pairs.n_products,
    }
    if edge is not None:
        values["edge"] = edge
    if eigenvectors:
        values["eigenvector"] = pairs.vectors.T
    return SCHEMA.dataset(values, coords={"end": pairs.end}, engine=engine, strategy=used, **objective.caveats)


def _witness(objective: Objective, w: Tensor, *, k: int, tol: float, max_iterations: int, seed: int) -> Eigenpairs:
    """PyHessian's pairs, held to the same standard: residuals recomputed by our own product."""
    k = min(k, objective.size)
    H = objective.hessian(w)
    values, vectors = pyhessian_eigenpairs(objective, w, k=k, tol=tol, max_iterations=max_iterations, seed=seed)
    residuals = (H.mm(vectors) - vectors * values).norm(dim=0)
    scale = float(values.abs().max())
    return Eigenpairs(
        values=values,
        vectors=vectors,
        residuals=residuals,
        converged=residuals <= tol * scale,
        end=("largest",) * k,
        scale=scale,
        orthogonality=float(
            (vectors.T @ vectors - torch.eye(k, dtype=vectors.dtype, device=vectors.device)).abs().max()
        ),
        n_products=k,  # of ours, for the residuals; PyHessian does not count its own
        resolved=False,
    )


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts | None:
    engine, k, which, size = settings["engine"], settings["k"], settings["which"], extent.size
    if which == "all" or engine == "dense":
        return Counts(forwards=(1, 1), dense=1, eigen=5, matrices=6)
    if engine == "pyhessian":  # power iterations, which depend on how close eigenvalues are, and are not counted
        return None
    products = lanczos_products(k, which, size, check_missed=settings["check_missed"], most=settings["max_products"])
    vectors = min(lanczos_vectors(k, which, size), settings["memory"] * 2**30 / (8 * size))
    return Counts(forwards=(1, 1), products=products, vectors=vectors)


def _context(c: Context) -> dict[str, Any]:
    return {"edge": c.run.updates.edge(c.step, c.metric)}


PROBE = Probe("spectrum", 3, spectrum, SCHEMA, _context, context_names=frozenset({"edge"}), cost=_cost)
