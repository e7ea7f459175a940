"""What does the loss look like on a plane through a checkpoint, and where did training walk on it?"""

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
from landscape.loss.plane import losses_along
from landscape.probes.base import CURVATURE, LOSS, Context, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg import lanczos
from landscape.probes.tools.counts import lanczos_products, lanczos_vectors
from landscape.probes.tools.directions import filter_normalised, oriented

__all__ = ["PROBE", "surface"]

SCHEMA = Schema(
    {
        "alpha": Variable(("alpha",), "lengths of direction 1", "coordinate along direction 1"),
        "beta": Variable(("beta",), "lengths of direction 2", "coordinate along direction 2"),
        "loss": Variable(("alpha", "beta"), LOSS, "L(w + alpha d1 + beta d2)"),
        "gram": Variable(("direction", "direction_2"), "squared parameter units", "inner products of the directions"),
        "path_step": Variable(("path_step",), "updates", "training step of a path point", "i"),
        "path_alpha": Variable(("path_step",), "lengths of direction 1", "projection of a checkpoint on the plane"),
        "path_beta": Variable(("path_step",), "lengths of direction 2", "projection of a checkpoint on the plane"),
        "path_loss": Variable(("path_step",), LOSS, "true loss of the checkpoint, not of its projection"),
        "path_distance": Variable(("path_step",), "parameter units", "distance of the checkpoint from the plane"),
        "explained_variance": Variable(("direction",), "1", "share of the path's squared displacement along it"),
        "eigenvalue": Variable(("direction",), CURVATURE, "Hessian eigenvalue"),
        "eigen_residual": Variable(("direction",), CURVATURE, "|H d - lambda d|"),
        "direction_vector": Variable(("direction", "parameter"), "parameter units", "the two directions"),
    },
    optional=frozenset(
        {
            "path_step",
            "path_alpha",
            "path_beta",
            "path_loss",
            "path_distance",
            "explained_variance",
            "eigenvalue",
            "eigen_residual",
            "direction_vector",
        }
    ),
    probe="surface",
)
KINDS = ("eigen", "random", "pca")


def surface(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    directions: str | Tensor = "pca",
    points: int = 31,
    span: float | None = None,
    alpha: tuple[float, ...] | None = None,
    beta: tuple[float, ...] | None = None,
    keep_directions: bool = False,
    path: Tensor | None = None,
    path_steps: NDArray[np.int64] | None = None,
    path_loss: Tensor | None = None,
) -> xr.Dataset:
    r"""Loss on the plane w + alpha d1 + beta d2, with a training path projected into the same coordinates.

    Every value belongs to exactly the returned coordinates. A path point w_t has the coordinates of its orthogonal
    projection on the plane, G^-1 [d1'(w_t - w), d2'(w_t - w)] with the Gram matrix G, and carries its distance from
    the plane and its true loss, which differs from the plane's.

    Args:
        objective: the loss.
        w: centre of the plane, (P,).
        seed: of random directions and of the eigen-solver.
        directions: "eigen": the two leading unit eigenvectors of the Hessian; "random": Gaussian with every filter
            scaled to the norm of the weight's filter (Li et al., 2018); "pca": leading unit principal directions of
            the displacements w_t - w of the path (not centred); or a tensor (2, P).
        points: grid points per axis, if `alpha` and `beta` are not given.
        span: the grid goes from -span to span on both axes. None: 1 for "random" and given directions; else just wide
            enough for the path with a margin of 20 %, or a tenth of the norm of w where there is no path.
        alpha: coordinates along d1; overrides `points` and `span`.
        beta: coordinates along d2; likewise.
        keep_directions: store the two vectors (2 P numbers).
        path: (T, P) parameter vectors to project.
        path_steps: (T,) their training steps; default 0..T-1.
        path_loss: (T,) their losses; default the objective's. Give it where the objective holds other parameters fixed.

    Returns:
        Dataset with dims `alpha`, `beta`, `direction`, `path_step`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for "pca" without a path that moves in two dimensions, directions of a wrong shape or parallel.

    Example:
        >>> import torch
        >>> module = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(module, lambda y, t: y[:, 0], (torch.tensor([[1.0, 10.0]]), torch.zeros(1)))
        >>> ds = surface(objective, torch.zeros(2), seed=0, directions=torch.eye(2), alpha=(0, 1, 2), beta=(0, 1))
        >>> ds.loss.values.tolist()  # f = alpha + 10 beta
        [[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]
    """
    w = objective.vector(w)
    objective.check_finite(w)
    if path is not None and (path.ndim != 2 or path.shape[1] != objective.size):
        raise LandscapeError(f"expected a path of shape (T, {objective.size}), found {tuple(path.shape)}.")
    moves = None if path is None else path.to(w) - w
    D, extra = _plane(objective, w, directions, moves, seed)
    gram = D @ D.T
    if float(torch.linalg.det(gram)) <= 1e-12 * float(gram[0, 0] * gram[1, 1]):
        raise LandscapeError("the two directions are parallel or zero, so they span no plane.")
    values: dict[str, Any] = {"gram": gram, **extra}
    where = None
    if path is not None and moves is not None:
        where = torch.linalg.solve(gram, D @ moves.T)  # (2, T)
        values |= {
            "path_alpha": where[0],
            "path_beta": where[1],
            "path_loss": objective.losses(path) if path_loss is None else path_loss,
            "path_distance": (moves - where.T @ D).norm(dim=1),
        }
    if keep_directions:
        values["direction_vector"] = D
    unit = isinstance(directions, str) and directions != "random"
    axes = [
        np.asarray(given, dtype=np.float64) if given is not None else _axis(points, span, _default(w, where, i, unit))
        for i, given in enumerate((alpha, beta))
    ]
    if any(a.ndim != 1 or len(a) == 0 or not np.isfinite(a).all() for a in axes):
        raise LandscapeError("expected finite coordinates alpha and beta, at least one of each.")
    grid = torch.cartesian_prod(*map(torch.from_numpy, axes))
    values["loss"] = losses_along(objective, w, D, grid).reshape(len(axes[0]), len(axes[1]))
    coords: dict[str, Any] = {"alpha": axes[0], "beta": axes[1]}
    if path is not None:
        coords["path_step"] = np.arange(len(path)) if path_steps is None else np.asarray(path_steps)
    return SCHEMA.dataset(
        values, coords=coords, directions=directions if isinstance(directions, str) else "given", **objective.caveats
    )


def _plane(
    objective: Objective, w: Tensor, directions: str | Tensor, moves: Tensor | None, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The two directions (2, P) and what is known about them."""
    if isinstance(directions, Tensor):
        if directions.shape != (2, objective.size):
            raise LandscapeError(f"expected directions (2, {objective.size}), found {tuple(directions.shape)}.")
        return directions.to(w), {}
    if directions == "eigen":
        pairs = lanczos(objective.hessian(w), k=2, which="top", seed=seed)
        D = torch.stack([oriented(v) for v in pairs.vectors.T])
        return D.to(w), {"eigenvalue": pairs.values, "eigen_residual": pairs.residuals}
    if directions == "random":
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn(2, objective.size, generator=generator, dtype=torch.float64).to(w)
        return torch.stack([filter_normalised(objective, d, w) for d in draws]), {}
    if directions == "pca":
        if moves is None:
            raise LandscapeError('directions "pca" need a path of checkpoints.')
        _, s, V = torch.linalg.svd(moves, full_matrices=False)
        if len(s) < 2 or s[1] <= s[0] * torch.finfo(s.dtype).eps * max(moves.shape):
            raise LandscapeError(
                'directions "pca" need a path that moves in two dimensions: three or more checkpoints.'
            )
        return torch.stack([oriented(v) for v in V[:2]]), {"explained_variance": s[:2] ** 2 / (s**2).sum()}
    raise LandscapeError(f"unknown directions {directions!r}. Valid names: {', '.join(KINDS)}, or a tensor (2, P).")


def _default(w: Tensor, where: Tensor | None, axis: int, unit: bool) -> tuple[float, float]:
    """Range of an axis: the path with a margin if the directions have unit length, else -1 to 1."""
    if not unit:
        return -1.0, 1.0
    if where is None or float(where[axis].abs().max()) == 0:
        reach = 0.1 * float(w.norm()) or 1.0
        return -reach, reach
    low, high = min(0.0, float(where[axis].min())), max(0.0, float(where[axis].max()))
    margin = 0.2 * (high - low)
    return low - margin, high + margin


def _axis(points: int, span: float | None, default: tuple[float, float]) -> NDArray[np.float64]:
    if points < 2 or (span is not None and not (np.isfinite(span) and span > 0)):
        raise LandscapeError(f"expected points >= 2 and a positive, finite span, found {points} and {span}.")
    low, high = default if span is None else (-span, span)
    return np.linspace(low, high, points)


def _context(c: Context) -> dict[str, Any]:
    run, objective = c.run, c.objective
    checkpoints = run.parameters[:]
    context: dict[str, Any] = {"path": checkpoints[:, run.layout.mask(objective.layout.names)], "path_steps": run.steps}
    if run.apart(c.name):  # each checkpoint with its own buffers
        own = [c.at(int(s)) for s in run.steps]
        context["path_loss"] = torch.stack([o.loss(o.w0) for o in own])
    elif objective.size < run.layout.size:
        whole = run.objective(
            c.split, n=c.samples, dtype=objective.dtype, chunk=objective.chunk, device=objective.device, name=c.name
        )
        context["path_loss"] = whole.losses(checkpoints)
    return context


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    lengths = [settings["points"] if settings[axis] is None else len(settings[axis]) for axis in ("alpha", "beta")]
    losses = lengths[0] * lengths[1] + extent.points + 1
    eigen = settings["directions"] == "eigen"
    products = lanczos_products(2, "top", extent.size) if eigen else (0, 0)
    vectors = max(lanczos_vectors(2, "top", extent.size) if eigen else 0, 3 * extent.points + lengths[1])
    return Counts(forwards=(losses, losses), products=products, vectors=vectors)


PROBE = Probe(
    "surface",
    1,
    surface,
    SCHEMA,
    _context,
    context_names=frozenset({"path", "path_steps", "path_loss"}),
    whole_run=True,
    metric=False,
    cost=_cost,
    pointwise=True,
)
