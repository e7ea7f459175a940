"""Planes and lines through a checkpoint: directions by name, what is known of them, and where other points lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.linalg import lanczos
from landscape.probes.tools.around import Around
from landscape.probes.tools.directions import filter_normalised, layer_normalised, oriented

__all__ = ["KINDS", "RANDOM", "Centre", "Plane", "plane"]

RANDOM = ("random", "layer")
"""Kinds of planes that are drawn."""
PARALLEL = 1e-6
"""Sine of two directions below which they count as parallel where one is made orthogonal to the other."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Centre:
    """Where a plane is laid, and what it may be made of.

    Attributes:
        objective: the loss.
        w: the point (P,).
        seed: of random directions and of the eigen-solver.
        count: directions: 2 of a plane, 1 of a line.
        moves: (T, P) displacements of the training path from w; None without a path.
        steps: (T,) their training steps.
        k: leading eigenvectors that are projected out of the run's progress.
        target: another point (P,), or its name.
        around: what the run tells.
    """

    objective: Objective
    w: Tensor
    seed: int
    count: int = 2
    moves: Tensor | None = None
    steps: NDArray[np.int64] | None = None
    k: int = 5
    target: str | Tensor | None = None
    around: Around = field(default_factory=Around)


@dataclass(frozen=True, eq=False)
class Plane:
    """Directions (K, P), K = 1 or 2, through a point.

    Attributes:
        vectors: (K, P).
        known: what is known of them, by name of a variable of `surface`.
        ranges: for each direction a range of coordinates worth looking at; None: as wide as the path.
        gram: (K, K) inner products.

    Raises:
        LandscapeError: for directions that are parallel or zero.

    Example:
        >>> Plane(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).place(torch.tensor([[3.0, 4.0, 5.0]]))
        (tensor([[1.5000, 4.0000]]), tensor([5.]))
    """

    vectors: Tensor
    known: dict[str, Any] = field(default_factory=dict)
    ranges: tuple[tuple[float, float] | None, ...] = (None, None)

    def __post_init__(self) -> None:
        gram = self.gram
        if float(torch.linalg.det(gram)) <= 1e-12 * float(gram.diagonal().prod()):
            found = "two directions are parallel or zero, so they span no plane"
            raise LandscapeError(f"the {found}." if len(gram) == 2 else "the direction is zero, so there is no line.")

    @property
    def gram(self) -> Tensor:
        """D D'."""
        return self.vectors @ self.vectors.T

    def place(self, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (T, K) of the orthogonal projections of displacements (T, P), and their distances (T,)."""
        where = torch.linalg.solve(self.gram, self.vectors @ moves.T).T
        return where, (moves - where @ self.vectors).norm(dim=1)

    def explained(self, moves: Tensor) -> Tensor:
        """(K,) shares of the squared displacements along each direction; of the second, its part across the first."""
        Q, _ = torch.linalg.qr(self.vectors.T)
        share: Tensor = ((moves @ Q) ** 2).sum(0) / (moves**2).sum()
        return share


def plane(directions: str | Tensor, centre: Centre) -> Plane:
    """The plane or line of this name, or given by its directions (K, P).

    Raises:
        LandscapeError: for an unknown name, a wrong shape, or what a plane of this name needs and is not there.
    """
    if isinstance(directions, Tensor):
        if directions.shape != (centre.count, centre.objective.size):
            raise LandscapeError(
                f"expected directions ({centre.count}, {centre.objective.size}), found {tuple(directions.shape)}."
            )
        return Plane(directions.to(centre.w), ranges=((-1.0, 1.0),) * 2)
    if directions not in KINDS:
        raise LandscapeError(f"unknown directions {directions!r}. Valid names: {', '.join(KINDS)}, or a tensor (2, P).")
    return KINDS[directions](centre)


def _eigen(c: Centre) -> Plane:
    pairs = lanczos(c.objective.hessian(c.w), k=c.count, which="top", seed=c.seed)
    return _of_pairs(c, pairs, list(range(c.count)))


def _ends(c: Centre) -> Plane:
    pairs = lanczos(c.objective.hessian(c.w), k=1, which="both" if c.count == 2 else "top", seed=c.seed)
    return _of_pairs(c, pairs, [0, -1][: c.count])


def _of_pairs(c: Centre, pairs: Any, index: list[int]) -> Plane:
    D = torch.stack([oriented(pairs.vectors[:, i]) for i in index])
    return Plane(D.to(c.w), {"eigenvalue": pairs.values[index], "eigen_residual": pairs.residuals[index]})


def _drawn(normalised: Callable[[Objective, Tensor, Tensor], Tensor]) -> Callable[[Centre], Plane]:
    def build(c: Centre) -> Plane:
        generator = torch.Generator().manual_seed(c.seed)
        # Always two, so that a line is the first direction of the plane with the same seed.
        draws = torch.randn(2, c.objective.size, generator=generator, dtype=torch.float64).to(c.w)
        D = torch.stack([normalised(c.objective, d, c.w) for d in draws[: c.count]])
        return Plane(D, ranges=((-1.0, 1.0),) * 2)

    return build


def _pca(c: Centre) -> Plane:
    if c.moves is None:
        raise LandscapeError('directions "pca" need a path of checkpoints.')
    _, s, V = torch.linalg.svd(c.moves, full_matrices=False)
    if len(s) < c.count or s[c.count - 1] <= s[0] * torch.finfo(s.dtype).eps * max(c.moves.shape):
        raise LandscapeError('directions "pca" need a path that moves in two dimensions: three or more checkpoints.')
    share = s[: c.count] ** 2 / (s**2).sum()
    return Plane(torch.stack([oriented(v) for v in V[: c.count]]), {"explained_variance": share})


def _river(c: Centre) -> Plane:
    p = _progress(c)
    if not 1 <= c.k < c.objective.size:
        raise LandscapeError(f'directions "river" need 1 <= k < P = {c.objective.size} eigenvectors, found k = {c.k}.')
    pairs = lanczos(c.objective.hessian(c.w), k=c.k, which="top", seed=c.seed)
    V = pairs.vectors.T.to(c.w)
    river = p - (V @ p) @ V
    river = river - (V @ river) @ V  # once more, for the rounding
    share = float((river @ river) / (p @ p))
    if share < PARALLEL**2:
        raise LandscapeError(
            f'directions "river" need progress outside the {c.k} leading eigenvectors, found none. Take a smaller k.'
        )
    nan = torch.full_like(pairs.values[:1], math.nan)
    known = {
        "eigenvalue": torch.cat([nan, pairs.values[:1]])[: c.count],
        "eigen_residual": torch.cat([nan, pairs.residuals[:1]])[: c.count],
        "river_share": share,
        "cosine": float(V[0] @ p / p.norm()),
    }
    return Plane(torch.stack([river / river.norm(), oriented(V[0])])[: c.count], known)


def _progress(c: Centre) -> Tensor:
    """What the run moved in the second half of its way to the centre; from the first checkpoint, to the next."""
    if c.moves is None or c.steps is None or len(c.moves) < 2:
        raise LandscapeError('directions "river" need a path of two checkpoints or more.')
    here = int(c.moves.norm(dim=1).argmin())
    before = np.flatnonzero(c.steps[:here] <= (c.steps[0] + c.steps[here]) / 2)
    p = -c.moves[int(before[-1])] if here > 0 else c.moves[1]
    if float(p.norm()) == 0:
        raise LandscapeError('directions "river" need a path that moves, found none before the centre.')
    return p


def _gradient(c: Centre) -> Plane:
    return _against_top(c, _unit(c.objective.grad(c.w), "gradient"))


def _update(c: Centre) -> Plane:
    if c.around.update is None:
        raise LandscapeError('directions "update" need a run that tells its optimiser. Use "gradient".')
    try:
        u = c.around.update()
    except LandscapeError as error:
        raise LandscapeError(f"{error} Or look along the gradient: surface.directions=gradient.") from error
    return _against_top(c, _unit(c.objective.vector(u), "update"))


def _towards(c: Centre) -> Plane:
    if c.target is None:
        raise LandscapeError('directions "towards" need a target: surface.target=RUN@STEP, or @STEP of the same run.')
    if isinstance(c.target, str):
        if c.around.find is None:
            raise LandscapeError(f"expected a target (P,): there is no run that could find {c.target!r}.")
        other = c.around.find(c.target)
    else:
        other = c.objective.vector(c.target)
    away = other - c.w
    _unit(away, "way to the target")
    return _against_top(c, away, (-0.25, 1.25))


def _unit(u: Tensor, what: str) -> Tensor:
    size = float(u.norm())
    if not 0 < size < math.inf:
        raise LandscapeError(f"expected the {what} to have a finite length above 0, found {size}: it is no direction.")
    return u / size


def _against_top(c: Centre, first: Tensor, reach: tuple[float, float] | None = None) -> Plane:
    """The first direction, and the leading eigenvector's part across it, of unit length."""
    if c.count == 1:
        return Plane(first[None], ranges=(reach,))
    pairs = lanczos(c.objective.hessian(c.w), k=1, which="top", seed=c.seed)
    v, u = oriented(pairs.vectors[:, 0]).to(c.w), first / first.norm()
    cosine = float(u @ v)
    across = v - (u @ v) * u
    across = across - (u @ across) * u
    if float(across.norm()) < PARALLEL:
        raise LandscapeError(
            "the first direction is the leading eigenvector itself, so the two span no plane. Use directions=eigen."
        )
    nan = torch.full_like(pairs.values, math.nan)
    known = {
        "eigenvalue": torch.cat([nan, pairs.values]),
        "eigen_residual": torch.cat([nan, pairs.residuals]),
        "cosine": cosine,
    }
    return Plane(torch.stack([first, across / across.norm()]), known, (reach, None))


KINDS: dict[str, Callable[[Centre], Plane]] = {
    "eigen": _eigen,
    "eigen-ends": _ends,
    "river": _river,
    "random": _drawn(filter_normalised),
    "layer": _drawn(layer_normalised),
    "pca": _pca,
    "gradient": _gradient,
    "update": _update,
    "towards": _towards,
}
"""Planes by name."""
