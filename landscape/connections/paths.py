"""The loss along the straight line and along a trained curve between two points, and the barrier on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.connections.barrier import barrier
from landscape.connections.bezier import Bezier
from landscape.connections.curve import CurveSettings, Fitted, fit
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.plane import losses_along
from landscape.probes.base import LOSS, SLOPE, Schema, Variable

__all__ = ["SCHEMA", "connect_points"]

_EACH = ("alignment", "path", "objective")
_FITTED = ("alignment", "objective")

SCHEMA = Schema(
    {
        "t": Variable(("t",), "1", "place on the path: 0 at a, 1 at b"),
        "alignment": Variable(("alignment",), "", "b as it is, or with its units in the order of a's", "U"),
        "path": Variable(("path",), "", "straight line, or trained curve", "U"),
        "objective": Variable(("objective",), "", "which loss", "U"),
        "loss": Variable((*_EACH, "t"), LOSS, "loss along the path"),
        "barrier": Variable(_EACH, LOSS, "max over t of L(t) - (1 - t) L(0) - t L(1)"),
        "barrier_t": Variable(_EACH, "1", "where the barrier is highest"),
        "barrier_gain": Variable(_EACH, LOSS, "what refining t added to the highest value on the grid"),
        "rise": Variable(_EACH, LOSS, "max over t of L(t) - max(L(0), L(1))"),
        "rise_t": Variable(_EACH, "1", "where the loss is highest"),
        "mean": Variable(_EACH, LOSS, "mean loss over t, by the trapezoidal rule on the grid"),
        "length": Variable(_EACH, "parameter units", "length of the path"),
        "distance": Variable(("alignment",), "parameter units", "|b - a|"),
        "moved": Variable(("alignment",), "1", "share of the units of b that took another place"),
        "curve_converged": Variable(_FITTED, "1", "the curve's training reached its tolerance, or rounding", "b"),
        "curve_reason": Variable(_FITTED, "", "why the curve's training ended", "U"),
        "curve_iterations": Variable(_FITTED, "1", "steps of the curve's training", "i"),
        "curve_evaluations": Variable(_FITTED, "1", "values of the mean loss that it took", "i"),
        "curve_gradient": Variable(_FITTED, SLOPE, "norm of the gradient at the trained bends"),
        "curve_mean": Variable(_FITTED, LOSS, "mean loss of the curve by the quadrature it was trained on"),
        "curve_start": Variable(_FITTED, LOSS, "the same before it was trained"),
        "bend_vector": Variable((*_FITTED, "bend", "parameter"), "parameter units", "the bends"),
        "order": Variable(("alignment", "parameter"), "", "b[order] is the end of the path", "i"),
    },
    optional=frozenset({"bend_vector", "order"}),
    probe="connect",
)


_RECORD = {
    "curve_converged": "converged",
    "curve_reason": "reason",
    "curve_iterations": "iterations",
    "curve_evaluations": "evaluations",
    "curve_gradient": "gradient_norm",
    "curve_mean": "mean",
    "curve_start": "start",
}
"""Variable -> what it is of a trained curve."""


def connect_points(
    objectives: Objective | Mapping[str, Objective],
    a: Tensor,
    b: Tensor,
    *,
    seed: int,
    order: Tensor | None = None,
    moved: float = 0.0,
    points: int = 61,
    curve: CurveSettings | None = None,
    keep_bends: bool = False,
    curves: MutableMapping[str, Fitted] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> xr.Dataset:
    r"""Loss along the straight line from a to b and along a trained curve between them, with the barriers.

    The curve is a Bezier curve (`landscape.connections.bezier.Bezier`) whose bends minimise the mean loss over t, each
    loss having its own curve; see `landscape.connections.curve.fit`. The barrier of a path is
    max_t [L(t) - (1 - t) L(0) - t L(1)] and the rise max_t L(t) - max(L(0), L(1)), found on a grid of t and then
    refined. With `order` all is done again for b[order].

    On either path the barrier is that of this very path: of all curves another one may have a lower barrier, so that of
    the trained curve is an upper bound, converged or not. A loss that is NaN anywhere on the grid makes the barrier
    NaN, one that is infinite an infinite barrier. Held at once are 28 vectors of P numbers a
    bend and 4 others, beside a gradient, and as many points as 256 MiB hold.

    Args:
        objectives: the loss, or several of the same parameters by their labels.
        a: start, (P,).
        b: end, (P,).
        seed: of the offset from the line at which the bends start.
        order: (P,) a permutation of the entries of b that does not change its function.
        moved: share of units that `order` moves, to be noted.
        points: of the grid of t, evenly spaced from 0 to 1.
        curve: how the curve is trained; None is `CurveSettings()`.
        keep_bends: store the bends (and `order`), a vector of P numbers each.
        curves: curves that were trained before, by name; those that are trained are put there.
        progress: called with the name of a curve and the steps made.

    Returns:
        Dataset with dims `alignment`, `path`, `objective`, `t`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for objectives of other parameters, an `order` that is no permutation, too few points, or
            a loss without derivatives.

    Source:
        Garipov and others, arXiv 1802.10026 (the curve); Frankle and others, arXiv 1912.05671, and Entezari and others,
        arXiv 2110.06296 (the barrier).

    Example:
        >>> module = torch.nn.Linear(2, 1, bias=False)
        >>> ring = lambda y, t: ((y - t) ** 2 - 1).sum(1) ** 2  # (w_1^2 - 1)^2 + (w_2^2 - 1)^2 for w = unit vectors
        >>> objective = Objective(module, ring, (torch.eye(2), torch.zeros(2, 1)))
        >>> ds = connect_points(objective, torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 1.0]), seed=0)
        >>> round(ds.barrier.sel(path="line").item(), 9)
        0.5
    """
    named = {"loss": objectives} if isinstance(objectives, Objective) else dict(objectives)
    if not named or points < 3:
        raise LandscapeError(f"expected a loss and at least 3 points, found {len(named)} losses and {points} points.")
    own = next(iter(named.values()))
    if any(o.layout.hash != own.layout.hash for o in named.values()):
        raise LandscapeError(
            "expected losses of the same parameters, found different layouts. Connect them one by one."
        )
    a, b = own.vector(a), own.vector(b)
    settings = CurveSettings() if curve is None else curve
    ends = {"none": b} if order is None else {"none": b, "matched": b[_permutation(order, b)]}
    t = np.linspace(0.0, 1.0, points)
    curves = {} if curves is None else curves
    walked: list[list[dict[str, Any]]] = []
    fitted: list[list[Fitted]] = []
    for alignment, end in ends.items():
        if fitted and torch.equal(end, b):  # nothing took another place
            walked, fitted = walked * 2, fitted * 2
            continue
        fits = []
        for label, objective in named.items():
            if (name := f"{alignment} {label}") not in curves:
                told = None if progress is None else partial(progress, name)
                curves[name] = fit(objective, a, end, settings, seed=seed, progress=told)
            fits.append(curves[name])
        fitted.append(fits)
        # In the order of the dims: the line under each loss, then each loss's curve.
        walked.append([_along(o, Bezier.line(a, end), t) for o in named.values()])
        walked[-1] += [_along(o, Bezier(a, end, f.bends.to(a)), t) for o, f in zip(named.values(), fits, strict=True)]
    shape = (len(ends), 2, len(named))
    values: dict[str, Any] = {
        key: np.array([[path[key] for path in row] for row in walked]).reshape(*shape, *np.shape(walked[0][0][key]))
        for key in walked[0][0]
    }
    for name, field in _RECORD.items():
        values[name] = np.array([[getattr(f, field) for f in row] for row in fitted])
    values["distance"] = np.array([float((end - a).norm()) for end in ends.values()])
    values["moved"] = np.array([0.0, moved][: len(ends)])
    if keep_bends:
        values["bend_vector"] = torch.stack([torch.stack([f.bends for f in row]) for row in fitted])
        same = torch.arange(len(b))
        values["order"] = torch.stack([same] if order is None else [same, order.to(same)])
    coords = {"t": t, "alignment": list(ends), "path": ["line", "curve"], "objective": list(named)}
    caveats = {k: v for o in named.values() for k, v in o.caveats.items()}
    return SCHEMA.dataset(values, coords=coords, **caveats)


def _along(objective: Objective, path: Bezier, t: NDArray[np.float64]) -> dict[str, Any]:
    """What is measured on one path under one loss."""

    def loss(x: float) -> float:
        return float(objective.losses(path.at(x)[None])[0])  # by the kernel where it knows the loss

    losses = losses_along(objective, path.a, path.moves, path.coordinates(t)).double().cpu().numpy()
    with np.errstate(invalid="ignore"):  # infinite losses are what they are
        across, above = barrier(loss, t, losses)
        mean = float(np.diff(t) @ (losses[1:] + losses[:-1]) / 2)
    return {
        "loss": losses, "barrier": across.height, "barrier_t": across.t, "barrier_gain": across.gain,
        "rise": above.height, "rise_t": above.t, "mean": mean, "length": path.length,
    }  # fmt: skip


def _permutation(order: Tensor, b: Tensor) -> Tensor:
    if order.shape != b.shape or not torch.equal(order.sort().values.cpu(), torch.arange(len(b))):
        raise LandscapeError(f"expected an order of the {len(b)} parameters, each once, found {tuple(order.shape)}.")
    return order.to(b.device)
