"""Directions in parameter space along which a landscape is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.linalg import lanczos

End = Literal["top", "bottom"]

__all__ = [
    "Direction",
    "eigen_directions",
    "filter_normalised",
    "gradient_direction",
    "layer_normalised",
    "oriented",
    "random_directions",
]


@dataclass(frozen=True, eq=False)
class Direction:
    """A labelled unit vector (P,); `residual` is |H u - lambda u| of an eigenvector, NaN for any other direction."""

    label: str
    vector: Tensor
    residual: float = math.nan


def eigen_directions(
    H: Symmetric, which: End, count: int, *, tol: float, max_products: int | None, seed: int
) -> list[Direction]:
    """The `count` outermost eigenvectors at one end of the spectrum, outermost first."""
    if count < 1:
        return []
    pairs = lanczos(H, k=count, which=which, tol=tol, max_products=max_products, seed=seed)
    order = range(len(pairs.values)) if which == "top" else reversed(range(len(pairs.values)))
    return [
        Direction(f"{which} {rank}", oriented(pairs.vectors[:, i]), float(pairs.residuals[i]))
        for rank, i in enumerate(order, start=1)
    ]


def random_directions(objective: Objective, w: Tensor, count: int, *, filtered: bool, seed: int) -> list[Direction]:
    """Gaussian directions, optionally filter-normalised, then scaled to unit length."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for rank in range(1, count + 1):
        u = torch.randn(objective.size, generator=generator, dtype=torch.float64).to(w)
        u = filter_normalised(objective, u, w) if filtered else u
        if float(u.norm()) == 0:
            raise LandscapeError("filter normalisation needs weights that are not all zero.")
        out.append(Direction(f"{'filter' if filtered else 'random'} {rank}", u / u.norm()))
    return out


def gradient_direction(gradient: Tensor) -> list[Direction]:
    """The normalised gradient."""
    norm = float(gradient.norm())
    if norm == 0:
        raise LandscapeError("the gradient is exactly zero here, so it has no direction; use gradient=False.")
    return [Direction("gradient", gradient / norm)]


def oriented(v: Tensor) -> Tensor:
    """A vector with its sign fixed (largest entry positive), so that sides mean the same on every machine."""
    return v * torch.sign(v[v.abs().argmax()])


def filter_normalised(objective: Objective, direction: Tensor, w: Tensor) -> Tensor:
    """The direction with every filter scaled to the norm of the same filter of w (Li et al., 2018); not unit."""
    norms = objective.layout.filter_norms(direction)
    scale = torch.where(norms > 0, objective.layout.filter_norms(w) / norms, torch.zeros_like(norms))
    return direction * scale


def layer_normalised(objective: Objective, direction: Tensor, w: Tensor) -> Tensor:
    """The direction with every parameter tensor scaled to the norm of the same tensor of w; not unit.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.ones(1, 2), torch.ones(1, 1)))
        >>> found = layer_normalised(objective, torch.ones(3), torch.tensor([0.0, 2.0, 3.0]))
        >>> [round(x, 5) for x in found.square().tolist()]
        [2.0, 2.0, 9.0]
    """
    scaled = [
        d * (p.norm() / norm if (norm := d.norm()) > 0 else 0.0)
        for d, p in zip(*(objective.layout.unflatten(x).values() for x in (direction, w)), strict=True)
    ]
    return torch.cat([d.reshape(-1) for d in scaled])
