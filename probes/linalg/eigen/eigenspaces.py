"""Whole eigenspaces among what Lanczos runs from random vectors have found."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from landscape.probes.linalg.eigen.krylov import Counted, Krylov, Vector

__all__ = ["Eigenspaces", "Known"]

SETTLED = 1e-9
"""A Ritz pair is an eigenpair if its residual is below so many norms of the operator (more in float32)."""
APART = 1e3
"""Eigenvalues closer than so many of these residuals are looked at together: a vector may be a mixture of theirs."""
SAME, OTHER = 1e-6, 1e-2
"""Squares of singular values up to which directions are the same, and from which on they are not."""


class _Found(NamedTuple):
    """One settled Ritz pair: node `place` of run `run`, and its vector in the common basis; None if not kept."""

    value: float
    run: int
    place: int
    vector: Tensor | None


class Known(NamedTuple):
    """Node `place` of run `run` stands for `number` eigenvalues; runs that have found further copies share them out."""

    run: int
    place: int
    value: float
    number: float


class Eigenspaces:
    r"""Which eigenvalues all runs have found with their whole eigenspace, so that their number is known exactly.

    A run finds one vector of an eigenspace, its projection of the start vector. Vectors of n runs span the whole space
    exactly if any n - 1 of them span the same: a space of n or more dimensions would still grow with the last one.
    Where runs from n vectors agree on r < n directions, r is therefore the multiplicity; if they never do, as for the
    many eigenvalues 0 of a singular matrix, it is not known.

    Args:
        op: the products.
        n_runs: number of runs, to be added one after another.
        room: most vectors kept at a time, (room, P).
    """

    def __init__(self, op: Counted, n_runs: int, room: int) -> None:
        self._op, self._n_runs, self._room = op, n_runs, room
        self._basis = torch.empty((0, op.size), dtype=op.dtype, device=op.device)
        self._found: list[_Found] = []
        self._open: list[float] = []

    @property
    def tolerance(self) -> float:
        """Largest residual of a settled pair, in the unit of the operator."""
        return max(SETTLED, 64 * self._op.eps) * self._op.norm

    def add(self, number: int, run: Krylov, theta: Vector, vectors: Vector, residual: Vector) -> None:
        """The Ritz pairs of a run that has ended, in the unit of the operator."""
        settled = residual <= self.tolerance
        self._open += theta[~settled & (vectors[0] ** 2 > self._op.eps)].tolist()  # lighter ones are rounding
        order = sorted(settled.nonzero()[0].tolist(), key=lambda j: -abs(theta[j]))  # the largest while there is room
        rows = torch.as_tensor(vectors[:, order].T.copy()).to(self._basis) @ run.basis
        for place, row in zip(order, rows, strict=True):
            self._found.append(_Found(float(theta[place]), number, place, self._in_basis(row)))

    def _in_basis(self, row: Tensor) -> Tensor | None:
        """Coordinates of a unit vector, of which a direction that is new joins the basis."""
        known = self._basis @ row
        rest = row - self._basis.T @ known
        again = self._basis @ rest
        rest, known = rest - self._basis.T @ again, known + again
        length = rest.norm()
        if float(length) ** 2 <= SAME:
            return known.cpu().double()
        if len(self._basis) >= self._room:
            return None
        self._basis = torch.cat([self._basis, (rest / length)[None]])
        return torch.cat([known, length[None]]).cpu().double()

    def known(self) -> list[Known]:
        """The nodes whose eigenvalues have been found by all runs with their whole space."""
        out: list[Known] = []
        near = APART * self.tolerance
        group: list[_Found] = []
        for found in [*sorted(self._found), None]:
            if group and (found is None or found.value > group[-1].value + near):
                alone = not any(group[0].value - near <= x <= group[-1].value + near for x in self._open)
                if alone:
                    out += self._of_group(group)
                group = []
            if found is not None:
                group.append(found)
        return out

    def _of_group(self, group: list[_Found]) -> list[Known]:
        members = [[f for f in group if f.run == i] for i in range(self._n_runs)]
        if self._n_runs < 2 or not all(members) or any(f.vector is None for f in group):
            return []
        rank = self._agreed_rank(group)
        # Rounding lets further copies of an eigenvalue into some runs. Different eigenvalues must be there in all.
        equal = group[-1].value - group[0].value <= 64 * self._op.eps * self._op.norm
        if rank is None or not (equal or all(len(m) == rank for m in members)):
            return []
        if equal:
            value = sum(f.value for f in group) / len(group)
            return [Known(f.run, f.place, value, rank / len(members[f.run])) for f in group]
        values = [sum(f.value for f in same) / self._n_runs for same in zip(*members, strict=True)]
        return [Known(f.run, f.place, x, 1.0) for m in members for f, x in zip(m, values, strict=True)]

    def _agreed_rank(self, group: list[_Found]) -> int | None:
        """Dimensions that the vectors span, if those of any run may be left out; None if not, or if it is not clear."""
        vectors = torch.zeros(len(group), len(self._basis), dtype=torch.float64)
        for row, found in zip(vectors, group, strict=True):
            if found.vector is not None:
                row[: len(found.vector)] = found.vector
        gram = vectors @ vectors.T
        if bool((gram**2 >= 1 - SAME).all()):  # one direction, in nearly all cases
            return 1
        runs = torch.tensor([f.run for f in group])
        ranks = {_rank(gram)} | {_rank(gram[runs != i][:, runs != i]) for i in range(self._n_runs)}
        return ranks.pop() if len(ranks) == 1 else None


def _rank(gram: Tensor) -> int | None:
    """The rank of vectors of unit length, None if it is not clear."""
    squares = torch.linalg.eigvalsh(gram)
    large = squares >= OTHER
    return int(large.sum()) if bool((large | (squares <= SAME)).all()) else None
