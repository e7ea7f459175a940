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
    recorded runs it is the metric `loss`, and "flops" the metric `flops`, if they were recorded.

    Raises:
        LandscapeError: if the run was not evaluated at one of the steps.
    """
    if at == "step":
        return np.asarray(steps, dtype=float)
    metrics = run.metrics
    if missing := sorted(set(map(int, steps)) - set(map(int, metrics["step"].values))):
        raise LandscapeError(
            f'{run.path} has no metrics at step {missing[0]}, so its {at} there is not known. Compare at="step".'
        )
    if at not in metrics:
        raise LandscapeError(f'{run.path} has no metric {at!r} recorded. Compare at="step".')
    here = metrics[at].sel(step=steps)
    if at == "flops":
        return np.asarray(here.values, dtype=float)
    loss = (here.sel(split="probe", family="all") if "split" in here.dims else here).values
    return np.asarray(np.fmin.accumulate(loss), dtype=float)
