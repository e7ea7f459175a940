"""Means over groups of samples at many points: accuracy, and loss and accuracy by family or information content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective

__all__ = ["MEASURES", "Groups", "Labels", "group_means"]

MEASURES = ("accuracy", "families", "content")
"""What may be measured beside the mean loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """What is known of the N samples of a loss.

    Attributes:
        correct: ``(outputs, targets) -> (N,)`` shares in [0, 1].
        family: (N,) names.
        information_content: (N,) bits per token; NaN where it is not known.
    """

    correct: Callable[[Any, Any], Tensor] | None = None
    family: ArrayLike | None = None
    information_content: ArrayLike | None = None


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of samples, each by its indices, and what is told of them.

    Attributes:
        names: of the measures that are asked for.
        members: indices of the samples of each group: all first, then the families, then the bins of content.
        families: their names.
        bins: (C, 2) lowest and highest information content in each bin.
    """

    names: tuple[str, ...]
    members: tuple[NDArray[np.int64], ...]
    families: NDArray[np.str_]
    bins: NDArray[np.float64]

    @classmethod
    def of(cls, names: Sequence[str], labels: Labels, n: int, bins: int) -> Groups:
        """The groups that these measures need, of n samples; `bins` of as many samples each, by information content.

        Raises:
            LandscapeError: for an unknown measure, or one for which there are no labels.

        Example:
            >>> groups = Groups.of(["content"], Labels(information_content=[0.5, 3.0, 1.0, 2.0]), 4, bins=2)
            >>> [m.tolist() for m in groups.members], groups.bins.tolist()
            ([[0, 1, 2, 3], [0, 2], [3, 1]], [[0.5, 1.0], [2.0, 3.0]])
        """
        if unknown := [name for name in names if name not in MEASURES]:
            raise LandscapeError(f"unknown measure {unknown[0]!r}. Valid names: {', '.join(MEASURES)}.")
        family = _label(labels.family, n, "family", asked="families" in names)
        content = _label(labels.information_content, n, "information content", asked="content" in names)
        if "accuracy" in names and labels.correct is None:
            raise LandscapeError('the measure "accuracy" needs a task that says what is correct; this loss has none.')
        members, kinds, ends = [np.arange(n)], np.zeros(0, dtype="<U1"), np.zeros((0, 2))
        if family is not None:
            kinds = np.unique(family)
            members += [np.flatnonzero(family == kind) for kind in kinds]
        if content is not None:
            order = np.argsort(content, kind="stable")[: int(np.isfinite(content).sum())]
            if not 1 <= bins <= len(order):
                raise LandscapeError(
                    f"expected between 1 and {len(order)} bins, one sample each or more, found bins={bins}."
                )
            parts = np.array_split(order, bins)
            members += parts
            ends = np.array([[content[part[0]], content[part[-1]]] for part in parts])
        return cls(tuple(names), tuple(members), kinds, ends)


def _label(label: ArrayLike | None, n: int, name: str, *, asked: bool) -> NDArray[Any] | None:
    """The label of every sample, where it is asked for."""
    if not asked:
        return None
    found = np.zeros(0) if label is None else np.asarray(label)
    if label is None or (found.dtype.kind == "f" and not np.isfinite(found).any()):
        raise LandscapeError(f"a measure by {name} needs samples of which it is known; of this loss it is not.")
    if found.shape != (n,):
        raise LandscapeError(f"expected one {name} per sample, ({n},), found {found.shape}.")
    return found


def group_means(
    objective: Objective, w: Tensor, directions: Tensor, coordinates: Tensor, groups: Groups, labels: Labels
) -> NDArray[np.float64]:
    """Mean loss and accuracy of each group at w + sum_k c_k d_k, for each row c of coordinates (B, K): (B, groups, 2).

    Samples count with their weights. Accuracies are NaN where nobody said what is correct.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, lambda y, t: (y - t)[:, 0], (torch.ones(2, 1), torch.tensor([[0.0], [4.0]])))
        >>> labels = Labels(family=["a", "b"])
        >>> groups = Groups.of(["families"], labels, 2, bins=1)
        >>> group_means(objective, torch.zeros(1), torch.ones(1, 1), torch.tensor([[5.0]]), groups, labels)[0, :, 0]
        array([3., 5., 1.])
    """
    loss, correct = objective.chunks.per_sample_loss, labels.correct

    def both(outputs: Any, targets: Any) -> Tensor:
        losses = loss(outputs, targets)
        right = torch.full_like(losses, torch.nan) if correct is None else correct(outputs, targets).to(losses)
        return torch.stack([losses, right], dim=1)

    weights = objective.chunks.weights
    c = None if weights is None else weights.cpu().double().numpy()
    D, found = directions.to(w), np.full((len(coordinates), len(groups.members), 2), np.nan)
    for b, row in enumerate(coordinates.to(w)):
        point = w
        for a, d in zip(row, D, strict=True):
            point = point + a * d
        values = objective.map(point, both).cpu().double().numpy()
        for g, index in enumerate(groups.members):
            found[b, g] = np.average(values[index], axis=0, weights=None if c is None else c[index])
    return found
