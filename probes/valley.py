"""How wide is the valley, and of what shape? Half-widths and shape exponents along many directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, LOSS, SLOPE, Counts, Extent, Probe, Schema, Variable
from landscape.probes.tools.counts import lanczos_products, lanczos_vectors, plus, search_losses
from landscape.probes.tools.directions import Direction, eigen_directions, gradient_direction, random_directions
from landscape.probes.tools.wall_lines import Lines, measure
from landscape.probes.tools.wall_shapes import GROUPS, RULE, asymmetry, group_statistics, shape_labels

__all__ = ["PROBE", "valley"]

Labels = NDArray[np.str_]
Bools = NDArray[np.bool_]
DISTANCE = "parameter units (Euclidean)"

SCHEMA = Schema(
    {
        "direction": Variable(("mode",), "", "direction of the line", "U", swept=False),
        "direction_group": Variable(("mode",), "", "kind of direction", "U", swept=False),
        "group": Variable(("group",), "", "kind of direction", "U", swept=False),
        "side": Variable(("side",), "", "side of the floor", "U", swept=False),
        "rise": Variable(("rise",), LOSS, "rise of the loss above the floor", swept=False),
        "half_width": Variable(("mode", "side", "rise"), DISTANCE, "distance from the floor to the rise"),
        "censored": Variable(("mode", "side", "rise"), "1", "the limit came first; half_width is a lower bound", "b"),
        "converged": Variable(
            ("mode", "side", "rise"), "1", "half-width reached and located, nothing seen before", "b"
        ),
        "resolution": Variable(
            ("mode", "side", "rise"),
            DISTANCE,
            "longest gap between losses up to half_width; a narrower hump could hide",
        ),
        "lowest": Variable(("mode", "side"), LOSS, "lowest loss seen minus loss at the floor, at most 0"),
        "exponent": Variable(("mode", "side"), "1", "slope of log rise against log half-width"),
        "exponent_stderr": Variable(("mode", "side"), "1", "standard error of the exponent's fit"),
        "shape": Variable(("mode",), "", f"shape of the valley; {RULE}", "U"),
        "shape_tol": Variable((), "1", "distance from 2 within which an exponent counts as 2", swept=False),
        "asymmetry": Variable(("mode", "rise"), "1", "log of the half-width on the + side over that on the - side"),
        "log_width_mean": Variable(("group", "rise"), "1", "mean over directions of log half-width (both sides)"),
        "log_width_spread": Variable(
            ("group", "rise"), "1", "standard deviation over directions of log half-width, NaN with fewer than 2"
        ),
        "n_widths": Variable(("group", "rise"), "1", "directions with both half-widths converged", "i"),
        "group_exponent": Variable(("group",), "1", "mean exponent over directions"),
        "group_exponent_stderr": Variable(("group",), "1", "its standard error over directions, NaN with fewer than 2"),
        "n_exponents": Variable(("group",), "1", "directions with an exponent on both sides", "i"),
        "n_negative": Variable((), "1", "directions of negative curvature among the `negative` ones asked for", "i"),
        "curvature": Variable(("mode",), CURVATURE, "u'Hu at the checkpoint"),
        "slope": Variable(("mode",), SLOPE, "u'grad L at the checkpoint"),
        "quadratic_half_width": Variable(("mode", "rise"), DISTANCE, "sqrt(2 rise / curvature), NaN if curvature <= 0"),
        "eigen_residual": Variable(("mode",), CURVATURE, "|H u - lambda u|, NaN if u is no eigenvector"),
        "floor": Variable(("mode",), DISTANCE, "position of the floor on the line; the checkpoint is at 0"),
        "floor_drop": Variable(("mode",), LOSS, "loss at the checkpoint minus loss at the floor"),
        "floor_converged": Variable(("mode",), "1", "the floor is a minimum, located to tolerance", "b"),
        "floor_censored": Variable(("mode",), "1", "the loss still fell at the limit", "b"),
        "limit": Variable((), DISTANCE, "largest distance from the checkpoint that was searched"),
        "n_evaluations": Variable((), "1", "losses and gradients computed", "i"),
        "n_products": Variable((), "1", "Hessian-vector products used", "i"),
    },
    probe="valley",
)


def valley(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    top: int = 5,
    bottom: int = 1,
    negative: int = 0,
    random: int = 2,
    filter_random: int = 0,
    gradient: bool = True,
    rises: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    limit: float | None = None,
    gap: float = 0.2,
    shape_tol: float = 0.25,
    tol: float = 1e-6,
    max_products: int | None = None,
) -> xr.Dataset:
    r"""Half-widths of the valley along lines w + t u with \|u\| = 1, and the exponents of its walls.

    On each line, first walk downhill from t = 0 to the floor t0, the nearest minimum; then, on each side, find the
    distance s at which L(w + (t0 + side s) u) has risen by Delta above the floor. A quadratic valley has
    s = sqrt(2 Delta / lambda). The exponent p is the slope of log Delta against log s over all rises: 2 = quadratic,
    1 = V, above 2 = flat-bottomed U; `shape` is a label by the rule in its long_name. Statistics over each group of
    directions follow (see `landscape.probes.tools.wall_shapes`). All lines are evaluated together.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: of random directions and of the eigen-solver.
        top: number of leading eigenvectors.
        bottom: number of eigenvectors at the lower end, whatever their sign; costs most products.
        negative: number of eigenvectors at the lower end, of which only those with lambda < 0 by more than their
            residual are measured (`n_negative` of them); the others are labelled absent and have no width.
        random: number of Gaussian directions.
        filter_random: number of Gaussian directions with every filter scaled to the norm of the weight's filter
            (Li et al., 2018), then to unit length.
        gradient: include the normalised gradient.
        rises: Delta, ascending, in the unit of the loss.
        limit: largest distance \|t\| searched; None means the norm of w (1 if w = 0).
        gap: longest gap between the losses before a half-width, as a part of it, in (0, 0.5]; smaller ones cost about
            1 / gap losses per rise and side.
        shape_tol: distance from 2 within which an exponent counts as 2.
        tol: of the eigenvectors, relative to the spectral norm.
        max_products: budget of the eigen-solver; None lets it choose.

    Returns:
        Dataset with dims `mode` (direction), `side`, `rise`, `group`; see `SCHEMA` for variables and units. Where the
        limit came before a rise, `censored` is True and `half_width` is the distance searched. Where the floor itself
        is `floor_censored`, it is no minimum: there are no widths, and the direction is labelled falling. Before
        `half_width`, the loss is nowhere above the rise on a stretch longer than `resolution`; a narrower hump is found
        only where the losses around it show it.

    Raises:
        LandscapeError: for no direction at all, rises that do not ascend, or a limit that is not positive.

    Source:
        Width, exponent and label: definition of this project; the paper (arXiv 2510.10089) gives none.

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
    if not bool(torch.isfinite(w).all()):
        raise LandscapeError("expected finite parameters w, found NaN or infinity. Probe an earlier checkpoint.")
    rise = np.asarray(rises, dtype=np.float64)
    reach = float(w.norm()) or 1.0 if limit is None else float(limit)
    if min(top, bottom, negative, random, filter_random) < 0:
        raise LandscapeError("expected numbers of directions (top, bottom, negative, random, filter_random) >= 0.")
    if not (np.isfinite(reach) and reach > 0):
        raise LandscapeError(f"expected a positive, finite limit, found {reach}.")
    if len(rise) == 0 or not np.isfinite(rise).all() or (rise <= 0).any() or (np.diff(rise) <= 0).any():
        raise LandscapeError(f"expected positive rises in ascending order, found {list(rises)}.")
    if not 0 < gap <= 0.5:
        raise LandscapeError(f"expected a gap in (0, 0.5], a part of the half-width, found {gap}.")
    slope = _finite(objective.grad(w))
    H = objective.hessian(w)
    found = eigen_directions(H, "top", top, tol=tol, max_products=max_products, seed=seed)
    lower = eigen_directions(H, "bottom", max(bottom, negative), tol=tol, max_products=max_products, seed=seed)
    found += lower[:bottom]
    found += [Direction(f"negative {i}", d.vector, d.residual) for i, d in enumerate(lower[:negative], start=1)]
    found += random_directions(objective, w, random, filtered=False, seed=seed)
    found += random_directions(objective, w, filter_random, filtered=True, seed=seed + 1)
    found += gradient_direction(slope) if gradient else []
    if not found:
        raise LandscapeError(
            "expected at least one direction: set top, bottom, negative, random, filter_random or gradient."
        )
    curvature = np.array([float(d.vector @ H.mv(d.vector)) for d in found])
    labels = np.array([d.label for d in found])
    group = np.array([name.split()[0] for name in labels])
    residual = np.array([d.residual for d in found])
    present = (group != "negative") | (curvature < -residual)
    lines = Lines(objective, w, [d.vector for d in found], slope)
    rounding = torch.finfo(objective.dtype).eps
    measured = measure(lines, curvature, only=present, rises=rise, limit=reach, rounding=rounding, gap=gap)
    with np.errstate(invalid="ignore", divide="ignore"):
        quadratic = np.where(curvature[:, None] > 0, np.sqrt(2 * rise / curvature[:, None]), np.nan)
    return SCHEMA.dataset(
        {
            **measured,
            **_shapes(measured, group, present, float(rise[0]), shape_tol),
            "shape_tol": shape_tol,
            "n_negative": int((present & (group == "negative")).sum()),
            "curvature": curvature,
            "slope": lines.slope,
            "quadratic_half_width": quadratic,
            "eigen_residual": residual,
            "limit": reach,
            "n_products": H.n_products,
        },
        **objective.caveats,
        coords={
            "direction": labels,
            "direction_group": group,
            "group": np.array(GROUPS),
            "side": np.array(["-", "+"]),
            "rise": rise,
        },
    )


def _finite(gradient: Tensor) -> Tensor:
    """The gradient, where it is one."""
    bad = int((~gradient.isfinite()).sum())
    if bad:
        raise LandscapeError(
            f"expected a finite gradient, found NaN or infinity in {bad} of {gradient.numel()} entries. The loss has "
            "no derivative here: look for a root, logarithm or division at 0, or measure another checkpoint."
        )
    return gradient


def _shapes(measured: dict[str, Any], group: Labels, present: Bools, rise: float, tol: float) -> dict[str, Any]:
    """Label and asymmetry of each direction, statistics of each group; only widths around a floor that was found."""
    floor = measured["floor_converged"]
    trusted = measured["converged"] & floor[:, None, None]
    shallow = measured["censored"].all((1, 2)) & (measured["lowest"] <= -rise).any(1)
    return {
        "shape": shape_labels(
            measured["exponent"],
            measured["exponent_stderr"],
            censored=measured["censored"],
            falling=measured["floor_censored"] | shallow,
            floor=floor,
            present=present,
            tol=tol,
        ),
        "asymmetry": asymmetry(measured["half_width"], trusted),
        **group_statistics(measured["half_width"], trusted, measured["exponent"], floor, group.tolist()),
    }


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    size, most = extent.size, settings["max_products"]
    low = max(settings["bottom"], settings["negative"])
    names = ("top", "bottom", "negative", "random", "filter_random", "gradient")
    lines = sum(int(settings[name]) for name in names)
    losses = search_losses(lines, len(settings["rises"]), settings["gap"])
    products = plus(
        lanczos_products(min(settings["top"], size), "top", size, most=most),
        lanczos_products(min(low, size), "bottom", size, most=most),
        (lines, lines),  # the curvature along each
    )
    vectors = max(lanczos_vectors(settings["top"], "top", size), lanczos_vectors(low, "bottom", size))
    # Searches ask for few slopes; each is a gradient.
    return Counts(forwards=losses, gradients=(1, 1 + 4 * lines), products=products, vectors=vectors)


PROBE = Probe("valley", 4, valley, SCHEMA, cost=_cost)
