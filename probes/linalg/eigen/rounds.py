"""The rounds of Lanczos behind `lanczos`: solve, check, and what to do when the check finds something."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.probes.linalg.eigen.krylov import Counted, Krylov, Locked, Vector, gaussian
from landscape.probes.linalg.eigen.missed import SHARE, Watch, lock
from landscape.probes.linalg.eigen.residuals import Pairs, measured, weights
from landscape.probes.linalg.eigen.ritz import Ritz, Which, choose, projected, unchanged
from landscape.probes.linalg.eigen.rows import Rows

__all__ = ["Solver"]

TARGET = 0.5
"""Lanczos stops at estimates of this part of the tolerance, so that the recomputed residuals do not just miss it."""

STALL = 0.1
"""Where a run's own part of an estimate is below this part of what the locked vectors brought, more steps are idle."""

HELD = 4
"""Rows that are left free when pairs are locked: two for the recurrence, and more that it is kept orthogonal to."""

MIN_CHECK = 40
"""A check for missed eigenvalues may always use this many products, and never more than the solve before it."""

State = Literal["converged", "open", "stale", "stopped"]


class Solver:
    """One solve: rounds of Lanczos, each from a fresh vector and orthogonal to what was locked before it.

    All vectors lie in `rows`. Where these are used up, a solve restarts from its best Ritz vectors and what they have
    left over; a check for missed eigenvalues cannot, and goes on without keeping its vectors.
    """

    def __init__(
        self, op: Counted, k: int, which: Which, tol: float, budget: int, generator: torch.Generator, *, rows: Rows
    ) -> None:
        self.op, self.k, self.which, self.tol, self.budget, self.generator = op, k, which, tol, budget, generator
        self.rows = rows
        self.n_wanted = min(op.size, 2 * k if which == "both" else k)
        # A restart keeps the wanted pairs and half of what else there is room for.
        self.n_kept = self.n_wanted + (rows.capacity - self.n_wanted) // 2
        self.scale = 0.0  # in units of the operator, as all the numbers here
        self.run: Krylov
        self.ritz: Ritz
        # What the residuals of the pairs set aside for a check are multiples of, and these, if images are not kept.
        self.tail: tuple[Tensor, Vector] | None = None
        # Residuals are paid for in advance, one product each; with too few products both halves shrink.
        self.limit = max(budget - self.n_wanted, budget // 2)

    def begin(self, start: Tensor) -> None:
        """Set the start vector (P,)."""
        self.run = Krylov(self.op, start, rows=self.rows)
        if self.run.ended:  # an init that is all zeros after rounding
            self.run = self._random_run(None)

    def solve(self, *, check_missed: bool) -> bool:
        """Rounds until converged, and checked if asked; whether the check ended well."""
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
                pairs = self._pairs(index)
                if not self._replace_errors(index, pairs.errors):
                    watch = None
                    self._from_worst(index, pairs)
                    continue
                del pairs
            if done in ("converged", "stale"):
                if not check_missed:
                    return False
                # A Krylov space contains one vector of each eigenspace, so a second one of the same eigenvalue shows
                # only from another start: lock what is known and look beyond it, no longer than the solve took.
                n_solve = n_solve or self.op.n_products
                margin = max(self.tol, 20 * self.op.eps) * self.scale
                # A check that found something may have done so only because of its share of the gap.
                share = 0.0 if found else SHARE
                room = self.rows.capacity - HELD
                index, edges, bound = lock(self.ritz, self.k, self.which, margin, share=share, room=room)
                watch = Watch(edges, self.op.size - index.size, margin, bound)
                self._look_elsewhere(index)
            else:  # an invariant space without enough pairs: keep what there is room for and look elsewhere
                watch = None
                self._look_elsewhere(self._best(self.n_kept))

    def _look_elsewhere(self, index: NDArray[np.intp]) -> None:
        """Lock Ritz pairs and start from a fresh vector."""
        ritz, self.tail = self.ritz, None
        if not (self.rows.has_images or self.run.ended):
            self.tail = self.run.newest.clone(), ritz.own[index]
        locked = Locked(ritz.theta[index], ritz.error[index], np.zeros(index.size))
        self.rows.combine(weights(self.ritz, index, self.op.like))
        self.run = self._random_run(locked)

    def _restart(self) -> None:
        """Make room: the run goes on with its best Ritz vectors alone, and from the vector that it had come to."""
        ritz, start = self.ritz, self.run.newest
        index = self._best(self.n_kept)
        left = ritz.error - np.abs(ritz.own)
        locked = Locked(ritz.theta[index], left[index], ritz.own[index])
        self.rows.combine(weights(self.ritz, index, self.op.like))
        self.run = Krylov(self.op, start, locked, rows=self.rows)

    def _random_run(self, locked: Locked | None) -> Krylov:
        for _ in range(9):  # one dimension is left of thousands, and the vector had nearly nothing of it
            run = Krylov(self.op, gaussian(self.op.size, self.generator, self.op), locked, rows=self.rows)
            if not run.ended or run.complete:
                break
        return run

    def _best(self, n: int) -> NDArray[np.intp]:
        """Up to n Ritz pairs, those at the ends asked for."""
        return choose(self.ritz.theta, n // 2 if self.which == "both" else n, self.which)

    def _advance(self, watch: Watch | None, n_solve: int) -> State:
        """Steps of the present run until there is something to decide."""
        first, next_look = self.op.n_products, 0
        while not self.run.ended and self.op.n_products < self.limit:
            watching = watch is not None and not watch.found
            if self.rows.full and not watching:
                state = self._look()
                if state != "open":
                    return state
                self._restart()
                next_look = 0
            self.run.step()
            if watching and watch is not None:
                watch.step(self.run.alpha, self.run.beta)
                if not watch.found:
                    if watch.passed or self.op.n_products - first >= max(MIN_CHECK, n_solve):
                        break
                    continue
                if self.run.forgets:  # something is there, but the vectors that would show it are gone
                    self.run = self._random_run(self.run.locked)
                    continue
            n = self.run.basis.shape[0]
            if n >= self.n_wanted and n >= next_look:
                next_look = n + 1 + n // 50  # the small problem stays far below the cost of the products
                state = self._look()
                if state != "open":
                    return state
        if watch is not None and not watch.found:
            self.ritz = unchanged(self.run, self.tail)
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
        error, own = self.ritz.error[wanted], np.abs(self.ritz.own[wanted])
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

    def _pairs(self, index: NDArray[np.intp]) -> Pairs:
        room = self.budget - self.op.n_products
        how = {"tol": self.tol, "scale": self.scale}
        return measured(self.run, self.ritz, index, **how, room=room, generator=self.generator)

    def _replace_errors(self, index: NDArray[np.intp], true: Vector) -> bool:
        """Put true residuals in place of bounds; whether all wanted pairs are now good enough."""
        error = self.ritz.error.copy()
        error[index] = true
        self.ritz = self.ritz._replace(error=error)
        return self._unsure().size == 0

    def _from_worst(self, index: NDArray[np.intp], pairs: Pairs) -> None:
        """A run from the worst residual vector, all Ritz vectors locked: Lanczos goes on where these pairs stand."""
        ritz = self.ritz
        room = max(self.n_wanted, self.rows.capacity - self.n_wanted - 2)
        every = np.concatenate([index, np.setdiff1d(self._best(room), index)])
        locked = Locked(
            np.concatenate([pairs.values, ritz.theta[every[index.size :]]]),
            np.concatenate([pairs.errors, ritz.error[every[index.size :]]]),
            np.zeros(every.size),
        )
        self.rows.combine(weights(ritz, every, self.op.like))
        self.run = Krylov(self.op, pairs.worst, locked, rows=self.rows)

    def verified(self) -> tuple[Tensor, Vector, Vector]:
        """Rows (m, P), values (m,), true residuals (m,); where these fail the tolerance, one more short round."""
        index = self._affordable()
        pairs = self._pairs(index)
        failed = bool((pairs.errors > self.tol * self.scale).any())
        if failed and self.op.n_products + 2 * self.n_wanted <= self.budget and not self.run.complete:
            self._from_worst(index, pairs)
            # More than a few steps cannot help: then the products themselves are not good to the tolerance.
            steps = min(self.n_wanted, self.rows.capacity - self.run.n_locked - 1)
            self.limit = min(self.budget - self.n_wanted, self.op.n_products + steps)
            if not self.run.ended:
                before = pairs._replace(rows=self.rows.head(index.size), worst=self.op.like)
                del pairs
                self._advance(None, 0)
                pairs = self._pairs(self._affordable())
                if pairs.errors.max() >= before.errors.max():
                    return before.rows.clone(), before.values, before.errors
        return pairs.rows, pairs.values, pairs.errors
