"""How does every single sample fare? Loss and correctness, next to the sample's known difficulty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import LOSS, Context, Counts, Extent, Probe, Schema, Variable

__all__ = ["PROBE", "samples"]

SCHEMA = Schema(
    {
        "loss": Variable(("sample",), LOSS, "loss of the sample"),
        "correct": Variable(
            ("sample",), "1", "as the task counts it: share of scored tokens right, or the whole sample"
        ),
        "information_content": Variable(
            ("sample",), "bits per token", "information content under the true distribution", swept=False
        ),
        "family": Variable(("sample",), "", "family of the sample", "U", swept=False),
        "weight": Variable(("sample",), "1", "weight of the sample in the mean loss", swept=False),
    },
    optional=frozenset({"correct", "information_content", "family", "weight"}),
    probe="samples",
)


def samples(
    objective: Objective,
    w: Tensor,
    *,
    seed: int | None = None,  # noqa: ARG001
    correct: Callable[[Any, Any], Tensor] | None = None,
    information_content: ArrayLike | None = None,
    family: ArrayLike | None = None,
) -> xr.Dataset:
    """Loss of every sample at w, in the order of the data; swept over checkpoints, the per-sample trajectories.

    Args:
        objective: the loss, on N samples.
        w: where, (P,).
        seed: ignored, nothing here is random (see `Probe`).
        correct: ``(outputs, targets) -> (N,)`` shares in [0, 1]; left out of the result if None.
        information_content: (N,) bits per token, a label.
        family: (N,) names, a label.

    Returns:
        Dataset with dim `sample`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: if a label does not have N entries, or a loss is not finite.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> data = (torch.ones(3, 1), torch.arange(3.0)[:, None])
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> samples(objective, torch.tensor([1.0])).loss.values.tolist()
        [1.0, 0.0, 1.0]
    """
    objective.check_finite(w)
    values: dict[str, Any] = {"loss": objective.per_sample(w)}
    if correct is not None:
        values["correct"] = objective.map(w, correct)
    weights = objective.chunks.weights
    labels: dict[str, Any] = {} if weights is None else {"weight": weights}
    for name, label in (("information_content", information_content), ("family", family)):
        if label is not None:
            labels[name] = np.asarray(label)
            if labels[name].shape != (objective.n_samples,):
                raise LandscapeError(
                    f"expected one {name} per sample, ({objective.n_samples},), found {labels[name].shape}."
                )
    return SCHEMA.dataset(values, coords=labels)


def _context(c: Context) -> dict[str, Any]:
    if c.run.kind != "trained":  # nobody said what is correct there
        return {}
    part = c.run.task.split(c.split).head(c.samples)
    names = np.asarray(c.run.task.families)[part.family]
    return {"correct": c.run.task.correct, "information_content": part.information_content, "family": names}


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:  # noqa: ARG001
    return Counts(forwards=(2, 3))  # finite or not, the losses, and what is correct


PROBE = Probe(
    "samples",
    1,
    samples,
    SCHEMA,
    _context,
    context_names=frozenset({"correct", "information_content", "family"}),
    metric=False,
    cost=_cost,
)
