"""Stochastic Lanczos quadrature with several vectors in step, for operators that multiply blocks at less cost."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.probes.linalg.eigen.krylov import Counted, Krylov, gaussian
from landscape.probes.linalg.trace.quadrature import Quadrature, Rules

__all__ = ["lockstep_quadrature"]


def lockstep_quadrature(
    op: Symmetric,
    *,
    n_vectors: int,
    n_steps: int,
    seed: int,
    block: int,
    distribution: Literal["rademacher", "gaussian"] = "rademacher",
) -> Quadrature:
    r"""The quadratures of `lanczos_quadrature`, `block` vectors at a time through `op.mm`.

    The same vectors are drawn and the same recurrences run, so the numbers differ by no more than `mm` differs from
    `mv`. Holds block n_steps P numbers instead of n_steps P.

    Args:
        op: the operator A (P, P).
        n_vectors: number of random vectors.
        n_steps: Lanczos steps per vector.
        seed: seed of the local generator.
        block: vectors in step.
        distribution: of the vectors before they are made unit.

    Raises:
        LandscapeError: for counts below 1, or a product that is not finite.

    Example:
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)))
        >>> q = lockstep_quadrature(A, n_vectors=4, n_steps=3, seed=0, block=2)
        >>> q.n_products, round(float((q.weight * q.node).sum(1).mean()), 9)
        (12, 2.0)
    """
    if n_vectors < 1 or n_steps < 1 or block < 1:
        raise LandscapeError(f"expected n_vectors, n_steps, block >= 1, found {n_vectors}, {n_steps}, {block}.")
    generator = torch.Generator().manual_seed(seed)
    # Each recurrence asks for one product at a time; the answers of a block are laid out for them here.
    answers: list[Tensor] = []
    counted = Counted(Symmetric(op.size, op.dtype, lambda _: answers.pop(0), device=op.device))
    rules = Rules(counted, n_vectors, n_steps)
    for first in range(0, n_vectors, block):
        group = range(first, min(first + block, n_vectors))
        starts = [gaussian(op.size, generator, counted) for _ in group]
        if distribution == "rademacher":
            starts = [z.sign() + (z == 0) for z in starts]
        runs = [Krylov(counted, z) for z in starts]
        while active := [r for r in runs if not r.ended and len(r.alpha) < n_steps]:
            newest = torch.stack([r.newest for r in active], dim=1)
            answers.extend(op.mm(newest).T)
            for r in active:
                r.step()
        for i, r in zip(group, runs, strict=True):
            rules.add(i, r)
    return rules.quadrature()
