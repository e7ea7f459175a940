"""A spectrum as atoms, exact or estimated, and functions of it with errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from landscape.probes.linalg.trace.intervals import Estimate, deviations, jackknife, skewness, student
from landscape.probes.linalg.trace.quadrature import Quadrature

__all__ = ["ROUNDING", "Atoms", "Estimates", "Values", "within"]

Values = dict[str, Tensor]
Estimates = dict[str, Estimate[Tensor]]

SHARP = 1e-3
"""A Ritz pair whose residual is below so many distances to a place lies on its side of it for certain."""
SKEWED = 0.5
"""Skewness up to which Student's t is trusted."""
ROUNDING = 64.0
"""Half-width of an interval that has no other, in roundings of the terms of the sum."""


@dataclass(frozen=True, eq=False)
class Atoms:
    r"""A spectrum as atoms: sum_i f(lam_i) = mean over rows of sum_j count_j f(value_j). float64 on the CPU.

    Attributes:
        values: (m,) ascending.
        counts: (n, m) how many eigenvalues each random vector puts at each value; one row of ones if exact.
        exact: whether the counts are those of all eigenvalues, or of all unit vectors, and no random draw.
        sampled: (m,) bool, the count is a random number.
        change: (k, m) how the mean count changed from k smaller numbers of Lanczos steps to all of them.
        residual: (n, m) of each vector's node as an eigenvalue.
        eps: rounding of the operator.
        blind: the vectors have missed a part of the space: nothing bounds the error.

    Example:
        >>> Atoms.of_values(torch.tensor([3.0, 1.0])).values.tolist()
        [1.0, 3.0]
    """

    values: Tensor
    counts: Tensor
    exact: bool
    sampled: Tensor
    change: Tensor
    residual: Tensor
    eps: float = torch.finfo(torch.float64).eps
    blind: bool = False

    @classmethod
    def of_values(cls, values: Tensor) -> Atoms:
        """All eigenvalues (P,), in any order."""
        ordered = values.detach().to("cpu", torch.float64).sort().values
        ones, none = torch.ones(1, len(ordered), dtype=torch.float64), torch.zeros(len(ordered), dtype=torch.float64)
        return cls(ordered, ones, True, none.bool(), none[None], none[None])

    @classmethod
    def of_quadrature(cls, q: Quadrature, *, exact: bool = False) -> Atoms:
        """The quadratures of random vectors; `exact` if they are all unit vectors instead."""
        real, early = q.count > 0, q.early_weight > 0
        values, place = map(
            torch.from_numpy, np.unique(torch.cat([q.node[real], q.early_node[early]]), return_inverse=True)
        )
        n, m, k = len(real), len(values), int(real.sum())
        at = (torch.arange(n)[:, None].expand_as(real)[real], place[:k])
        parts = torch.arange(len(early))[:, None, None].expand_as(early)[early]
        none, change = torch.zeros(n, m, dtype=torch.float64), torch.zeros(len(early), m, dtype=torch.float64)
        full = none.index_put(at, q.size * q.weight[real], accumulate=True).mean(0)
        change.index_put_((parts, place[k:]), -q.size / n * q.early_weight[early], accumulate=True)
        return cls(
            values=values,
            counts=none.index_put(at, q.count[real], accumulate=True),
            exact=exact,
            sampled=none.index_put(at, (~q.known[real]).double(), accumulate=True).sum(0) > 0,
            change=change + full,
            residual=none.index_put(at, q.residual[real], accumulate=True),
            eps=q.eps,
            blind=q.blind and not exact,
        )

    @property
    def eigenvalues(self) -> bool:
        """Whether the values are all eigenvalues, computed one by one."""
        return self.exact and len(self.counts) == 1

    @property
    def size(self) -> float:
        """Number of eigenvalues P."""
        return float(self.counts.sum(dim=1).mean())

    @property
    def scale(self) -> float:
        """Largest magnitude."""
        return float(self.values[(self.counts > 0).any(0)].abs().max())

    def estimate(
        self,
        derive: Callable[[Tensor], Values],
        *,
        jumps: bool = False,
    ) -> Estimates:
        """Smooth functions of the counts (.., m): values, the jackknife's standard errors (0 if exact), intervals.

        The interval is the smaller of two, that of `deviations` and, unless the numbers are skewed, that of Student's
        t. What the Lanczos steps leave out is judged by the largest change since fewer of them; with `jumps`, for sums
        of functions that jump, by the counts beside the place.

        Args:
            derive: from counts (..., m) to named values (..., *shape).
            jumps: the values are sums over the spectrum of functions that jump.
        """
        n, mean = len(self.counts), self.counts.mean(dim=0)
        found, gradients = jackknife(self.counts, derive), _gradients(mean, derive)
        random = mean * (0.0 if self.exact else self.sampled)
        sides = {name: deviations(g, random, n) for name, g in gradients.items()}
        # A sum is furthest where its own deviation leads. What is no sum may be further where that of another leads.
        led = [side.counts for both in sides.values() for side in both if not jumps]
        moved = derive(mean - random + torch.stack(led)) if led else {}
        beside = self.loose() if jumps else None
        out: Estimates = {}
        for name, gradient in gradients.items():
            value, error = found[name]
            if self.exact:
                error = torch.where(value.isnan(), math.nan, 0.0).to(value)
            up, down = (side.far for side in sides[name])
            if name in moved:
                change = (moved[name] - value).nan_to_num()
                up, down = torch.fmax(up, change.amax(0)), torch.fmax(down, -change.amin(0))
            # Numbers that are far from normal spread least where their mean is too low.
            trusted = (skewness(gradient, random, n) <= SKEWED) & (n > 1)
            by_spread = torch.where(trusted, student(n) * error, math.inf)
            too_low, too_high = self._left_out(gradient, beside)
            rounding = ROUNDING * self.eps * (gradient * mean).abs().sum(-1) + (math.inf if self.blind else 0.0)
            up = torch.fmin(up, by_spread) + too_low + rounding
            down = torch.fmin(down, by_spread) + too_high + rounding
            out[name] = Estimate(value, error, value - down, value + up)
        return out

    def _left_out(self, gradient: Tensor, beside: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """How far the quadrature may be too low and too high."""
        if beside is None:
            change = (gradient[..., None, :] * self.change).sum(-1).nan_to_num().abs().amax(-1)
            return change, change
        step, (below, above) = gradient.diff(dim=-1), beside
        rise, fall = step.clamp(min=0.0), (-step).clamp(min=0.0)
        return (below * rise + above * fall).sum(-1), (above * rise + below * fall).sum(-1)

    def loose(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (m - 1,) that may lie above a place between two values although counted below it; the reverse.

        The true measure up to a place differs from that of a Gauss rule by no more than the weight of the next node
        (Chebyshev, Markov, Stieltjes). Where that node is an eigenvalue, the next one stands in its place.
        """
        if self.eigenvalues:
            return (self.values[1:] * 0,) * 2
        cell = torch.arange(len(self.values) - 1)
        places = (self.values[1:] + self.values[:-1]) / 2
        rounding = ROUNDING * self.eps * self.scale
        below, above = torch.zeros_like(places), torch.zeros_like(places)
        for counts, residual in zip(self.counts, self.residual, strict=True):
            node = counts.nonzero()[:, 0]
            distance = (places[:, None] - self.values[node]).abs()
            loose = residual[node] + rounding > SHARP * distance
            for total, side in ((below, node <= cell[:, None]), (above, node > cell[:, None])):
                nearest = torch.where(loose & side, distance, math.inf).min(1)
                total += torch.where(nearest.values < math.inf, counts[node][nearest.indices], 0.0)
        return below / len(self.counts), above / len(self.counts)

    def heavy(self) -> Atoms:
        """Only values of some weight."""
        some = (self.counts > 0).any(0)
        names = ("values", "counts", "sampled", "change", "residual")
        return replace(self, **{name: getattr(self, name)[..., some] for name in names})

    def marked(self, places: Sequence[float]) -> Atoms:
        """The same with values of no weight at places +-x where functions jump, so that `estimate` sees the jumps."""
        marks = [
            side for x in places for s in (x, -x) for side in (s, math.nextafter(s, s + 1), math.nextafter(s, s - 1))
        ]
        if not marks or self.eigenvalues:
            return self
        values, order = torch.cat([self.values, torch.tensor(marks, dtype=torch.float64)]).sort()
        at = order.argsort()[: len(self.values)]

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(*x.shape[:-1], len(values)).index_copy(-1, at, x)

        return replace(
            self,
            values=values,
            counts=spread(self.counts),
            sampled=spread(self.sampled),
            change=spread(self.change),
            residual=spread(self.residual),
        )


def within(estimate: Estimate[Tensor], least: float, most: float = math.inf) -> Estimate[Tensor]:
    """The same, the ends of the interval no further than a value can lie."""
    return estimate._replace(low=estimate.low.clamp(min=least), high=estimate.high.clamp(max=most))


def _gradients(mean: Tensor, derive: Callable[[Tensor], Values]) -> Values:
    """Derivatives (*shape, m) of all values by the counts."""
    counts = mean.clone().requires_grad_()
    out: Values = {}
    for name, value in derive(counts).items():
        flat = [torch.autograd.grad(x, counts, retain_graph=True)[0] for x in value.reshape(-1)]
        out[name] = torch.stack(flat).reshape(*value.shape, -1) if flat else mean.new_zeros(*value.shape, len(mean))
    return out
