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
from landscape.probes.base import Context, Counts, Extent, Probe
from landscape.probes.tools.around import Around, around
from landscape.probes.tools.counts import lanczos_products, lanczos_vectors, plus, search_losses
from landscape.probes.tools.on_planes import measured, on_grid, other_draws, other_frames, placed, replayed_updates
from landscape.probes.tools.planes import RANDOM, Centre, plane
from landscape.probes.tools.slices import axes
from landscape.probes.tools.slices import walls as measured_walls
from landscape.probes.tools.surface_variables import SCHEMA

__all__ = ["PROBE", "surface"]


def surface(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    directions: str | Tensor = "pca",
    dimensions: int | None = None,
    points: int | tuple[int, ...] = 31,
    span: float | str | tuple[float, ...] | None = None,
    alpha: tuple[float, ...] | None = None,
    beta: tuple[float, ...] | None = None,
    target: str | Tensor | None = None,
    k: int = 5,
    walls: bool = False,
    rise: float = 0.1,
    draws: int = 1,
    frames: tuple[int, ...] | str = (),
    measures: tuple[str, ...] = (),
    bins: int = 4,
    refine: int = 0,
    bend: float = 0.02,
    replay: int = 0,
    replay_from: int | None = None,
    keep_directions: bool = False,
    path: Tensor | None = None,
    path_steps: NDArray[np.int64] | None = None,
    path_loss: Tensor | None = None,
    surroundings: Around | None = None,
) -> xr.Dataset:
    r"""Loss on the plane w + alpha d1 + beta d2, or the line w + alpha d1, with what training did in its coordinates.

    Every value belongs to exactly the returned coordinates. A path point w_t has the coordinates of its orthogonal
    projection on the plane, G^-1 [d1'(w_t - w), d2'(w_t - w)] with the Gram matrix G, and carries its distance from
    the plane, its true loss and the loss of its projection. A line is a grid whose beta is the one number 0.

    Directions: "eigen", the two leading unit eigenvectors of the Hessian; "eigen-ends", the first and the last;
    "river", what the run moved in the second half of its way to w (by steps; from its first checkpoint, to the next),
    its part outside the `k` leading eigenvectors, against the first of these; "random", Gaussian with every filter
    scaled to the norm of the weight's filter (Li et al., 2018); "layer", with every parameter tensor; "pca", leading
    unit principal directions of the displacements w_t - w of the path (not centred); "gradient" and "update" (the
    optimiser's, of the gradient of this loss), of unit length, and "towards", target - w, each against the part of the
    leading eigenvector that is orthogonal to it; or a tensor (2, P), of a line (1, P).

    Args:
        objective: the loss.
        w: centre of the plane, (P,).
        seed: of random directions and of the eigen-solver.
        directions: name or tensor, see above.
        dimensions: 2 for a plane, 1 for the line along the first direction; None is what a tensor has, else 2.
        points: grid points per axis, one number for both or one for each, if `alpha` and `beta` are not given.
        span: the grid goes from -span to span, one number for both axes or one for each. "walls": from wall to wall
            (see `walls`) where there are any, with a margin of 10 %, shifted so that a point is at 0. None: 1 for
            random and given directions, -0.25 to 1.25 of the way to a target; else just wide enough for the path with a
            margin of 20 %, or a tenth of the norm of w where there is no path. With `frames` it is as wide, with 0 in
            the middle.
        alpha: coordinates along d1; overrides `points` and `span`.
        beta: coordinates along d2; likewise.
        target: of "towards": parameters (P,), or of a run ``RUN@STEP``, ``@STEP`` for a checkpoint of the same.
        k: of "river".
        walls: measure along each direction the nearest minimum (`floor`), where the loss has risen by `rise` above it
            on both sides (`wall`), slope and curvature.
        rise: in the unit of the loss.
        draws: planes of random directions, with the seeds seed, seed + 1, ..; the first is that of `loss`.
        frames: training steps whose checkpoints the same plane is laid through as well; "all" for every one.
        measures: beside the loss: "accuracy"; "families" and "content", loss and accuracy of every family of samples,
            and of `bins` bins of as many samples each by information content.
        bins: of "content".
        refine: halve the spacing so often, evaluating new points where the loss bends alone; the others are NaN, and
            `evaluated` says which are which.
        bend: how far a straight line may miss, as a part of the range of the loss on the grid.
        replay: single updates that are replayed from a checkpoint and placed like the path; fewer where there are.
        replay_from: its training step; None is the centre's.
        keep_directions: store the two vectors (2 P numbers).
        path: (T, P) parameter vectors to project.
        path_steps: (T,) their training steps; default 0..T-1.
        path_loss: (T,) their losses; default the objective's. Give it where the objective holds other parameters fixed.
        surroundings: what a run tells beside the path.

    Returns:
        Dataset with dims `alpha`, `beta`, `direction`, `path_step`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for a plane that cannot be laid, such as "pca" without a path that moves in two dimensions,
            parallel directions, or settings out of range.

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
    near = Around() if surroundings is None else surroundings
    given = 1 if isinstance(directions, Tensor) and len(directions) == 1 else 2
    count = given if dimensions is None else dimensions
    name = directions if isinstance(directions, str) else "given"
    _check(name, count, draws=draws, frames=frames, refine=refine, replay=replay)
    steps = None if path is None else np.arange(len(path)) if path_steps is None else np.asarray(path_steps)
    moves = None if path is None else path.to(w) - w
    centre = Centre(
        objective=objective, w=w, seed=seed, count=count, moves=moves, steps=steps, k=k, target=target, around=near
    )
    flat = plane(directions, centre)
    values: dict[str, Any] = {"gram": flat.gram, **flat.known}
    coords: dict[str, Any] = {}
    where = None
    if path is not None and moves is not None:
        where = flat.place(moves)[0]
        values = {
            "explained_variance": flat.explained(moves),
            **values,
            **placed(centre, flat, "path", path, path_loss),
        }
        values |= {k: v for k, v in (("path_loops", near.loops), ("path_own_loss", near.own_loss)) if v is not None}
        coords["path_step"] = steps
    if walls or span == "walls":
        values |= measured_walls(objective, w, flat, rise=rise)
        coords["side"] = np.array(["-", "+"])
    grid = axes(
        flat,
        w,
        points=points,
        span=span,
        given=(alpha, beta),
        where=where,
        wall=values.get("wall"),
        centred=bool(frames),
    )
    found, known, axis = on_grid(centre, flat, grid, refine=refine, bend=bend)
    values |= found
    coords |= dict(zip(("alpha", "beta"), axis, strict=True))
    values |= other_draws(centre, flat, name, axis, values["loss"], draws, coords) if draws > 1 else {}
    values |= other_frames(centre, flat, axis, frames, coords) if frames else {}
    values |= measured(centre, flat, axis, known, measures, bins, coords) if measures else {}
    values |= replayed_updates(centre, flat, replay, replay_from, coords) if replay else {}
    if keep_directions:
        values["direction_vector"] = flat.vectors
    return SCHEMA.dataset(values, coords=coords, directions=name, **objective.caveats)


def _check(name: str, count: int, *, draws: int, frames: Any, refine: int, replay: int) -> None:
    """Refuse settings that would be ignored, or make no sense."""
    if count not in (1, 2):
        raise LandscapeError(f"expected dimensions 1 (a line) or 2 (a plane), found {count}.")
    if draws < 1 or replay < 0:
        raise LandscapeError(f"expected draws >= 1 and replay >= 0, found draws={draws} and replay={replay}.")
    if draws > 1 and name not in RANDOM:
        raise LandscapeError(
            f"expected draws={draws} of random directions ({' or '.join(RANDOM)}), found directions {name!r}: there is "
            "one such plane. Leave out draws."
        )
    if refine and (draws > 1 or frames):
        raise LandscapeError(
            "expected refine=0 with several draws or frames: each would be refined at points of its own, and they "
            "could not be compared. Take more points."
        )


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
    return {**context, "surroundings": around(c)}


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    s, K = settings, settings["dimensions"] or 2
    counts = s["points"] if isinstance(s["points"], tuple) else (s["points"],) * 2
    lengths = [len(s[a]) if s[a] is not None else counts[i] if i < K else 1 for i, a in enumerate(("alpha", "beta"))]
    fine = [(n - 1) * 2 ** s["refine"] + 1 for n in lengths]
    frames = extent.points if s["frames"] == "all" else len(s["frames"])
    often = s["draws"] + frames + bool(s["measures"])
    beside = 2 * (extent.points + (s["replay"] + 1 if s["replay"] else 0)) + 1
    walls = s["walls"] or s["span"] == "walls"
    searched = search_losses(K, 1, 0.2) if walls else (0, 0)
    kind = s["directions"]
    pairs = {"eigen": K, "eigen-ends": 1, "river": s["k"], "gradient": K - 1, "update": K - 1, "towards": K - 1}
    wanted, which = pairs.get(kind, 0), "both" if kind == "eigen-ends" and K == 2 else "top"
    products = lanczos_products(wanted, which, extent.size)
    slope = int(walls) + (kind in ("gradient", "update"))
    return Counts(
        forwards=plus(
            (often * lengths[0] * lengths[1] + beside,) * 2,
            (0, often * (fine[0] * fine[1] - lengths[0] * lengths[1])),
            searched,
        ),
        gradients=(slope, slope + 4 * K * walls),
        products=plus(products, (K * walls,) * 2),
        vectors=max(lanczos_vectors(wanted, which, extent.size), 3 * extent.points + lengths[1]),
        beside=f"up to {s['replay']} updates of the training, replayed" if s["replay"] else "",
    )


PROBE = Probe(
    "surface",
    1,
    surface,
    SCHEMA,
    _context,
    context_names=frozenset({"path", "path_steps", "path_loss", "surroundings"}),
    whole_run=True,
    metric=False,
    cost=_cost,
    pointwise=True,
)
