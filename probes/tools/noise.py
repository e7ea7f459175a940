"""Noise of mini-batch gradients: its variance along directions, and the curvature of each batch along its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from landscape.curvature.products import gradient, hessian_product
from landscape.loss.objective import Objective
from landscape.loss.samples import common_length, place, take

__all__ = ["Training", "along", "batch_sharpness", "variance"]


@dataclass(frozen=True, eq=False)
class Training:
    """What a run makes its gradients of, from a checkpoint on; each batch is (inputs, targets).

    Attributes:
        size: samples of a batch; the last one of an epoch may be smaller.
        batches: n -> the next n batches, one after the other.
        samples: the training set from which batches are drawn without replacement; None where every batch is fresh.
    """

    size: int
    batches: Callable[[int], Iterator[Any]]
    samples: Any | None = None

    @property
    def whole(self) -> bool:
        """Whether every batch is the whole training set."""
        return self.samples is not None and self.size >= common_length(self.samples)

    def some(self, most: int, n: int) -> tuple[list[Any], float]:
        """At most so many samples, and the share of the variance that is left: 1 - b / N without replacement.

        Of a training set they are spread evenly over it; where batches are fresh they are those of the next n.
        """
        if self.samples is None:
            found, left = [], most
            for batch in self.batches(n):
                size = min(left, common_length(batch))
                found.append(take(batch, slice(0, size)))
                left -= size
                if not left:
                    break
            return found, 1.0
        N = common_length(self.samples)
        index = torch.linspace(0, N - 1, min(most, N), dtype=torch.float64).round().long()
        return [take(self.samples, index)], 1 - min(self.size, N) / N


def along(objective: Objective, w: Tensor, V: Tensor, data: Sequence[Any]) -> Tensor:
    """Slopes v'g of the loss of every single sample of some batches, for the rows v of V (k, P); (N, k).

    By one gradient per chunk, of the losses weighted with u: its product with v, derived by u.
    """
    chunks, rows = objective.chunks, []
    for batch in _placed(objective, data):
        for i in range(0, common_length(batch), objective.chunk):
            part = take(batch, slice(i, min(i + objective.chunk, common_length(batch))))
            with chunks.plain(), torch.enable_grad():
                x = w.detach().requires_grad_(True)
                losses = chunks.apply(x, part, chunks.per_sample_loss)
                u = torch.zeros_like(losses, requires_grad=True)
                slope = torch.autograd.grad(losses, x, u, create_graph=True)[0]
                columns = [torch.autograd.grad(slope @ v, u, retain_graph=True)[0] for v in V]
            rows.append(torch.stack(columns, dim=1).detach())
    return torch.cat(rows)


def variance(x: Tensor, size: int, share: float) -> tuple[Tensor, Tensor]:
    """Of the mean of a batch of so many samples, from samples x (N, k), and its standard error by jackknife; (k,) each.

    s^2 share / size with the unbiased variance s^2 of a sample; leaving out the i-th,
    s_i^2 = ((N - 1) s^2 - N / (N - 1) (x_i - mean)^2) / (N - 2).

    Example:
        >>> var, error = variance(torch.tensor([[1.0], [2.0], [3.0], [6.0]]), 2, 0.5)
        >>> round(var.item(), 6), error.item() > 0
        (1.166667, True)
    """
    N = len(x)
    if N < 2:
        unknown = torch.full_like(x[0], torch.nan)
        return unknown, unknown
    s2, off = x.var(0), (x - x.mean(0)) ** 2
    factor = share / size
    if N < 3:
        return factor * s2, torch.full_like(s2, torch.nan)
    left = ((N - 1) * s2 - N / (N - 1) * off) / (N - 2)
    return factor * s2, factor * ((N - 1) * left.var(0, correction=0)).sqrt()


def batch_sharpness(objective: Objective, w: Tensor, training: Training, n: int) -> Tensor:
    """g_B'H_B g_B / |g_B|^2 at w of each of the next n batches; one where all are the whole training set; (m,).

    Source:
        Andreyev and Beneventano, Edge of stochastic stability (arXiv 2412.20553).
    """
    chunks, found = objective.chunks, []
    for batch in _placed(objective, islice(training.batches(n), 1 if training.whole else n)):
        size = common_length(batch)
        pieces = [take(batch, slice(i, min(i + objective.chunk, size))) for i in range(0, size, objective.chunk)]

        def term(x: Tensor, piece: Any) -> Tensor:
            losses: Tensor = chunks.apply(x, piece, chunks.per_sample_loss)
            return losses.sum() / size  # noqa: B023

        terms = [lambda x, piece=piece: term(x, piece) for piece in pieces]
        with chunks.plain():
            g = torch.stack([gradient(f, w) for f in terms]).sum(0)
            found.append(g @ hessian_product(terms, w)(g) / (g @ g))
    return torch.stack(found) if found else w.new_zeros(0)


def _placed(objective: Objective, data: Any) -> Iterator[Any]:
    return (place(batch, dtype=objective.dtype, device=objective.device) for batch in data)
