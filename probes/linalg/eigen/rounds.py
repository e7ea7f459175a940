"""The rounds of Lanczos behind `lanczos`: solve, check, and what to do when the check finds something."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.probes.linalg.eigen.krylov import Counted, Krylov, Locked, Vector, gaussian
from landscape.probes.linalg.eigen.missed import SHARE, Watch, lock
from landscape.probes.linalg.eigen.ritz import Ritz, Which, choose, projected, unchanged

__all__ = ["Solver"]

TARGET = 0.5
"""Lanczos stops at estimates of this part of the tolerance, so that the recomputed residuals do not just miss it."""

STALL = 0.1
"""Where a run's own part of an estimate is below this part of what the locked vectors brought, more steps are idle."""

TRUST = 0.25
"""Images made of earlier products count as true if a fresh product differs by less than this part of the tolerance."""

MIN_CHECK = 40
"""A check for missed eigenvalues may always use this many products, and never more than the solve before it."""

State = Literal["converged", "open", "stale", "stopped"]


class Solver:
    """One solve: rounds of Lanczos, each from a fresh vector and orthogonal to what was locked before it."""

    def __init__(
        self, op: Counted, k: int, which: Which, tol: float, budget: int, generator: torch.Generator, *, keep: int
    ) -> None:
        self.keep = keep
        self.op, self.k, self.which, self.tol, self.budget, self.generator = op, k, which, tol, budget, generator
        self.n_wanted = min(op.size, 2 * k if which == "both" else k)
        self.scale = 0.0  # in units of the operator, as all the numbers here
        self.run: Krylov
        self.ritz: Ritz
        # Residuals are paid for in advance, one product each; with too few products both halves shrink.
        self.limit = max(budget - self.n_wanted, budget // 2)

    def solve(self, start: Tensor, *, check_missed: bool) -> bool:
        """Rounds until converged, and checked if asked; whether the check ended well."""
        self.run = Krylov(self.op, start, keep=self.keep)
        if self.run.ended:  # an init that is all zeros after rounding
            self.run = self._random_run(None)
        watch: Watch | None = None
        n_solve, found = 0, False
        while True:
            done = self._advance(watch, n_solve)
            if self.run.complete:  # the basis spans the whole space: nothing can be missing
                return True
            if watch is not None and watch.passed:  # nothing was found beyond the edges, and long enough looked for
                return watch.bound <= 2 * watch.margin
            if self.op.n_products >= self.limit or done == "stopped" or not self.run.alpha:
                return False
            # What the check has found is part of the spectrum from now on; the next check begins with all of it.
            found = found or (watch is not None and watch.found)
            if done == "stale":
                # The bound is from errors that locked pairs brought along, and may be far above the true residual: look
                # at that. Where it is too large, go on from the worst: no fresh vector would reduce it.
                index = self._unsure()
                if self.op.n_products + index.size >= self.limit:
                    return False
                rows, values, rest = self._pairs(index)
                if not self._replace_errors(index, _host(rest.norm(dim=1))):
                    watch, self.run = None, self._from_residual(index, rows, values, rest)
                    continue
            if done in ("converged", "stale"):
                if not check_missed:
                    return False
                # A Krylov space contains one vector of each eigenspace, so a second one of the same eigenvalue shows
                # only from another start: lock what is known and look beyond it, no longer than the solve took.
                n_solve = n_solve or self.op.n_products
                margin = max(self.tol, 20 * self.op.eps) * self.scale
                # A check that found something may have done so only because of its share of the gap.
                share = 0.0 if found else SHARE
                locked, edges, bound = lock(self.run, self.ritz, self.k, self.which, margin, share=share)
                watch = Watch(edges, self.op.size - locked.theta.size, margin, bound)
                self.run = self._random_run(locked)
            else:  # an invariant space without enough pairs: keep all of it and look elsewhere
                watch = None
                every = np.arange(self.ritz.theta.size)
                self.run = self._random_run(
                    Locked(self._vectors(every), self.ritz.theta, self.ritz.error, self._images(every))
                )

    def _random_run(self, locked: Locked | None) -> Krylov:
        run = Krylov(self.op, gaussian(self.op.size, self.generator, self.op), locked, keep=self.keep)
        for _ in range(8):  # one dimension is left of thousands, and the vector had nearly nothing of it
            if not run.ended or run.complete:
                break
            run = Krylov(self.op, gaussian(self.op.size, self.generator, self.op), locked, keep=self.keep)
        return run

    def _weights(self, index: NDArray[np.intp]) -> Tensor:
        return torch.as_tensor(self.ritz.weights[:, index].T.copy(), dtype=self.op.dtype, device=self.op.device)

    def _vectors(self, index: NDArray[np.intp]) -> Tensor:
        """Ritz vectors as rows (len(index), P)."""
        return self._weights(index) @ self.run.basis

    def _images(self, index: NDArray[np.intp]) -> Tensor | None:
        """A times the Ritz vectors, from the products made, None if these were not kept."""
        return self.run.image(self._weights(index))

    def _advance(self, watch: Watch | None, n_solve: int) -> State:
        """Steps of the present run until there is something to decide."""
        first, next_look = self.op.n_products, 0
        while not self.run.ended and self.op.n_products < self.limit:
            self.run.step()
            n = self.run.basis.shape[0]
            if watch is not None and not watch.found:
                watch.step(self.run.alpha, self.run.beta)
                if not watch.found:
                    if watch.passed or self.op.n_products - first >= max(MIN_CHECK, n_solve):
                        break
                    continue
            if n >= self.n_wanted and n >= next_look:
                next_look = n + 1 + n // 50  # the small problem stays far below the cost of the products
                state = self._look()
                if state != "open":
                    return state
        if watch is not None and not watch.found:
            self.ritz = unchanged(self.run)
            return "converged" if watch.passed else "stopped"
        return self._look()

    def _look(self) -> State:
        """Solve the projected problem: "converged" if every wanted pair is there with a small enough estimate.

        "stale" if only what the locked vectors brought along is too large, which this run was not started to reduce:
        where they have errors c_i outside this Krylov space, its own part can stall above the target for good.
        """
        self.ritz = projected(self.run)
        self.scale = max(self.scale, float(np.abs(self.ritz.theta).max()))
        wanted = choose(self.ritz.theta, self.k, self.which)
        error, own = self.ritz.error[wanted], self.ritz.own[wanted]
        target = TARGET * self.tol * self.scale
        if wanted.size < self.n_wanted or (own > np.maximum(target, STALL * (error - own))).any():
            return "open"
        return "converged" if (error <= target).all() else "stale"

    def _unsure(self) -> NDArray[np.intp]:
        """The wanted pairs whose bound is too large."""
        wanted = choose(self.ritz.theta, self.k, self.which)
        return wanted[self.ritz.error[wanted] > TARGET * self.tol * self.scale]

    def _affordable(self) -> NDArray[np.intp]:
        """The wanted pairs, or as many as there are products left for."""
        room = self.budget - self.op.n_products
        wanted = choose(self.ritz.theta, self.k, self.which)
        if wanted.size <= room:
            return wanted
        return choose(self.ritz.theta, max(room // 2, 1) if self.which == "both" else room, self.which)[:room]

    def _pairs(self, index: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz vectors (m, P) as rows of unit norm, values (m,) and residual vectors (m, P).

        A v_i is the same combination of products as v_i of basis vectors. One product with a random combination of all
        v_i, signs s_i, tells how far these images are from fresh products: E |sum s_i e_i|^2 = sum |e_i|^2. Unless that
        is small beside the tolerance, every product is made again.
        """
        rows, products = self._vectors(index), self._images(index)
        length = rows.norm(dim=1, keepdim=True)
        rows = rows / length
        if products is not None and index.size > 1:
            products = products / length
            signs = gaussian(index.size, self.generator, self.op).sign()
            mixed = signs @ rows
            off = float((self.op(mixed / mixed.norm()) * mixed.norm() - signs @ products).norm())
            if not off <= TRUST * self.tol * self.scale:
                products = None
        if products is None or index.size <= 1:
            products = torch.stack([self.op(v) for v in rows])
        values = (rows * products).sum(dim=1)
        return rows, values, products - values[:, None] * rows

    def _replace_errors(self, index: NDArray[np.intp], true: Vector) -> bool:
        """Put true residuals in place of bounds; whether all wanted pairs are now good enough."""
        error = self.ritz.error.copy()
        error[index] = true
        self.ritz = self.ritz._replace(error=error)
        return self._unsure().size == 0

    def _from_residual(self, index: NDArray[np.intp], rows: Tensor, values: Tensor, rest: Tensor) -> Krylov:
        """A run from the worst residual vector, all Ritz vectors locked: Lanczos goes on where these pairs stand."""
        errors = rest.norm(dim=1)
        others = np.setdiff1d(np.arange(self.ritz.theta.size), index)
        images = self._images(others)
        locked = Locked(
            torch.cat([rows, self._vectors(others)]),
            np.concatenate([_host(values), self.ritz.theta[others]]),
            np.concatenate([_host(errors), self.ritz.error[others]]),
            None if images is None else torch.cat([rest + values[:, None] * rows, images]),
        )
        return Krylov(self.op, rest[int(errors.argmax())], locked, keep=self.keep)

    def verified(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (m, P), values (m,), true residuals (m,); where these fail the tolerance, one more short round."""
        index = self._affordable()
        rows, values, rest = self._pairs(index)
        failed = bool((rest.norm(dim=1) > self.tol * self.scale).any())
        if failed and self.op.n_products + 2 * self.n_wanted <= self.budget and not self.run.complete:
            self.run = self._from_residual(index, rows, values, rest)
            # More than a few steps cannot help: then the products themselves are not good to the tolerance.
            self.limit = min(self.budget - self.n_wanted, self.op.n_products + self.n_wanted)
            if not self.run.ended:
                self._advance(None, 0)
                again = self._pairs(self._affordable())
                if again[2].norm(dim=1).max() < rest.norm(dim=1).max():
                    rows, values, rest = again
        return rows, values, rest.norm(dim=1)


def _host(x: Tensor) -> Vector:
    return x.cpu().double().numpy()
