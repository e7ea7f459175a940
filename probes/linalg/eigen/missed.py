r"""The check that Lanczos missed nothing: a certificate from orthogonal polynomials.

Let W be Ritz vectors with A w_i = theta_i w_i + c_i, and B the part of A on what is orthogonal to W. An eigenvector
that Lanczos cannot see (the second copy of a repeated eigenvalue) is orthogonal to the whole Krylov space and hence an
eigenvector of B. By Weyl and Haynsworth's inertia formula

    #{eigenvalues of A > x + bound} <= #{theta_i > x} + #{eigenvalues of B > x},
    bound = (sum of |c_i|^2 over wanted i)^(1/2) + sum of |c_i|^2 / (x - theta_i) over the other i,

so it is enough to show that B has no eigenvalue above x = theta_k + margin. Locking more Ritz vectors than the wanted
ones pushes the spectrum of B away from x and makes the check short; their part of the bound is quadratic in residuals.
A part rho of it that is not negligible is paid by asking for more: no eigenvalue of B above x - rho.

Lanczos on B from a random unit vector r knows the orthonormal polynomials p_0, p_1, ... of r's spectral measure. An
atom of that measure at mu has mass at most 1 / sum_j p_j(mu)^2 (Christoffel), and beyond the largest Ritz value each
p_j^2 grows with mu. A random r has mass (u'r)^2 >= c^2 = (pi / 2) p^2 / n on a given eigenvector u in n dimensions
except with probability p. So sum_j p_j(x)^2 > 1 / c^2 while all Ritz values stay below x (p_j(x) > 0 for all j, Sturm)
proves that no eigenvalue above x is left, except with probability p; and a sign change of p_j(x) proves that one is.

That needs the coefficients of the recurrence and none of its vectors. In finite precision, orthogonal to its past or
not, these are the coefficients of exact Lanczos for a matrix whose eigenvalues lie within small intervals about those
of B, with nearly the same masses (Greenbaum, Linear Algebra Appl. 113, 1989). So where there is no room for its vectors
a check forgets them; only to W every new one is made orthogonal for as long as it runs.

This adapts to the spectrum, unlike the a-priori bounds of Kuczynski and Wozniakowski (SIAM J. Matrix Anal. 13, 1992).
Source of the mass bound: Akhiezer, The Classical Moment Problem (1965), theorem 2.5.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from landscape.probes.linalg.eigen.krylov import Vector
from landscape.probes.linalg.eigen.ritz import Ritz, Which, choose

__all__ = ["FAILURE", "Watch", "lock"]

FAILURE = 1e-4
"""Probability p, over the random vector, that the check passes although an eigenvalue is missing."""

SHARE = 0.2
"""Part of the gap below the last wanted value given up to lock more vectors; 0.05 to 0.3 cost the same products."""


class Watch:
    """The certificate for one check run; all numbers in the units of the operator.

    Args:
        edges: (x, side) pairs: nothing may lie above x (side +1) or below x (side -1).
        n: dimension of the space searched.
        margin: distance of the edges from the last wanted values.
        bound: what the locked vectors add to it.

    Attributes:
        passed: every edge is proven.
        found: some eigenvalue lies beyond an edge.
    """

    def __init__(self, edges: list[tuple[float, int]], n: int, margin: float, bound: float) -> None:
        self.edges, self.margin, self.bound = edges, margin, bound
        self.need = 2.0 * n / (math.pi * FAILURE**2)
        self.passed = self.found = False
        self._last = [(0.0, 1.0, 1.0)] * len(edges)  # p_{j-1}, p_j, sum of squares

    def step(self, alpha: list[float], beta: list[float]) -> None:
        """Take in the newest coefficients."""
        before = beta[-2] if len(beta) > 1 else 0.0
        proven = []
        for i, (x, side) in enumerate(self.edges):
            older, old, total = self._last[i]
            # With side = -1 this is the recurrence of -B at -x: both ends ask for p_j > 0.
            top = side * (x - alpha[-1]) * old - before * older
            if top < 0.0:
                self.found = True
                return
            # beta = 0: r lies in an invariant space, and its measure has no atom besides the Ritz values.
            new = top / beta[-1] if beta[-1] > 0.0 else math.inf
            # Once an edge is proven only signs matter there: a common factor keeps the pair from overflowing.
            shrink = 1e100 / max(new, 1e100)
            total = total + new * new if new < 1e100 else math.inf
            self._last[i] = (old * shrink, min(new, 1e100), total)
            proven.append(total >= self.need)
        self.passed = all(proven)


def lock(
    ritz: Ritz, k: int, which: Which, margin: float, *, share: float = SHARE, room: int
) -> tuple[NDArray[np.intp], list[tuple[float, int]], float]:
    """The wanted pairs and all others that the certificate can afford; its edges; its bound.

    Args:
        ritz: the pairs of a run whose wanted ones have converged.
        k: as in `lanczos`.
        which: as in `lanczos`.
        margin: see `Watch`.
        share: part of the gap below the last wanted value that the others may cost. The edges move in by as much, so
            a run may then find an eigenvalue that was not missed at all; with 0 it cannot.
        room: most pairs that may be locked.

    Returns:
        Indices of the pairs to lock, the (x, side) pairs, and the bound of the module's formula.
    """
    theta, error = ritz.theta, ritz.error
    wanted = choose(theta, k, which)
    others = np.setdiff1d(np.arange(theta.size), wanted)
    edges = _edges(theta, wanted, k, which, margin)
    bound = float(np.sqrt((error[wanted] ** 2).sum()))
    keep = wanted
    if others.size and margin > 0:
        gap = np.min([side * (x - theta[others]) for x, side in edges], axis=0).clip(min=margin)
        cost = error[others] ** 2 / gap
        order = np.argsort(cost, kind="stable")[: max(room - wanted.size, 0)]
        spent = np.cumsum(cost[order])
        free = spent <= max(margin / 2, share * float(gap.min()))
        rho = float(spent[free][-1]) if free.any() else 0.0
        keep = np.sort(np.concatenate([wanted, others[order[free]]]))
        if rho > margin / 2:
            edges = [(x - side * rho, side) for x, side in edges]
        else:
            bound += rho
    return keep, edges, bound


def _edges(theta: Vector, wanted: NDArray[np.intp], k: int, which: Which, margin: float) -> list[tuple[float, int]]:
    """Just outside the last wanted value of each end."""
    if which == "largest":
        edge = float(np.abs(theta[wanted]).min()) + margin
        return [(edge, 1), (-edge, -1)]
    top = [(float(theta[k - 1]) + margin, 1)] if which in ("top", "both") else []
    return top + ([(float(theta[theta.size - k]) - margin, -1)] if which in ("bottom", "both") else [])
