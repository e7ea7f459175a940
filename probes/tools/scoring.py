"""How many answers of a batch are right, with an interval: with given loops, or where samples stop by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.utils import _pytree as pytree

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.models.gpt import Adapted
from landscape.tasks.algorithmic import AlgorithmicTask
from landscape.tasks.base import IGNORE, token_accuracy

__all__ = ["LEVEL", "Adapt", "by_itself", "clopper_pearson", "scores"]

LEVEL = 0.95
Adapt = Callable[..., Adapted]
"""(w, tokens, max_loops=, threshold=, scored=) -> the logits of samples that stop by themselves."""


def scores(
    objective: Objective, w: Tensor, data: tuple[Any, Tensor], task: AlgorithmicTask, chunk: int
) -> dict[str, float]:
    """Every accuracy and the loss on one batch."""

    def each(outputs: Any, said: Any) -> Tensor:
        parts = (task.correct(outputs, said), token_accuracy(outputs, said), task.per_sample_loss(outputs, said))
        return torch.stack(parts, dim=1)

    w, n = objective.vector(w), len(data[1])
    found = []
    with torch.no_grad():
        for start in range(0, n, chunk):
            batch = pytree.tree_map(lambda x: x[start : start + chunk], data)  # noqa: B023
            found.append(objective.chunks.apply(w, batch, each))
    values: NDArray[np.float64] = torch.cat(found).double().cpu().numpy()
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        raise LandscapeError(
            f"expected a finite loss, found NaN or infinity for {len(bad)} of {n} samples of this length, of index "
            f"{', '.join(map(str, bad[:5]))}."
        )
    mean = values.mean(0)
    error = values.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(3, np.nan)
    low, high = clopper_pearson(round(float(values[:, 0].sum())), n)
    return {
        "accuracy": mean[0],
        "accuracy_lower": low,
        "accuracy_upper": high,
        "token_accuracy": mean[1],
        "token_accuracy_stderr": error[1],
        "loss": mean[2],
        "loss_stderr": error[2],
    }


def by_itself(
    adapt: Adapt,
    w: Tensor,
    data: tuple[Tensor, Tensor],
    task: AlgorithmicTask,
    chunk: int,
    *,
    threshold: float,
    max_loops: int,
) -> tuple[float, ...]:
    """Accuracy with its interval, mean loops and share converged of one batch; only scored positions decide."""
    right, loops, converged = 0.0, 0.0, 0.0
    for tokens, targets in zip(*(torch.split(x, chunk) for x in data), strict=True):
        found = adapt(w, tokens, max_loops=max_loops, threshold=threshold, scored=targets != IGNORE)
        right += float(task.correct(found.logits, targets).double().sum())
        loops += float(found.loops.double().sum())
        converged += float(found.converged.double().sum())
    n = len(data[1])
    return right / n, *clopper_pearson(round(right), n), loops / n, converged / n


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's interval for a probability of which k successes in n trials were seen."""
    tail = (1 - LEVEL) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    return low, 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
