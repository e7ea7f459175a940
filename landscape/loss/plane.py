"""Losses on a plane, or along a line, given by directions and coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective

__all__ = ["losses_along"]

MEMORY = 2**28
"""Bytes that points made at once may take."""
MOST = 64
"""Points made at once."""


def losses_along(objective: Objective, w: Tensor, directions: Tensor, coordinates: Tensor) -> Tensor:
    """L(w + sum_k c_k d_k) for each row c of coordinates (B, K) along directions (K, P); shape (B,).

    Terms are added in the order of k. Only some points are made at once; they are shared out among processes where the
    objective has helpers (`landscape.parallel`).

    Raises:
        LandscapeError: for directions or coordinates of another shape.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, lambda y, t: y[:, 0], (torch.tensor([[1.0, 10.0]]), torch.zeros(1)))
        >>> losses_along(objective, torch.zeros(2), torch.eye(2), torch.tensor([[1.0, 0.0], [2.0, 3.0]])).tolist()
        [1.0, 32.0]
    """
    w = objective.vector(w)
    D, c = directions.to(w), coordinates.to(w)
    if D.ndim != 2 or D.shape[1] != objective.size or c.ndim != 2 or c.shape[1] != len(D):
        raise LandscapeError(
            f"expected directions (K, {objective.size}) and coordinates (B, K), "
            f"found {tuple(D.shape)} and {tuple(c.shape)}."
        )
    if objective.helpers is not None:
        return objective.helpers(w, D, c)
    some = max(1, min(MOST, MEMORY // (w.numel() * w.element_size())))
    found = [w.new_zeros(0)]
    for part in torch.split(c, some):
        points = w.expand(len(part), -1)
        for k, d in enumerate(D):
            points = points + part[:, k, None] * d
        found.append(objective.losses(points))
    return torch.cat(found)
