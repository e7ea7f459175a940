"""Grids on a plane or a line: how far they reach, where the walls are, and which points are worth evaluating."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.tools.planes import Plane
from landscape.probes.tools.wall_lines import SIDES, Lines, measure

__all__ = ["axes", "sampled", "walls"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Range = tuple[float, float]
MARGIN = 0.2
"""Of a range around a path, as a part of it."""
WALL_MARGIN = 0.1
"""Of a range from wall to wall."""


def walls(objective: Objective, w: Tensor, plane: Plane, *, rise: float) -> dict[str, Any]:
    r"""Floor, crossings of both walls and the quadratic along each direction, in the coordinates of the plane.

    Along d: from w downhill to the floor t0, the nearest minimum; on each side the nearest place where the loss has
    risen by `rise` above the floor; slope d'g and curvature d'Hd at w. The search goes as far as w is long.

    Returns:
        `wall` (K, 2), `wall_censored` (K, 2), `floor` (K,), `floor_loss` (K,), `floor_converged` (K,), `slope` (K,),
        `curvature` (K,), `centre_loss`, `rise`; NaN walls where there is no floor.

    Raises:
        LandscapeError: for a rise that is not positive and finite, or a loss without derivatives.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.ones(1, 1), torch.ones(1, 1)))
        >>> found = walls(objective, torch.tensor([2.0]), Plane(torch.tensor([[0.5]])), rise=0.25)  # L = (1 + t / 2)^2
        >>> found["wall"].round(6).tolist(), found["floor"].round(6).tolist(), found["curvature"].tolist()
        ([[-3.0, -1.0]], [-2.0], [0.5])
    """
    if not 0 < rise < np.inf:
        raise LandscapeError(f"expected a positive, finite rise, found {rise}.")
    D = plane.vectors.to(objective.vector(w))
    lengths, g, H = D.norm(dim=1), objective.grad(w), objective.hessian(w)
    units = D / lengths[:, None]
    size = lengths.cpu().double().numpy()
    curvature = np.array([float(u @ H.mv(u)) for u in units])
    lines = Lines(objective, w, list(units), g)
    found = measure(
        lines, curvature, rises=np.array([rise]), limit=float(objective.vector(w).norm()) or 1.0,
        rounding=torch.finfo(objective.dtype).eps,
    )  # fmt: skip
    floor, half = found["floor"], found["half_width"][:, :, 0]
    return {
        "wall": (floor[:, None] + np.array(SIDES) * half) / size[:, None],
        "wall_censored": found["censored"][:, :, 0] | ~found["converged"][:, :, 0],
        "floor": floor / size,
        "floor_loss": lines.start - found["floor_drop"],
        "floor_converged": found["floor_converged"],
        "centre_loss": lines.start,
        "slope": lines.slope * size,
        "curvature": curvature * size**2,
        "rise": rise,
    }


def axes(
    plane: Plane,
    w: Tensor,
    *,
    points: int | tuple[int, ...],
    span: float | str | tuple[float, ...] | None,
    given: Sequence[Any],
    where: Tensor | None,
    wall: Array | None,
    centred: bool = False,
) -> list[Array]:
    """Coordinates along both directions; along the second of a line the one number 0.

    Args:
        plane: K directions.
        w: its centre.
        points: per axis, one number for all or one for each.
        span: a grid from -span to span, one number for all or one for each; "walls"; None by what is known.
        given: for each axis coordinates in place of these, or None.
        where: (T, K) places of the path.
        wall: (K, 2) crossings of the walls; NaN where there are none.
        centred: whether a range as wide as the path has the centre in its middle.

    Raises:
        LandscapeError: for fewer than two points, spans that are not positive, or coordinates that are not finite.
    """
    K = len(plane.vectors)
    counts = points if isinstance(points, tuple) else (points,) * K
    spans = span if isinstance(span, tuple) else (span,) * K
    bad = len(counts) != K or len(spans) != K or any(n < 2 for n in counts)
    if bad or any(not isinstance(s, str) and s is not None and not (np.isfinite(s) and s > 0) for s in spans):
        raise LandscapeError(
            f"expected points >= 2 and a positive, finite span, one for all {K} axes or one for each, found {points} "
            f"and {span}."
        )
    if any(isinstance(s, str) and s != "walls" for s in spans):
        raise LandscapeError(f'expected span to be a number, one number per axis, "walls" or None, found {span!r}.')
    out = []
    for i in range(2):
        if given[i] is not None:
            axis = np.asarray(given[i], dtype=np.float64)
        elif i >= K:
            axis = np.zeros(1)
        else:
            low, high = _reach(plane, w, i, spans[i], None if where is None else where[:, i], wall)
            if centred and spans[i] is None and plane.ranges[i] is None:
                low, high = (low - high) / 2, (high - low) / 2
            axis = np.linspace(low, high, counts[i])
            if spans[i] == "walls":  # a point of the grid is the centre itself
                axis -= axis[np.abs(axis).argmin()]
        if axis.ndim != 1 or len(axis) == 0 or not np.isfinite(axis).all():
            raise LandscapeError("expected finite coordinates alpha and beta, at least one of each.")
        out.append(axis)
    if K == 1 and out[1].tolist() != [0.0]:
        raise LandscapeError(f"a line has one direction: expected no beta, found {given[1]}. Leave it out.")
    return out


def _reach(
    plane: Plane, w: Tensor, i: int, span: float | str | None, where: Tensor | None, wall: Array | None
) -> Range:
    """From where to where an axis goes."""
    if isinstance(span, float | int):
        return -float(span), float(span)
    if span is not None and wall is not None and np.isfinite(wall[i]).all():
        low, high = min(0.0, float(wall[i, 0])), max(0.0, float(wall[i, 1]))
        margin = WALL_MARGIN * (high - low)
        return low - margin, high + margin
    if (known := plane.ranges[i]) is not None:
        return known
    if where is None or float(where.abs().max()) == 0:
        reach = 0.1 * float(w.norm()) or 1.0
        return -reach, reach
    low, high = min(0.0, float(where.min())), max(0.0, float(where.max()))
    margin = MARGIN * (high - low)
    return low - margin, high + margin


def sampled(
    coarse: Sequence[Array], evaluate: Callable[[Array], Array], *, rounds: int, bend: float
) -> tuple[list[Array], Array, Bools]:
    r"""Values on a grid, refined where they bend: the axes, the values (n, m), and which were evaluated.

    Every round halves the spacing of the grid, and evaluates the new points of those cells alone where a straight line
    misses the values at hand by more than `bend` times their range: at a corner from its two neighbours along an axis,
    or in the twist of the four corners, \|f00 - f01 - f10 + f11\| / 4. A value that is not finite bends. All other
    points are NaN and not evaluated.

    Args:
        coarse: the axes of the first grid, (n,) and (m,); an axis of one coordinate stays as it is.
        evaluate: (B, 2) coordinates -> (B,) values.
        rounds: how often the spacing is halved.
        bend: part of the range of the values.

    Raises:
        LandscapeError: for rounds < 0, a bend that is not positive, or an axis of two points that is to be refined.

    Example:
        >>> f = lambda x: np.abs(x[:, 0])
        >>> (alpha, _), values, known = sampled([np.arange(-2.0, 3), np.zeros(1)], f, rounds=1, bend=0.1)
        >>> alpha[known[:, 0]].tolist()
        [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    """
    if rounds < 0 or not bend > 0 or (rounds and any(len(a) == 2 for a in coarse)):
        raise LandscapeError(
            "expected refine >= 0 rounds, bend > 0, and with rounds three or more points per axis, found "
            f"refine={rounds}, bend={bend} and {' x '.join(str(len(a)) for a in coarse)} points."
        )
    step = 2**rounds
    fine = [
        a if len(a) == 1 else np.interp(np.arange((len(a) - 1) * step + 1) / step, np.arange(len(a)), a) for a in coarse
    ]
    strides = [step if len(a) > 1 else 1 for a in fine]
    values, known = np.full([len(a) for a in fine], np.nan), np.zeros([len(a) for a in fine], bool)
    wanted = np.zeros_like(known)
    wanted[:: strides[0], :: strides[1]] = True
    for _ in range(rounds + 1):
        new = np.argwhere(wanted & ~known)
        values[tuple(new.T)] = evaluate(np.stack([a[i] for a, i in zip(fine, new.T, strict=True)], axis=1))
        known |= wanted
        cells = np.argwhere(_bending(fine, values, known, strides, bend))
        halves = [max(1, s // 2) if len(a) > 1 else 1 for a, s in zip(fine, strides, strict=True)]
        for i, j in cells * strides:
            wanted[i : i + strides[0] + 1 : halves[0], j : j + strides[1] + 1 : halves[1]] = True
        strides = halves
    return fine, values, known


def _bending(fine: Sequence[Array], values: Array, known: Bools, strides: Sequence[int], bend: float) -> Bools:
    """Cells of the grid at these strides, by their first corner, whose corners are all known and where values bend."""
    z, there = values[:: strides[0], :: strides[1]], known[:: strides[0], :: strides[1]]
    x = [a[::s] for a, s in zip(fine, strides, strict=True)]
    finite = values[known & np.isfinite(values)]
    limit = bend * (float(np.ptp(finite)) if len(finite) else 0.0)
    at = there & ~np.isfinite(z)
    with np.errstate(invalid="ignore"):
        for axis in (0, 1):
            if len(x[axis]) > 2:
                f, t = np.moveaxis(z, axis, 0), x[axis].reshape(-1, 1)
                share = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
                off = np.abs(f[1:-1] - (1 - share) * f[:-2] - share * f[2:]) > limit
                np.moveaxis(at, axis, 0)[1:-1] |= off
        ends = [[slice(None)] if len(a) == 1 else [slice(0, -1), slice(1, None)] for a in x]
        corners = list(product(*ends))
        every: Bools = np.logical_and.reduce([there[c] for c in corners])
        some = np.logical_or.reduce([at[c] for c in corners])
        if len(corners) == 4:
            f00, f01, f10, f11 = (z[c] for c in corners)
            some |= np.abs(f00 - f01 - f10 + f11) / 4 > limit
    found: Bools = every & some
    return found
