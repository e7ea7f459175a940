"""Units of one model put in the order of another's, by their weights; the function stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.models.symmetry import Piece, Symmetry, Units

__all__ = ["Matching", "match_units", "order_of"]

SWEEPS = 100
"""Rounds over all units, at most."""

Array = NDArray[np.float64]
Places = dict[str, NDArray[np.int64]]
"""Label -> which unit of b takes each place, (size,)."""


@dataclass(frozen=True)
class Matching:
    """A permutation of the entries of b.

    Attributes:
        order: (P,) integers; ``b[order]`` computes the same function as b.
        places: label -> which unit of b takes each place.
        moved: share of all units that take another place.
        distance: |b[order] - a|.
        converged: no exchange of one kind of units, the others held, brings b nearer to a.
    """

    order: Tensor
    places: Mapping[str, NDArray[np.int64]]
    moved: float
    distance: float
    converged: bool


def match_units(symmetry: Symmetry, layout: Layout, a: Tensor, b: Tensor, *, seed: int, restarts: int = 5) -> Matching:
    r"""Permute the units of b so that |b - a| is small: weight matching.

    |b[order] - a|^2 is least where the sum of a_i b[order]_i is largest. One kind of units after the other, in an order
    that is drawn, is given its best places while the others are held: a linear assignment problem, solved exactly, for
    heads with the best order of units within every pair of heads. Where a parameter has the same units on two axes
    (W_V of the toy) the problem is quadratic, and its linear part is solved; what does not bring b nearer is not taken.
    That ends where no kind of units can be improved by itself, which need not be the best of all permutations. The
    best of `restarts` is kept, the first from the given order and the others from drawn ones.

    Args:
        symmetry: of the model.
        layout: of both vectors.
        a: (P,).
        b: (P,), of which units change places.
        seed: of the orders that are drawn.
        restarts: how many starts.

    Source:
        Ainsworth, Hayase, Srinivasa, Git Re-Basin: merging models modulo permutation symmetries (arXiv 2209.04836),
        section 3.2; heads as wholes and restarts are this project's.

    Example:
        >>> from landscape.models import AttentionConfig, build_model
        >>> from landscape.models.symmetry import SYMMETRIES
        >>> model = build_model(AttentionConfig(width=4), vocabulary=6, length=5, seed=0)
        >>> layout, symmetry = Layout.of(model), SYMMETRIES["attention"](AttentionConfig(width=4))
        >>> w = torch.cat([p.detach().flatten() for p in model.parameters()])
        >>> mixed = w[order_of(symmetry, layout, {"stream": np.array([2, 0, 3, 1])})]
        >>> match_units(symmetry, layout, mixed, w, seed=0).distance
        0.0
    """
    if restarts < 1:
        raise LandscapeError(f"expected restarts >= 1, found {restarts}.")
    blocks = _Blocks(symmetry, layout, a, b)
    rng = np.random.default_rng(seed)
    found = []
    for i in range(restarts):
        places = {label: np.arange(u.size) if i == 0 else _drawn(u, rng)
                  for u in symmetry.units for label in u.labels}  # fmt: skip
        converged = _improved(blocks, symmetry, places, rng)
        found.append((blocks.product(places), converged, places))
    _, converged, places = max(found, key=lambda f: f[0])
    order = order_of(symmetry, layout, places)
    moved = sum(int((p != np.arange(len(p))).sum()) for p in places.values()) / sum(map(len, places.values()))
    return Matching(order, places, moved, float((b[order] - a).norm()), converged)


def order_of(symmetry: Symmetry, layout: Layout, places: Mapping[str, NDArray[np.int64]]) -> Tensor:
    """The permutation (P,) of a parameter vector that a permutation of units makes; labels left out stay as they are.

    Raises:
        LandscapeError: if the layout is not that of a model with these units.
    """
    index = {n: i.clone() for n, i in layout.unflatten(torch.arange(layout.size)).items()}
    for piece in symmetry.pieces:
        block = _cut(piece, index, layout)
        block.copy_(torch.from_numpy(_taken(block.numpy(), piece.labels, places)))
    return layout.flatten(index)


class _Blocks:
    """The pieces of both vectors as arrays."""

    def __init__(self, symmetry: Symmetry, layout: Layout, a: Tensor, b: Tensor) -> None:
        sides = [layout.unflatten(w.detach().cpu().double()) for w in (a, b)]
        self.labels = [piece.labels for piece in symmetry.pieces]
        self.a, self.b = ([_cut(p, side, layout).numpy() for p in symmetry.pieces] for side in sides)

    def product(self, places: Places) -> float:
        """The sum of a_i b[order]_i over what can move."""
        pieces = zip(self.labels, self.a, self.b, strict=True)
        return float(sum(np.vdot(a, _taken(b, labels, places)) for labels, a, b in pieces))

    def scores(self, label: str, size: int, places: Places) -> Array:
        """(size, size): what unit j of b adds to the product in place i, the other axes as they are."""
        total = np.zeros((size, size))
        for labels, a, b in zip(self.labels, self.a, self.b, strict=True):
            for axis in (i for i, own in enumerate(labels) if own == label):
                others = [None if i == axis else own for i, own in enumerate(labels)]
                moved = np.moveaxis(_taken(b, others, places), axis, 0).reshape(size, -1)
                total += np.moveaxis(a, axis, 0).reshape(size, -1) @ moved.T
        return total


def _improved(blocks: _Blocks, symmetry: Symmetry, places: Places, rng: np.random.Generator) -> bool:
    """Exchange units, in place, until none is better elsewhere; whether that was reached."""
    now = blocks.product(places)
    for _ in range(SWEEPS):
        before = now
        for i in rng.permutation(len(symmetry.units)):
            units = symmetry.units[i]
            trial = places | _assigned(units, [blocks.scores(label, units.size, places) for label in units.labels])
            there = blocks.product(trial)
            if there > now + 1e-12 * abs(now):  # less is rounding, and would go round in circles
                places.update(trial)
                now = there
        if now == before:
            return True
    return False


def _assigned(units: Units, scores: list[Array]) -> Places:
    """The best places of units, heads as wholes."""
    heads, size = units.heads, units.size // units.heads
    best = np.zeros((heads, heads))
    inner = np.zeros((len(scores), heads, heads, size), dtype=np.int64)
    for k, score in enumerate(scores):
        blocks = score.reshape(heads, size, heads, size).transpose(0, 2, 1, 3)
        for i in range(heads):
            for j in range(heads):
                rows, inner[k, i, j] = linear_sum_assignment(blocks[i, j], maximize=True)
                best[i, j] += blocks[i, j][rows, inner[k, i, j]].sum()
    _, taken = linear_sum_assignment(best, maximize=True)
    return {
        label: np.concatenate([size * j + inner[k, i, j] for i, j in enumerate(taken)])
        for k, label in enumerate(units.labels)
    }


def _drawn(units: Units, rng: np.random.Generator) -> NDArray[np.int64]:
    """Any order of units; of heads, an order within each, since heads as wholes are put in order exactly."""
    size = units.size // units.heads
    return np.concatenate([size * i + rng.permutation(size) for i in range(units.heads)])


def _cut(piece: Piece, tensors: Mapping[str, Tensor], layout: Layout) -> Tensor:
    if piece.parameter not in tensors or tensors[piece.parameter].ndim != len(piece.labels):
        raise LandscapeError(
            f"expected a parameter {piece.parameter!r} with {len(piece.labels)} axes, found those of layout "
            f"{layout.hash}: {', '.join(layout.names)}. These units are of another model."
        )
    return tensors[piece.parameter][piece.start : piece.stop]


def _taken(block: NDArray[Any], labels: Sequence[str | None], places: Mapping[str, NDArray[np.int64]]) -> NDArray[Any]:
    """A block with its labelled axes permuted."""
    for axis, label in enumerate(labels):
        if label is not None and label in places:
            block = np.take(block, places[label], axis=axis)
    return block
