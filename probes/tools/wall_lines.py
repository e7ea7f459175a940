"""Floors and walls along many lines through one point, evaluated together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.loss.objective import Objective
from landscape.probes.linalg import Crossings, Floor, Search, crossing_search, drive, exponent, floor_search
from landscape.probes.linalg.search.driver import Kind

__all__ = ["SIDES", "Lines", "measure"]

SIDES = (-1, 1)
TOL = 1e-6
"""Relative tolerance of half-widths."""
MEMORY = 2**28
"""Bytes that the points of one batch may take."""

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Lines:
    """The functions t -> L(w + t u) for unit vectors u; t = 0 is w, where the gradient is given.

    Attributes:
        start: L(w).
        slope: (m,) u'grad L at w.
        batch: largest number of points that should be evaluated in one call.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> w = torch.zeros(2)
        >>> lines = Lines(objective, w, [torch.tensor([1.0, 0.0])], objective.grad(w))
        >>> lines.evaluate("value", np.array([0, 0]), np.array([1.0, 2.0])).tolist()
        [0.5, 2.0]
    """

    def __init__(self, objective: Objective, w: Tensor, directions: Sequence[Tensor], gradient: Tensor) -> None:
        self._objective, self._w = objective, objective.vector(w)
        self._directions = torch.stack([objective.vector(u) for u in directions])
        self.start = float(objective.losses(self._w[None])[0])  # with the roundings of the lines'
        self.slope: Array = _numpy(self._directions @ gradient)
        self.batch = max(1, min(256, MEMORY // (objective.size * self._w.element_size())))

    def evaluate(self, kind: Kind, index: NDArray[np.int64], t: Array) -> Array:
        """Values or slopes of the lines `index` (B,) at t (B,), as `drive` wants them."""
        u = self._directions[torch.as_tensor(index, device=self._w.device)]
        points = self._w + torch.as_tensor(t, dtype=self._w.dtype, device=self._w.device)[:, None] * u
        if kind == "value":
            return _numpy(self._objective.losses(points))
        return np.array([float(self._objective.grad(x) @ v) for x, v in zip(points, u, strict=True)])


def measure(
    lines: Lines,
    curvature: Array,
    *,
    rises: Array,
    limit: float,
    rounding: float,
    gap: float = 0.2,
    only: Bools | None = None,
) -> dict[str, Any]:
    r"""Floor, half-widths and exponents on both sides of every line.

    A line's search starts with steps of Newton's length or shorter, and its scan of the walls with a fraction
    of the half-width of a parabola with the floor's drop; guesses save evaluations and decide nothing.

    Args:
        lines: the m lines.
        curvature: (m,) u'Hu at w.
        rises: (n_rises,) positive, ascending.
        limit: bound on \|t\|.
        rounding: relative rounding of a loss, which decides what counts as a fall or a rise of it.
        gap: longest gap between the losses before a half-width, as a part of it.
        only: (m,) which lines to measure; None means all.

    Returns:
        Arrays over (m,), (m, 2) or (m, 2, n_rises) by name; NaN where a line is not measured, and NaN widths where
        there is no floor, also where the loss falls as far as the limit.

    Raises:
        LandscapeError: for a limit or rises that the searches refuse.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.ones(1, 1), torch.ones(1, 1)))
        >>> w = torch.zeros(1)
        >>> lines = Lines(objective, w, [torch.ones(1)], objective.grad(w))
        >>> found = measure(lines, np.array([2.0]), rises=np.array([0.25]), limit=4.0, rounding=2e-16)
        >>> found["floor"].round(9).tolist(), found["half_width"].round(6).tolist()
        ([1.0], [[[0.5], [0.5]]])
    """
    chosen = np.arange(len(curvature)) if only is None else np.flatnonzero(only)
    middle = float(rises[(len(rises) - 1) // 2])
    steps = [_first_step(float(lines.slope[i]), float(curvature[i]), middle, limit) for i in chosen]
    floors: list[Floor] = drive(
        [
            floor_search(limit=limit, step=step, start=(lines.start, float(lines.slope[i])), rounding=rounding)
            for i, step in zip(chosen, steps, strict=True)
        ],
        lambda kind, index, t: lines.evaluate(kind, chosen[index], t),
        batch=lines.batch,
    )
    found = [(int(i), f) for i, f in zip(chosen, floors, strict=True) if math.isfinite(f.t0) and not f.censored]
    places = [(i, k) for i, _ in found for k in range(len(SIDES))]
    line = np.array([i for i, _ in places], dtype=np.int64)
    walls: list[Crossings] = drive(
        [
            _walls(floor, side, float(curvature[i]), rises=rises, limit=limit, rounding=rounding, gap=gap)
            for i, floor in found
            for side in SIDES
        ],
        lambda kind, index, t: lines.evaluate(kind, line[index], t),
        batch=lines.batch,
    )
    known = dict(zip(chosen.tolist(), floors, strict=True))
    return _rows([known.get(i, _NOWHERE) for i in range(len(curvature))], dict(zip(places, walls, strict=True)), rises)


def _walls(
    floor: Floor, side: int, curvature: float, *, rises: Array, limit: float, rounding: float, gap: float
) -> Search[Crossings]:
    """The half-widths on one side, from a guess: the parabola through checkpoint and floor, or that of the Hessian."""
    if floor.drop > 1e4 * rounding * abs(floor.value) and floor.t0 != 0:
        curvature = 2 * floor.drop / floor.t0**2
    guess = math.sqrt(2 * float(rises[0]) / curvature) if curvature > 0 else None
    return crossing_search(
        t0=floor.t0,
        f0=floor.value,
        side=side,
        rises=rises,
        limit=limit,
        tol=TOL,
        rounding=rounding,
        guess=guess,
        gap=gap,
    )


_NOWHERE = Floor(math.nan, math.nan, math.nan, converged=False, censored=False, n_evaluations=0)


def _rows(floors: Sequence[Floor], walls: dict[tuple[int, int], Crossings], rises: Array) -> dict[str, Any]:
    shape = (len(floors), len(SIDES), len(rises))
    width, censored, converged = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    resolution, lowest, power = np.full(shape, np.nan), np.full(shape[:2], np.nan), np.full((*shape[:2], 2), np.nan)
    for at, found in walls.items():
        width[at], censored[at], converged[at] = found.half_width, found.censored, found.converged
        resolution[at], lowest[at] = found.resolution, found.lowest
        power[at] = exponent(found.half_width, rises, ~found.converged)
    n = sum(f.n_evaluations for f in floors) + sum(w.n_evaluations for w in walls.values())
    return {
        "half_width": width,
        "censored": censored,
        "converged": converged,
        "resolution": resolution,
        "lowest": lowest,
        "exponent": power[..., 0],
        "exponent_stderr": power[..., 1],
        "floor": np.array([f.t0 for f in floors]),
        "floor_drop": np.array([f.drop for f in floors]),
        "floor_converged": np.array([f.converged for f in floors], dtype=bool),
        "floor_censored": np.array([f.censored for f in floors], dtype=bool),
        "n_evaluations": n + 2,  # the loss and the gradient at w
    }


def _first_step(slope: float, curvature: float, rise: float, limit: float) -> float:
    """Below Newton's step, and no longer than what changes a parabola's loss by `rise`: nothing as high is skipped."""
    half_width = math.sqrt(2 * rise / abs(curvature)) if curvature else math.inf
    newton = 0.75 * abs(slope) / curvature if curvature > 0 else math.inf
    linear = rise / abs(slope) if slope else math.inf
    # Newton's step vanishes at a floor, but a floor need not be looked for closer than a small part of its width.
    step = max(min(newton, linear, half_width, limit / 8), limit * 2.0**-30)
    return max(step, min(half_width * 2.0**-10, limit / 8))


def _numpy(x: Tensor) -> Array:
    return x.detach().cpu().to(torch.float64).numpy()
