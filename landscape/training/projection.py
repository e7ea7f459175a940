"""Training in a part of the space: every update projected on the valley or on the river of the probe loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from landscape.errors import LandscapeError, RunFailedError
from landscape.loss.objective import Objective

__all__ = ["Projection", "Projector"]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Which part of every update is kept.

    Attributes:
        subspace: "valley" keeps the part in the span of the k leading Hessian eigenvectors of the probe loss (dominant
            subspace), "river" the rest (bulk).
        k: number of eigenvectors, the algebraically largest eigenvalues first; fewer than P.
        every: the eigenvectors are computed anew at the steps `since`, `since` + `every`, ...
        samples: of the probe split, the first so many; None is all of it.
        tol: largest residual of an eigenpair, relative to the spectral norm; a worse one ends the training.
        since: step at which the projection began. A branch sets it; it keeps the one of an origin with the same
            projection, so that a branch of a projected run continues it.

    Source:
        Song, Ahn, Yun, Does SGD really happen in tiny subspaces? (arXiv 2405.16002).

    Example:
        >>> Projection(subspace="river", k=3).every
        10
    """

    subspace: Literal["valley", "river"]
    k: int = 10
    every: int = 10
    samples: int | None = None
    tol: float = 1e-6
    since: int = 0

    def __post_init__(self) -> None:
        if self.subspace not in ("valley", "river"):
            raise LandscapeError(f"expected projection.subspace 'valley' or 'river', found {self.subspace!r}.")
        for name, limit in (("k", 1), ("every", 1), ("samples", 1), ("since", 0)):
            value = getattr(self, name)
            if value is not None and value < limit:
                raise LandscapeError(f"expected projection.{name} >= {limit}, found {value}.")
        if not 0 < self.tol < 1:
            raise LandscapeError(f"expected 0 < projection.tol < 1, found {self.tol}. Use for example 1e-6.")

    def computed_at(self, step: int) -> int:
        """The step whose parameters give the eigenvectors that project the update from `step` to `step` + 1."""
        return step - (step - self.since) % self.every


class Projector:
    r"""Projects updates d in R^P: valley V V' d, river d - V V' d, with V (P, k) the leading Hessian eigenvectors.

    V is a pure function of (seed, the step at which it was computed, the parameters there: the *anchor*), never of an
    earlier V. A checkpoint that keeps the anchor therefore continues bit for bit, wherever it lies between two
    computations. Everything here is float64, whatever the training's dtype.

    Args:
        objective: the probe loss.
        projection: what to keep.
        seed: of the eigen-solver, mixed with the step.

    Attributes:
        anchor: (P,) parameters at which V is computed; NaN before the first visit.

    Raises:
        LandscapeError: if k is not smaller than P.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)  # H = diag(4, 1)
        >>> projector = Projector(objective, Projection(subspace="valley", k=1), seed=0)
        >>> projector.visit(0, torch.ones(2))
        >>> [abs(round(x, 9)) for x in projector.project(torch.tensor([1.0, 1.0])).tolist()]
        [1.0, 0.0]
    """

    def __init__(self, objective: Objective, projection: Projection, *, seed: int) -> None:
        if projection.k >= objective.size:
            raise LandscapeError(
                f"expected fewer directions than parameters, found projection.k = {projection.k} of "
                f"P = {objective.size}. With all of them nothing is projected; choose a smaller k."
            )
        self._objective, self._projection, self._seed = objective, projection, seed
        self.load(None)

    def load(self, anchor: Tensor | None) -> None:
        """Continue from a checkpoint with this anchor; None if there is none yet."""
        nothing = torch.full_like(self._objective.w0, torch.nan)
        self.anchor = nothing if anchor is None else self._objective.vector(anchor).clone()
        self._basis: Tensor | None = None

    def visit(self, step: int, w: Tensor) -> None:
        """Make V ready for the update that leads from `step`, with parameters w (P,), to `step` + 1.

        Raises:
            LandscapeError: if V belongs to an earlier step and the anchor of that step was not loaded.
            RunFailedError: if the eigenvectors cannot be computed to the tolerance.
        """
        at = self._projection.computed_at(step)
        if at == step:
            self.anchor, self._basis = self._objective.vector(w).clone(), None
        if self._basis is None:
            self._basis = self._eigenvectors(at, step)

    def project(self, update: Tensor) -> Tensor:
        """The part of an update d (P,) that is kept, (P,) in float64."""
        if self._basis is None:
            raise LandscapeError("expected `visit` before `project`: the eigenvectors are not known yet.")
        d = self._objective.vector(update)
        inside = self._basis @ (self._basis.T @ d)
        return inside if self._projection.subspace == "valley" else d - inside

    def _eigenvectors(self, at: int, step: int) -> Tensor:
        """The orthonormal columns V (P, k) at the anchor."""
        from landscape.probes.linalg import lanczos  # with it comes SciPy; unprojected training does without

        p = self._projection
        if not bool(torch.isfinite(self.anchor).all()):
            raise LandscapeError(
                f"the projection of step {step} needs the parameters of step {at}, found none. "
                "Load the state of a checkpoint of this run, with its anchor, or start at a step that computes anew."
            )
        seed = int(np.random.SeedSequence([self._seed, 0x70726F6A, at]).generate_state(1)[0])
        budget = 10 * (300 + 30 * p.k)  # ten times the solver's own: training cannot go on without an answer
        try:
            pairs = lanczos(self._objective.hessian(self.anchor), k=p.k, tol=p.tol, max_products=budget, seed=seed)
        except LandscapeError as error:  # the settings are checked: the Hessian is not finite
            raise RunFailedError(f"no leading Hessian eigenvectors at step {at}: {error}") from error
        if not (bool(pairs.converged.all()) and pairs.resolved):
            worst = float(pairs.residuals.max()) / pairs.scale if pairs.scale > 0 else float("nan")
            raise RunFailedError(
                f"the {p.k} leading Hessian eigenvectors at step {at} did not converge to projection.tol = {p.tol:g} "
                f"within {pairs.n_products} products (largest relative residual {worst:.2g}). "
                "Choose a larger tolerance or a smaller k."
            )
        basis: Tensor = torch.linalg.qr(pairs.vectors).Q
        return basis
