"""Functions of a whole spectrum, with intervals, from the quadratures of a few random vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.probes.linalg.spectra.atoms import Atoms, Estimates, Values, within
from landscape.probes.linalg.trace.quadrature import Quadrature

__all__ = ["spectral_statistics"]


def spectral_statistics(
    quadrature: Quadrature, *, thresholds: Sequence[float] = (), uppers: Sequence[float] = (), exact: bool = False
) -> Estimates:
    r"""Statistics of the spectrum lam_1..lam_P, each with its standard error over the vectors and an interval.

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

    A statistic is a smooth function of means over vectors; its error is the jackknife's, and its interval that of
    `Atoms.estimate`. Ratios have a bias of the order of the error squared. What has no value (entropy of A = 0) is NaN.

    Args:
        quadrature: from `lanczos_quadrature`.
        thresholds: positive, in the units of the eigenvalues.
        uppers: positive, in the units of the eigenvalues; infinity is allowed.
        exact: the vectors were all unit vectors, not a random draw: errors are then 0.

    Raises:
        LandscapeError: for thresholds or uppers that are not positive.

    Example:
        >>> from landscape.probes.linalg import lanczos_quadrature
        >>> from landscape.curvature.symmetric import Symmetric
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.0], dtype=torch.float64)))
        >>> q = lanczos_quadrature(A, n_vectors=4, n_steps=4, seed=0, start=torch.eye(4, dtype=torch.float64))
        >>> rank = spectral_statistics(q, exact=True)["effective_rank"]
        >>> round(float(rank.value), 9), float(rank.stderr)
        (2.828427125, 0.0)
    """
    if not all(x > 0 for x in (*thresholds, *uppers)):
        raise LandscapeError(
            f"expected positive thresholds and uppers, found {tuple(thresholds)} and {tuple(uppers)}. "
            "Eigenvalues around zero are rounding and cannot be counted."
        )
    atoms = Atoms.of_quadrature(quadrature, exact=exact).marked((*thresholds, *uppers))
    # In units of the largest node, so that the logarithms do not depend on the scale of the loss.
    unit = atoms.scale or 1.0
    sums, jumps = _terms(atoms.values, unit, thresholds, uppers)
    top, n = math.log(quadrature.size), len(thresholds)

    def smooth(counts: Tensor) -> Values:
        trace, square, negative, z, zlog, plus, pluslog, pluslog2 = (counts @ sums.T).unbind(-1)
        entropy = (z.log() - zlog / z).clamp(0.0, top)
        variance = pluslog2 / plus - (pluslog / plus) ** 2
        return {
            "trace": trace * unit,
            "square": square * unit**2,
            "frobenius": square.sqrt() * unit,
            "entropy": entropy,
            "effective_rank": entropy.exp(),
            "negative_share": negative / z,
            "log_spread": variance.clamp(min=0.0).sqrt(),
        }

    def grids(counts: Tensor) -> Values:
        found = counts @ jumps.T
        windows = found[..., 2 * n :].reshape(*counts.shape[:-1], n, len(uppers))
        return {
            "count_above": found[..., :n],
            "count_below": found[..., n : 2 * n],
            "inverse_sum": windows / unit,
        }

    out = atoms.estimate(smooth)
    # Where a statistic is a function of another one, so are the ends.
    square, entropy = within(out.pop("square"), 0.0), within(out["entropy"], 0.0, top)
    out["entropy"] = entropy
    out["effective_rank"] = out["effective_rank"]._replace(low=entropy.low.exp(), high=entropy.high.exp())
    out["frobenius"] = out["frobenius"]._replace(low=square.low.sqrt(), high=square.high.sqrt())
    out["negative_share"] = within(out["negative_share"], 0.0, 1.0)
    out["log_spread"] = within(out["log_spread"], 0.0)
    return out | {name: within(found, 0.0) for name, found in atoms.estimate(grids, jumps=True).items()}


def _terms(values: Tensor, unit: float, thresholds: Sequence[float], uppers: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The functions f(lam / unit) whose traces are needed, (f, *values.shape): smooth ones, and those that jump."""
    above = [(values > t).to(values) for t in thresholds]
    below = [(values < -t).to(values) for t in thresholds]
    inside = [(values.abs() > t) & (values.abs() <= u) for t in thresholds for u in uppers]
    node = values / unit
    size = node.abs()
    plus = node.clamp(min=0.0)
    # x log x is 0 at 0; its logarithm must not be taken there.
    log = torch.where(size > 0, size, 1.0).log()
    inverse = torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 0.0)
    windows = [inverse * some for some in inside]
    sums = [node, node**2, (-node).clamp(min=0.0), size, size * log, plus, plus * log, plus * log**2]
    jumps = [*above, *below, *windows]
    return torch.stack(sums), torch.stack(jumps) if jumps else node.new_zeros(0, len(node))
