"""How much does a model learn from the examples in its prompt, and how much could it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import LOSS, Context, Counts, Extent, Probe, Schema, Variable
from landscape.tasks import RegressionTask

__all__ = ["PROBE", "examples"]

_BY = ("examples",)

SCHEMA = Schema(
    {
        "error": Variable(_BY, LOSS, "squared error after the last loop, mean over prompts"),
        "error_stderr": Variable(_BY, LOSS, "its standard error over prompts"),
        "window_error": Variable(("loop", "examples"), LOSS, "squared error after each loop that the loss sees"),
        "least_squares": Variable(_BY, LOSS, "squared error of least squares on the same prompts", swept=False),
        "bayes": Variable(_BY, LOSS, "squared error of the posterior mean on the same prompts", swept=False),
        "bayes_expected": Variable(_BY, LOSS, "smallest expected squared error", swept=False),
        "nothing": Variable(_BY, LOSS, "squared error of the prediction 0", swept=False),
        "n_samples": Variable((), "1", "prompts", "i", swept=False),
        "examples": Variable(_BY, "1", "examples before the question", "i", swept=False),
        "loop": Variable(("loop",), "1", "loops before the last one", "i", swept=False),
    },
    optional=frozenset({"least_squares", "bayes", "bayes_expected"}),
    probe="examples",
)


def examples(
    objective: Objective,
    w: Tensor,
    *,
    seed: int | None = None,  # noqa: ARG001
    references: Callable[[], Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """Squared error at w against the number of examples in the prompt, beside what the best methods make of them.

    `least_squares`: of smallest norm where there are fewer examples than dimensions. `bayes`: the posterior mean, which
    is ridge regression with the penalty noise^2 d, NaN for functions of which it is not known; its error on these
    prompts scatters around `bayes_expected`, and so can a model's lie below it.

    Args:
        objective: the loss of prompts: outputs (N, loops, k + 1) and targets (N, k + 1).
        w: where, (P,).
        seed: ignored, nothing here is random (see `Probe`).
        references: errors by number of examples, (k + 1,) each, by name; without it they are left out.

    Returns:
        Dataset with dims `examples` and `loop`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: if the loss is not finite.

    Source:
        The curves of Garg et al. (arXiv 2208.01066) and Yang et al. (arXiv 2311.12424).

    Example:
        >>> import torch
        >>> from landscape.models import Regressor, RegressorConfig
        >>> g = torch.Generator().manual_seed(0)
        >>> model = Regressor(RegressorConfig(width=4, heads=1), vocabulary=2, length=5, generator=g)
        >>> data = (torch.zeros(7, 5, 2), torch.ones(7, 3))
        >>> objective = Objective(model, RegressionTask.per_sample_loss, data)
        >>> found = examples(objective, torch.zeros(objective.size))
        >>> found.error.values.tolist(), found.examples.values.tolist()
        ([1.0, 1.0, 1.0], [0, 1, 2])
    """
    objective.check_finite(w)
    errors = objective.map(w, lambda y, t: (y - t[:, None]) ** 2).double()
    n, loops, questions = errors.shape
    nothing = objective.map(w, lambda _, t: t**2).double()
    values = {
        "error": errors[:, -1].mean(0),
        "error_stderr": errors[:, -1].std(0, correction=1) / n**0.5 if n > 1 else errors[0, -1] * np.nan,
        "window_error": errors.mean(0),
        "nothing": nothing.mean(0),
        "n_samples": n,
        **({} if references is None else references()),
    }
    return SCHEMA.dataset(
        values, coords={"examples": np.arange(questions), "loop": np.arange(loops)[::-1].copy()}, **objective.caveats
    )


def _context(c: Context) -> dict[str, Any]:
    task = c.run.task
    if not isinstance(task, RegressionTask):
        raise LandscapeError(
            f"expected a run of the task 'regression', whose prompts have examples, found {c.run.config.task.name!r}."
        )
    part = task.split(c.split).head(c.samples)

    def references() -> dict[str, Any]:
        config, targets = task.config, part.targets.double().numpy()
        penalties = {"least_squares": 0.0, "bayes": config.noise**2 * config.dim}
        found = {k: ((task.ridge(part.inputs, penalty=p) - targets) ** 2).mean(0) for k, p in penalties.items()}
        if config.function != "linear":
            found["bayes"] = np.full_like(found["bayes"], np.nan)
        return found | {"bayes_expected": task.bayes_errors}

    return {"references": references}


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:  # noqa: ARG001
    return Counts(forwards=(3, 4), beside="least squares on every prompt")


PROBE = Probe(
    "examples",
    1,
    examples,
    SCHEMA,
    _context,
    context_names=frozenset({"references"}),
    metric=False,
    by_default=False,
    cost=_cost,
)
