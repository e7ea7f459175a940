"""What two runs are brought together by: the step, the loss they have reached, or the compute they have used."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.runs.run import Run

__all__ = ["LABELS", "Abscissa", "abscissa"]

Abscissa = Literal["step", "loss", "flops"]

LABELS = {
    "step": ("updates", "training step"),
    "loss": ("nats per token", "probe loss reached, its running minimum over the checkpoints"),
    "flops": ("FLOP", "floating-point operations of training so far, matrix products only"),
}
"""Units and long names."""


def abscissa(run: Run, steps: NDArray[np.int64], at: Abscissa) -> NDArray[np.float64]:
    """Where the checkpoints of these steps are on the common axis (T,).

    "step": the step. "flops": cumulative FLOPs of the metrics. "loss": loss of the probe split over all samples, as
    training measured it at the checkpoints, made monotone by its running minimum: the lowest loss reached so far. Of
    recorded runs it is the metric `loss`, and "flops" the metric `flops`, if they were recorded. NaN at a step at which
    it was not measured.

    Raises:
        LandscapeError: if it was measured at none of the steps.
    """
    if at == "step":
        return np.asarray(steps, dtype=float)
    metrics = run.metrics
    if at not in metrics:
        raise LandscapeError(f'{run.path} has no metric {at!r} recorded. Compare at="step".')
    here = metrics[at].reindex(step=steps)
    here = here.sel(split="probe", family="all") if "split" in here.dims else here
    found = np.asarray(here.values, dtype=float)
    if not np.isfinite(found).any():
        raise LandscapeError(f'{run.path} has no metric {at!r} at its checkpoints. Compare at="step".')
    return found if at == "flops" else np.where(np.isnan(found), np.nan, np.fmin.accumulate(found))
