"""Ritz pairs of a Lanczos run, and which of them were asked for."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from landscape.probes.linalg.eigen.krylov import Krylov, Vector, tridiagonal

__all__ = ["WHICH", "Ritz", "Which", "choose", "ends", "projected", "unchanged"]

Which = Literal["top", "bottom", "both", "largest"]
WHICH: tuple[str, ...] = get_args(Which)


class Ritz(NamedTuple):
    """Ritz values (n,) descending, weights (n, n) on the rows of the basis, one pair a column.

    The residual of a pair is `own` (n,) times a unit vector, and something more that vectors locked before have brought
    along. `error` (n,) bounds the length of all, |own| is the part that more steps of the same run reduce. The unit
    vector is `tail` (P,), or if that is None the one that the run would multiply next.
    """

    theta: Vector
    weights: NDArray[np.float64]
    error: Vector
    own: Vector
    tail: Tensor | None = None


def projected(run: Krylov) -> Ritz:
    r"""Rayleigh-Ritz on the basis of `run`, without any product.

    The projection of A on [W, R] is [[Theta, H], [H', T]], all of it known from the recurrence. The residual of a pair
    (a on W, b on R) is beta_m b_m r_{m+1} + sum_i a_i (I - RR') d_i, with d_i as in `Locked` and
    |d_i - RR'd_i|^2 = |d_i|^2 - sum_j (H_ij - ahead_i [j = 1])^2.
    """
    locked, steps = run.locked, len(run.alpha)
    if locked is None:
        theta, weights = tridiagonal(run.alpha, run.beta)
        own = run.beta[-1] * weights[-1, ::-1]
        return Ritz(theta[::-1].copy(), weights[:, ::-1].copy(), np.abs(own), own)
    n = locked.theta.size
    matrix = np.diag(np.concatenate([locked.theta, np.asarray(run.alpha, dtype=np.float64)]))
    left = locked.error
    if steps:
        coupling = np.stack(run.coupling, axis=1)  # (l, steps)
        matrix[:n, n:], matrix[n:, :n] = coupling, coupling.T
        index = np.arange(n, n + steps - 1)
        matrix[index, index + 1] = matrix[index + 1, index] = run.beta[: steps - 1]
        coupling[:, 0] -= locked.ahead
        left = np.sqrt(np.maximum(left**2 - (coupling**2).sum(axis=1), 0.0))
    theta, weights = np.linalg.eigh(matrix)
    theta, weights = theta[::-1].copy(), weights[:, ::-1].copy()
    own = run.beta[-1] * weights[-1] if steps else locked.ahead @ weights
    return Ritz(theta, weights, left @ np.abs(weights[:n]) + np.abs(own), own)


def unchanged(run: Krylov, tail: tuple[Tensor, Vector] | None) -> Ritz:
    """The locked pairs alone, with `tail` and `own` if known: what a check that found nothing goes back to.

    Rayleigh-Ritz would mix them with vectors of the check that have equal values but have not converged.
    """
    assert run.locked is not None
    n = run.n_locked
    vector, own = (None, np.zeros(n)) if tail is None else tail
    return Ritz(run.locked.theta, np.eye(n), run.locked.error, own, vector)


def choose(theta: Vector, k: int, which: Which) -> NDArray[np.intp]:
    """Indices of the wanted ones among `theta` (n,) descending, ascending indices, each once."""
    index = np.arange(theta.size)
    if which == "top":
        return index[:k]
    if which == "bottom":
        return index[max(theta.size - k, 0) :]
    if which == "both":
        return index if 2 * k >= theta.size else np.concatenate([index[:k], index[theta.size - k :]])
    return np.sort(np.argsort(-np.abs(theta), kind="stable")[:k])


def ends(n: int, which: Which) -> tuple[str, ...]:
    """The end each of n pairs, descending, was asked from; an odd one out in the middle counts to the top."""
    if which == "both":
        return ("top",) * ((n + 1) // 2) + ("bottom",) * (n // 2)
    return (which,) * n
