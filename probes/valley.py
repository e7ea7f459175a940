"""How wide is the valley, and of what shape? Half-widths and shape exponents along many directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.objective import Objective
from landscape.probes.directions import Direction, End, eigen_directions, gradient_direction, random_directions
from landscape.probes.linalg import crossings, exponent, find_floor
from landscape.schema import Probe, Schema, Variable

__all__ = ["PROBE", "valley"]

DISTANCE = "parameter units (Euclidean)"
SIDES = (-1, 1)

SCHEMA = Schema(
    {
        "direction": Variable(("mode",), "", "direction of the line", "U", swept=False),
        "side": Variable(("side",), "", "side of the floor", "U", swept=False),
        "rise": Variable(("rise",), "nats per token", "rise of the loss above the floor", swept=False),
        "half_width": Variable(("mode", "side", "rise"), DISTANCE, "distance from the floor to the rise"),
        "censored": Variable(("mode", "side", "rise"), "1", "the limit came first; half_width is a lower bound", "b"),
        "converged": Variable(("mode", "side", "rise"), "1", "half-width reached and located", "b"),
        "exponent": Variable(("mode", "side"), "1", "slope of log rise against log half-width"),
        "exponent_stderr": Variable(("mode", "side"), "1", "standard error of the exponent's fit"),
        "curvature": Variable(("mode",), "nats per token per squared parameter unit", "u'Hu at the checkpoint"),
        "slope": Variable(("mode",), "nats per token per parameter unit", "u'grad L at the checkpoint"),
        "quadratic_half_width": Variable(("mode", "rise"), DISTANCE, "sqrt(2 rise / curvature), NaN if curvature <= 0"),
        "eigen_residual": Variable(
            ("mode",), "nats per token per squared parameter unit", "|H u - lambda u|, NaN if u is no eigenvector"
        ),
        "floor": Variable(("mode",), DISTANCE, "position of the floor on the line; the checkpoint is at 0"),
        "floor_drop": Variable(("mode",), "nats per token", "loss at the checkpoint minus loss at the floor"),
        "floor_converged": Variable(("mode",), "1", "the floor is a minimum, located to tolerance", "b"),
        "floor_censored": Variable(("mode",), "1", "the loss still fell at the limit", "b"),
        "limit": Variable((), DISTANCE, "largest distance from the checkpoint that was searched"),
        "n_evaluations": Variable((), "1", "losses and gradients computed", "i"),
        "n_products": Variable((), "1", "Hessian-vector products used", "i"),
    }
)


def valley(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    top: int = 5,
    bottom: int = 1,
    random: int = 2,
    filter_random: int = 0,
    gradient: bool = True,
    rises: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    limit: float | None = None,
    tol: float = 1e-6,
    max_products: int | None = None,
) -> xr.Dataset:
    r"""Half-widths of the valley along lines w + t u with \|u\| = 1, and the exponents of its walls.

    On each line, first walk downhill from t = 0 to the floor t0, the nearest minimum; then, on each side, find the
    distance s at which L(w + (t0 + side s) u) has risen by Delta above the floor. A quadratic valley has
    s = sqrt(2 Delta / lambda). The exponent p is the slope of log Delta against log s over all rises: 2 = quadratic,
    1 = V, above 2 = flat-bottomed U. (Width after the definition of this project; the paper gives none.)

    Args:
        objective: the loss.
        w: where, (P,).
        seed: of random directions and of the eigen-solver.
        top: number of leading eigenvectors.
        bottom: number of eigenvectors at the lower end (the most negative curvature); costs most products.
        random: number of Gaussian directions.
        filter_random: number of Gaussian directions with every filter scaled to the norm of the weight's filter
            (Li et al., 2018), then to unit length.
        gradient: include the normalised gradient.
        rises: Delta, ascending, in nats per token.
        limit: largest distance \|t\| searched; None means the norm of w (1 if w = 0).
        tol: of the eigenvectors, relative to the spectral norm.
        max_products: budget of the eigen-solver; None lets it choose.

    Returns:
        Dataset with dims `mode` (direction), `side`, `rise`; see `SCHEMA` for variables and units. Where the limit
        came before a rise, `censored` is True and `half_width` is the distance searched. Where the floor itself is
        `floor_censored`, it is no minimum and the widths around it say little.

    Raises:
        LandscapeError: for no direction at all, rises that do not ascend, or a limit that is not positive.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> ds = valley(objective, torch.zeros(2), seed=0, top=1, bottom=1, random=0, gradient=False)
        >>> ds.half_width.sel(side="+", rise=1e-2).values.round(9).tolist()  # sqrt(2 rise / lambda), lambda = 4, 1
        [0.070710678, 0.141421356]
    """
    w = objective.vector(w)
    rise = np.asarray(rises, dtype=np.float64)
    reach = limit if limit is not None else float(w.norm()) or 1.0
    if min(top, bottom, random, filter_random) < 0:
        raise LandscapeError("expected numbers of directions (top, bottom, random, filter_random) >= 0.")
    if not (np.isfinite(reach) and reach > 0):
        raise LandscapeError(f"expected a positive, finite limit, found {reach}.")
    if len(rise) == 0 or not np.isfinite(rise).all() or (rise <= 0).any() or (np.diff(rise) <= 0).any():
        raise LandscapeError(f"expected positive rises in ascending order, found {list(rises)}.")
    H, grad = objective.hessian(w), objective.grad(w)
    found: list[Direction] = []
    ends: tuple[tuple[End, int], ...] = (("top", top), ("bottom", bottom))
    for which, count in ends:
        found += eigen_directions(H, which, count, tol=tol, max_products=max_products, seed=seed)
    found += random_directions(objective, w, random, filtered=False, seed=seed)
    found += random_directions(objective, w, filter_random, filtered=True, seed=seed + 1)
    found += gradient_direction(grad) if gradient else []
    if not found:
        raise LandscapeError("expected at least one direction: set top, bottom, random, filter_random or gradient.")
    directions = [d.vector for d in found]
    lines = [_Line(objective, w, u) for u in directions]
    rows = [_measure(line, rise, reach) for line in lines]
    curvature = np.array([float(u @ H.mv(u)) for u in directions])
    with np.errstate(invalid="ignore", divide="ignore"):
        quadratic = np.where(curvature[:, None] > 0, np.sqrt(2 * rise / curvature[:, None]), np.nan)
    return SCHEMA.dataset(
        {
            **{k: np.stack([r[k] for r in rows]) for k in rows[0]},
            "curvature": curvature,
            "slope": np.array([float(u @ grad) for u in directions]),
            "quadratic_half_width": quadratic,
            "eigen_residual": np.array([d.residual for d in found]),
            "limit": reach,
            "n_evaluations": sum(line.n_evaluations for line in lines),
            "n_products": H.n_products,
        },
        coords={"direction": np.array([d.label for d in found]), "side": np.array(["-", "+"]), "rise": rise},
    )


class _Line:
    """t -> L(w + t u) and its derivative; t = 0 is w."""

    def __init__(self, objective: Objective, w: Tensor, u: Tensor) -> None:
        self.objective, self.w, self.u = objective, w, u
        self.rounding = torch.finfo(objective.dtype).eps
        self.n_evaluations = 0

    def value(self, t: float) -> float:
        self.n_evaluations += 1
        return float(self.objective.loss(self.w + t * self.u))

    def values(self, ts: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([self.value(float(t)) for t in ts])

    def slope(self, t: float) -> float:
        self.n_evaluations += 1
        return float(self.objective.grad(self.w + t * self.u) @ self.u)


def _measure(line: _Line, rise: NDArray[np.float64], limit: float) -> dict[str, Any]:
    floor = find_floor(line, limit=limit)
    shape = (len(SIDES), len(rise))
    width, censored, converged = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    power = np.full((len(SIDES), 2), np.nan)
    if np.isfinite(floor.t0):
        for i, side in enumerate(SIDES):
            found = crossings(
                line, t0=floor.t0, f0=floor.value, side=side, rises=rise, limit=limit, rounding=line.rounding
            )
            width[i], censored[i], converged[i] = found.half_width, found.censored, found.converged
            power[i] = exponent(found.half_width, rise, ~found.converged)
    return {
        "half_width": width,
        "censored": censored,
        "converged": converged,
        "exponent": power[:, 0],
        "exponent_stderr": power[:, 1],
        "floor": floor.t0,
        "floor_drop": floor.drop,
        "floor_converged": floor.converged,
        "floor_censored": floor.censored,
    }


PROBE = Probe("valley", 1, valley, SCHEMA)
