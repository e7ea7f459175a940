"""Functions of a whole spectrum, with standard errors, from the quadratures of a few random vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.probes.linalg.quadrature import Quadrature

__all__ = ["jackknife", "spectral_statistics"]


def spectral_statistics(
    quadrature: Quadrature, *, thresholds: Sequence[float] = (), uppers: Sequence[float] = (), exact: bool = False
) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Statistics of the spectrum lam_1..lam_P, each with its standard error over the vectors.

    With p_i = |lam_i| / sum |lam| and sums over all eigenvalues, multiplicities counted:

    =================  ==================================================================================
    trace              sum lam_i
    frobenius          (sum lam_i^2)^(1/2)
    entropy            S = -sum p_i log p_i = log Z - (sum |lam_i| log |lam_i|) / Z with Z = sum |lam_i|, in nats
    effective_rank     exp(S)
    negative_share     sum of |lam_i| over lam_i < 0, divided by Z
    log_spread         standard deviation of log lam_i over lam_i > 0, weighted by lam_i
    count_above[k]     number of lam_i > thresholds[k]
    count_below[k]     number of lam_i < -thresholds[k]
    inverse_sum[k, u]  sum of 1 / |lam_i| over thresholds[k] < |lam_i| <= uppers[u]
    =================  ==================================================================================

    A statistic is a smooth function of means over vectors; its error is the jackknife's. It is the sampling error
    only: what jumps (counts, windows) or weighs the smallest |lam| also has a quadrature error, which falls with the
    number of steps. Ratios have a bias of the order of the error squared. What has no value (entropy of A = 0) is NaN.

    Args:
        quadrature: from `lanczos_quadrature`.
        thresholds: positive, in the units of the eigenvalues.
        uppers: positive, in the units of the eigenvalues; infinity is allowed.
        exact: the vectors were all unit vectors, not a random draw: errors are then 0.

    Raises:
        LandscapeError: for thresholds or uppers that are not positive.

    Example:
        >>> from landscape.probes.linalg import lanczos_quadrature
        >>> from landscape.symmetric import Symmetric
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.0], dtype=torch.float64)))
        >>> q = lanczos_quadrature(A, n_vectors=4, n_steps=4, seed=0, start=torch.eye(4, dtype=torch.float64))
        >>> value, error = spectral_statistics(q, exact=True)["effective_rank"]
        >>> round(float(value), 9), float(error)
        (2.828427125, 0.0)
    """
    if not all(x > 0 for x in (*thresholds, *uppers)):
        raise LandscapeError(
            f"expected positive thresholds and uppers, found {tuple(thresholds)} and {tuple(uppers)}. "
            "Eigenvalues around zero are rounding and cannot be counted."
        )
    real = quadrature.weight > 0
    node = torch.where(real, quadrature.node, 0.0)
    # In units of the largest node, so that the logarithms do not depend on the scale of the loss.
    unit = float(node.abs().max()) or 1.0
    terms = _terms(node / unit, [t / unit for t in thresholds], [u / unit for u in uppers])
    samples = quadrature.size * (quadrature.weight * terms).sum(dim=-1).T  # (vectors, statistics)
    scale = math.log(quadrature.size)
    n, m = len(thresholds), len(uppers)

    def derive(mean: Tensor) -> dict[str, Tensor]:
        trace, square, negative, z, zlog, plus, pluslog, pluslog2, *rest = mean.unbind(-1)
        entropy = (z.log() - zlog / z).clamp(0.0, scale)
        variance = pluslog2 / plus - (pluslog / plus) ** 2
        empty = mean.new_zeros((*mean.shape[:-1], 0))
        grids = torch.stack(rest, dim=-1) if rest else empty
        return {
            "trace": trace * unit,
            "frobenius": square.sqrt() * unit,
            "entropy": entropy,
            "effective_rank": entropy.exp(),
            "negative_share": negative / z,
            "log_spread": variance.clamp(min=0.0).sqrt(),
            "count_above": grids[..., :n],
            "count_below": grids[..., n : 2 * n],
            "inverse_sum": grids[..., 2 * n :].reshape(*mean.shape[:-1], n, m) / unit,
        }

    found = jackknife(samples, derive)
    return {k: (v, torch.zeros_like(e)) for k, (v, e) in found.items()} if exact else found


def jackknife(samples: Tensor, derive: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Smooth functions g of the mean of n samples, with standard errors; the error is NaN for one sample.

    error^2 = (n - 1) / n sum_i (g_i - mean_i g_i)^2, where g_i leaves sample i out. For a linear g this is the usual
    standard deviation over sqrt(n).

    Args:
        samples: (n, m), one sample a row.
        derive: from means (..., m) to named values (..., *shape).

    Source:
        Efron, The Jackknife, the Bootstrap and Other Resampling Plans (SIAM 1982), chapter 3.

    Example:
        >>> value, error = jackknife(torch.tensor([[1.0], [3.0]]), lambda m: {"twice": 2 * m[..., 0]})["twice"]
        >>> float(value), float(error)
        (4.0, 2.0)
    """
    n = samples.shape[0]
    mean = samples.mean(dim=0)
    value = derive(mean)
    if n == 1:
        return {k: (v, torch.full_like(v, math.nan)) for k, v in value.items()}
    without = derive(mean + (mean - samples) / (n - 1))
    errors = {k: ((g - g.mean(dim=0)) ** 2).sum(dim=0).mul((n - 1) / n).sqrt() for k, g in without.items()}
    return {k: (v, errors[k]) for k, v in value.items()}


def _terms(node: Tensor, thresholds: Sequence[float], uppers: Sequence[float]) -> Tensor:
    """The functions f(lam) whose traces are needed, (f, *node.shape)."""
    size = node.abs()
    plus = node.clamp(min=0.0)
    # x log x is 0 at 0; its logarithm must not be taken there.
    log = torch.where(size > 0, size, 1.0).log()
    above = [(node > t).to(node) for t in thresholds]
    below = [(node < -t).to(node) for t in thresholds]
    inverse = torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 0.0)
    windows = [inverse * ((size > t) & (size <= u)) for t in thresholds for u in uppers]
    sums = [node, node**2, (-node).clamp(min=0.0), size, size * log, plus, plus * log, plus * log**2]
    return torch.stack([*sums, *above, *below, *windows])
