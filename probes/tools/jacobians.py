"""The Jacobian of one pass of a recursion, by products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.loss.failures import explained
from landscape.loss.objective import Objective
from landscape.probes.linalg.eigen.radius import Radius, spectral_radius
from landscape.probes.tools.recursions import Ask, asked

__all__ = ["Jacobians"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Jacobians:
    """Of dh_(t+1)/dh_t at some passes t, for some samples: each (passes, samples), see `Radius`."""

    radius: Array
    angle: Array
    radius_error: Array
    residual: Array
    gain: Array
    converged: NDArray[np.bool_]
    n_products: int

    @classmethod
    def taken(
        cls,
        objective: Objective,
        w: Tensor,
        ask: Ask,
        at: Sequence[int],
        index: NDArray[np.int64],
        *,
        seed: int,
        tol: float,
    ) -> Jacobians:
        """Those of the samples of an index, one after the other."""
        chunks = objective.chunks
        found: list[list[Radius]] = []
        for i in map(int, index):
            radii = partial(_radii, ask, at, seed, tol)
            found.append(chunks.inside(w, chunks.batch(slice(i, i + 1)), radii))

        def column(name: str) -> Array:
            rows = [[getattr(r, name) for r in row] for row in found]
            return np.array(rows, float).T if rows else np.zeros((len(at), 0))

        return cls(
            radius=column("radius"),
            angle=column("angle"),
            radius_error=column("error"),
            residual=column("residual"),
            gain=column("norm"),
            converged=column("converged").astype(bool),
            n_products=sum(r.n_products for row in found for r in row),
        )


def _radii(
    ask: Ask, at: Sequence[int], seed: int, tol: float, module: nn.Module, *inputs: Any, **named: Any
) -> list[Radius]:
    """Of the Jacobians of one sample at the states after some passes."""
    made = asked(ask, module, 1, *inputs, **named)
    h, out = made.state, []
    for t in range(1, max(at) + 1):
        h = made.step(h, t).detach()
        if t in at:
            out.append(_radius(lambda x: made.step(x, t + 1), h, seed, tol))  # noqa: B023
    return out


def _radius(step: Callable[[Tensor], Tensor], h: Tensor, seed: int, tol: float) -> Radius:
    """Of the Jacobian of one pass at h (1, ...); NaN where the pass is not finite."""
    u = h.clone().requires_grad_(True)
    after = step(u)
    if not bool(torch.isfinite(after).all()):
        return Radius(np.nan, np.nan, np.nan, np.nan, np.nan, False, 0)
    if not after.requires_grad:  # the pass does not look at the state
        return Radius(0.0, 0.0, 0.0, 0.0, 0.0, True, 0)
    z = torch.zeros_like(after, requires_grad=True)
    with explained("the Jacobian of a pass", "Give a pass that torch differentiates twice."):
        # J' z, as a function of z: its derivative is J. Both graphs are kept for all products.
        back = torch.autograd.grad(after, u, z, create_graph=True)[0]

        def product(v: Tensor) -> Tensor:
            return torch.autograd.grad(back, z, v.to(h).view_as(h), retain_graph=True)[0].flatten().cpu()

        def transposed(v: Tensor) -> Tensor:
            return torch.autograd.grad(after, u, v.to(h).view_as(h), retain_graph=True)[0].flatten().cpu()

        return spectral_radius(product, transposed, h.numel(), seed=seed, tol=tol, dtype=h.dtype)
