"""Intervals of traces of functions of an operator that were estimated from random vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor

__all__ = ["LEVEL", "SIGMAS", "Estimate", "Side", "deviations", "jackknife", "skewness", "student"]

T = TypeVar("T")
NOTHING = 1e-12

LEVEL = 0.95
"""Probability with which an interval covers, at least."""

# Two half-widths are known, and the smaller one is taken: each may miss with half of what is allowed.
_EACH = 1 - (1 - LEVEL) / 4
SIGMAS = float(ndtri(_EACH))


class Estimate(NamedTuple, Generic[T]):
    """A number, its standard error over the random vectors, and the ends of its interval."""

    value: T
    stderr: T
    low: T
    high: T


def _about_mean(f: Tensor, counts: Tensor) -> Tensor:
    """What can vary: the counts add up to the same number for every vector. Rounding of a constant is nothing."""
    about = f - (f * counts).sum(-1, keepdim=True) / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
    return torch.where(about.abs() > NOTHING * f.abs().amax(-1, keepdim=True), about, 0.0)


def student(n: int) -> float:
    """Half-width, in standard errors over n vectors, by Student's t with n - 1 degrees of freedom.

    Example:
        >>> round(student(2), 1), round(student(10), 2)
        (25.5, 2.69)
    """
    return float(stdtrit(n - 1, _EACH)) if n > 1 else math.inf


class Side(NamedTuple):
    """How far a sum may lie to one side, and the counts that put it there."""

    far: Tensor
    counts: Tensor


def skewness(f: Tensor, counts: Tensor, n: int) -> Tensor:
    r"""Skewness of the mean over n normal vectors of sum_j count_j f_j, at most: chi^2_1 has the third moment 8.

    Example:
        >>> f = torch.tensor([1.0, 0.0])
        >>> [round(float(skewness(f, torch.tensor([c, 1e6]), 2)), 2) for c in (1.0, 400.0)]
        [2.0, 0.1]
    """
    f = _about_mean(f, counts)
    variance, third = 2 / n * (counts * f**2).sum(-1), 8 / n**2 * (counts * f.abs() ** 3).sum(-1)
    return torch.where(variance > 0, third / variance**1.5, 0.0)


def deviations(f: Tensor, counts: Tensor, n: int) -> tuple[Side, Side]:
    r"""How far sum_j count_j f_j may lie above and below what n random vectors gave for it.

    For normal vectors the part of an eigenvalue is f chi^2_1, of variance 2 f^2; for random signs it is at most that.
    So the variance is known from the estimated spectrum itself: V = 2 / n sum_j count_j f_j^2, with f about its mean,
    since the counts add up to P. It is better known than from the spread of n numbers; and where a few eigenvalues
    dominate, so that the sum is skewed, V grows with the sum. The ends S solve (S - found)^2 = z^2 V S / found, for
    the terms f > 0 and f < 0 each, and are added in squares. The `counts` of a side are those that lead there, for
    functions that are far from linear.

    Args:
        f: (..., m) what is summed, linearised if it is no sum.
        counts: (m,) eigenvalues at each place, those alone that the vectors estimate.
        n: number of vectors.

    Source:
        the ends as in Wilson, J. Am. Stat. Assoc. 22 (1927); their sum as in Zou, Donner, Stat. Med. 27 (2008); the
        variance: Avron, Toledo, J. ACM 58 (2011).

    Example:
        >>> up, down = deviations(torch.tensor([8.0, 0.0]), torch.tensor([1.0, 99.0]), 2)
        >>> bool(up.far > down.far), bool(down.far < 8)
        (True, True)
    """
    all_counts = counts.sum()
    if not all_counts > 0:
        still = Side(torch.zeros_like(f[..., 0]), counts.expand_as(f))
        return still, still
    f = _about_mean(f, counts)
    sums, ups, downs = [], [], []
    for part in (f.clamp(min=0.0), (-f).clamp(min=0.0)):
        total, variance = (counts * part).sum(-1), 2 / n * (counts * part**2).sum(-1)
        shift = torch.where(total > 0, SIGMAS**2 / 2 * variance / total, 0.0)
        half = (SIGMAS**2 * variance + shift**2).sqrt()
        sums.append(total)
        ups.append(half + shift)
        downs.append(half - shift)

    def side(plus: Tensor, minus: Tensor, sign: int) -> Side:
        far = (plus**2 + minus**2).sqrt()
        grow, shrink = (
            torch.where(far * s > 0, x**2 / (far * s), 0.0)[..., None] for x, s in zip((plus, minus), sums, strict=True)
        )
        moved = counts * torch.where(f > 0, 1 + sign * grow, 1 - sign * shrink).clamp(min=0.0)
        return Side(far, moved * (all_counts / moved.sum(-1, keepdim=True)))

    return side(ups[0], downs[1], 1), side(downs[0], ups[1], -1)


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
