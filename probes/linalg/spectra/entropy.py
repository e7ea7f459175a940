"""How a spectrum is spread out: entropy, ranks, power law, windows. From all eigenvalues, or estimated from few."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.probes.linalg.spectra.atoms import ROUNDING, Atoms, Estimates, Values, within
from landscape.probes.linalg.trace.intervals import SIGMAS, Estimate

__all__ = ["flattest_share", "power_law", "shape_statistics", "window_sums"]

_RESAMPLES = 400


def shape_statistics(atoms: Atoms, *, seed: int = 0) -> Estimates:
    r"""Statistics of a spectrum that need no threshold, each with its standard error over the vectors and an interval.

    With p_i = |lam_i| / sum |lam|, and q_i = lam_i / sum lam over the positive eigenvalues:

    ===================  =======================================================================
    trace                sum lam_i
    entropy              S = -sum p_i log p_i, in nats
    effective_rank       exp(S)
    participation_ratio  (sum |lam_i|)^2 / sum lam_i^2
    negative_share       sum of p_i over lam_i < 0
    log_spread           standard deviation of log lam_i weighted by q_i
    log_iqr              interquartile range of log lam_i weighted by q_i
    ===================  =======================================================================

    The quantile at level c is the smallest log lam with sum of q up to there >= c (no interpolation: splitting an
    eigenvalue in two equal ones changes nothing). What has no value (entropy of the matrix 0) is NaN.

    Args:
        atoms: the spectrum.
        seed: of the bootstrap behind the error of `log_iqr`; the errors of the others are the jackknife's.

    Source:
        entropy and effective rank: Roy, Vetterli, The effective rank (EUSIPCO 2007). Spreads: definition of this
        project; the paper gives none.

    Example:
        >>> found = shape_statistics(Atoms.of_values(torch.tensor([2.0, 2.0, 2.0, -2.0])))
        >>> round(float(found["effective_rank"][0]), 9), float(found["negative_share"][0])
        (4.0, 0.25)
    """
    unit = atoms.scale or 1.0  # logarithms must not depend on the scale of the loss
    x = atoms.values / unit
    size, plus = x.abs(), x.clamp(min=0.0)
    log = torch.where(size > 0, size, 1.0).log()
    top = math.log(max(atoms.size, 1.0))

    def smooth(counts: Tensor) -> Values:
        z, square, weight = ((counts * f).sum(-1) for f in (size, size**2, plus))
        entropy = (z.log() - (counts * size * log).sum(-1) / z).clamp(0.0, top)
        mean = (counts * plus * log).sum(-1) / weight
        variance = (counts * plus * (log - mean[..., None]) ** 2).sum(-1) / weight
        return {
            "trace": (counts * x).sum(-1) * unit,
            "entropy": entropy,
            "effective_rank": entropy.exp(),
            "participation_ratio": z**2 / square,
            "negative_share": (counts * (size - plus)).sum(-1) / z,
            "log_spread": variance.sqrt(),
        }

    found = atoms.estimate(smooth)
    entropy = found["entropy"] = within(found["entropy"], 0.0, top)
    found["effective_rank"] = found["effective_rank"]._replace(low=entropy.low.exp(), high=entropy.high.exp())
    found["negative_share"] = within(found["negative_share"], 0.0, 1.0)
    for name in ("participation_ratio", "log_spread"):
        found[name] = within(found[name], 0.0)
    return {**found, "log_iqr": _quartile_range(atoms.heavy(), seed=seed)}


def _quartile_range(atoms: Atoms, *, seed: int) -> Estimate[Tensor]:
    """Interquartile range of log lam, weighted by lam > 0: bootstraps for the error, levels moved for the interval."""
    x = atoms.values / (atoms.scale or 1.0)
    plus, log = x.clamp(min=0.0), torch.where(x > 0, x, 1.0).log()
    first = int((plus <= 0).sum())

    def at(share: Tensor, level: float) -> Tensor:
        # A level that is met exactly is met, whatever the sum was rounded to.
        place = (share < level - 1e-12).sum(-1).clamp(min=first)
        ends = torch.where(place < len(log), log[place.clamp(max=len(log) - 1)], math.inf)
        return torch.where(share.isnan().any(-1), math.nan, ends)

    def spread(counts: Tensor) -> Tensor:
        total = (counts * plus).cumsum(-1)
        share = total / total[..., -1:]
        return at(share, 0.75) - at(share, 0.25)

    n, mean = len(atoms.counts), atoms.counts.mean(dim=0)
    value = spread(mean)
    if atoms.exact:
        error = torch.where(value.isnan(), math.nan, 0.0).to(value)
    elif n == 1:
        error = torch.full_like(value, math.nan)
    else:
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
        # The spread of means of n draws with replacement is short of the true one by (n - 1) / n.
        error = spread(torch.from_numpy(draws / n) @ atoms.counts).std(dim=0) * math.sqrt(n / (n - 1))
    # The variance of the share up to each value, as in `deviations`; the weight of the nodes beside it is added.
    total, random = (mean * plus).sum(), mean * (0.0 if atoms.exact else atoms.sampled) * plus**2
    share = (mean * plus).cumsum(0) / total
    variance = 2 / n * ((1 - 2 * share) * random.cumsum(0) + share**2 * random.sum()) / total**2
    beside = torch.maximum(*atoms.loose())
    beside = plus * torch.cat([beside, beside[-1:]]) / total if len(beside) else 0 * plus
    off = SIGMAS * variance.clamp(min=0.0).sqrt() + beside + (math.inf if atoms.blind else 0.0)
    most, least = share + off, share - off
    low, high = at(most, 0.75) - at(least, 0.25), at(least, 0.75) - at(most, 0.25)
    rounding = 2 * ROUNDING * atoms.eps / at(most, 0.25).exp()
    low, high = low - rounding, high + rounding
    return within(Estimate(value, error, low, high), 0.0)


def power_law(values: Tensor, *, first: int = 1, last: int = 100, floor: float = 0.0) -> tuple[float, float, int]:
    r"""Least-squares slope of log lam_i against log i over the ranks first..last of the eigenvalues above `floor`.

    Args:
        values: eigenvalues (P,), in any order; rank 1 is the largest.
        first: first rank of the fit.
        last: last rank of the fit; fewer if there are not so many eigenvalues.
        floor: eigenvalues not above it are left out.

    Returns:
        (slope, its standard error, last rank used). The error is that of the fit: ordered eigenvalues scatter together,
        so it is too small as an error of repeated measurements. NaN with fewer than three eigenvalues.

    Raises:
        LandscapeError: for a range of fewer than three ranks.

    Source:
        definition of this project; the paper gives none.

    Example:
        >>> i = torch.arange(1, 51, dtype=torch.float64)
        >>> slope, error, last = power_law(7 * i**-1.5)
        >>> round(slope, 9), error < 1e-9, last
        (-1.5, True, 50)
    """
    if first < 1 or last < first + 2:
        raise LandscapeError(f"expected ranks first >= 1 and last >= first + 2, found {first} and {last}.")
    kept = values[values > floor].to("cpu", torch.float64).sort(descending=True).values[first - 1 : last]
    n = len(kept)
    if n < 3:
        return math.nan, math.nan, first - 1 + n
    x = torch.arange(first, first + n, dtype=torch.float64).log()
    x, y = x - x.mean(), (kept / kept[0]).log()
    y = y - y.mean()
    slope = float(x @ y / (x @ x))
    error = math.sqrt(float(((y - slope * x) ** 2).sum()) / (n - 2) / float(x @ x))
    return slope, error, first - 1 + n


def window_sums(atoms: Atoms, lower: Sequence[float], upper: Sequence[float]) -> Estimates:
    r"""`inverse_sum`: sum of 1 / lam_i over lower < lam_i <= upper, and `count`: how many; (lower, upper) each.

    A window with lower >= upper is none: NaN. An empty one has the sum 0.

    Args:
        atoms: the spectrum.
        lower: positive.
        upper: positive; infinity is allowed.

    Raises:
        LandscapeError: for limits that are not positive.

    Example:
        >>> found = window_sums(Atoms.of_values(torch.tensor([4.0, 0.5, 0.25, -1.0])), [0.1, 0.3], [1.0])
        >>> found["inverse_sum"][0].tolist(), found["count"][0].tolist()
        ([[6.0], [2.0]], [[2.0], [1.0]])
    """
    if not all(x > 0 for x in (*lower, *upper)):
        raise LandscapeError(
            f"expected positive limits of windows, found {tuple(lower)} and {tuple(upper)}. "
            "1/|eigenvalue| of eigenvalues around zero is rounding."
        )
    atoms = atoms.marked([x for x in (*lower, *upper) if math.isfinite(x)])
    unit = atoms.scale or 1.0
    x = atoms.values / unit
    inverse = torch.where(x > 0, 1 / torch.where(x > 0, x, 1.0), 0.0)
    inside = torch.stack(
        [torch.stack([((atoms.values > a) & (atoms.values <= b)).to(x) for b in upper]) for a in lower]
    )
    none = torch.tensor([[a >= b for b in upper] for a in lower])

    def derive(counts: Tensor) -> Values:
        def total(f: Tensor) -> Tensor:
            return torch.einsum("...m,abm->...ab", counts, f).masked_fill(none, math.nan)

        return {"inverse_sum": total(inside * inverse) / unit, "count": total(inside)}

    return {name: within(found, 0.0) for name, found in atoms.estimate(derive, jumps=True).items()}


def flattest_share(values: Tensor, lower: float, upper: float, *, share: float = 0.1) -> float:
    r"""How much of sum 1 / lam over lower < lam <= upper is due to the smallest tenth of those eigenvalues.

    Where a tenth is no whole number, the next eigenvalue counts in part: equal eigenvalues give 0.1 for any number of
    them, and dominance by the flattest shows as a value near 1. NaN for an empty window.

    Args:
        values: all eigenvalues (P,).
        lower: lower end of the window.
        upper: upper end of the window.
        share: the smallest so much of the eigenvalues.

    Source:
        definition of this project; the paper gives none.

    Example:
        >>> round(flattest_share(torch.tensor([0.001] + [1.0] * 9), 1e-6, 1.0), 4)
        0.9911
    """
    inside = values[(values > lower) & (values <= upper)].to("cpu", torch.float64).sort().values
    if not len(inside):
        return math.nan
    inverse = inside[0] / inside  # in units of the largest, so that the scale of the loss does not matter
    part = (share * len(inside) - torch.arange(len(inside), dtype=torch.float64)).clamp(0.0, 1.0)
    return float((part * inverse).sum() / inverse.sum())
