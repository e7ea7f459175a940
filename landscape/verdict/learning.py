"""Numbers of a seed that come from training itself: accuracy, loss, compute, what was learned when."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from landscape.studies.dominance import interpolate
from landscape.verdict.quantity import Pick

__all__ = [
    "accuracy",
    "column",
    "drop",
    "final",
    "hard_accuracy",
    "length_accuracy",
    "loss_at_equal_compute",
    "loss_at_equal_updates",
    "order_of_learning",
    "slope_after_plateau",
]

Array = NDArray[np.float64]

HARD = "complex"
"""The family that is hard to learn, of tasks that have families."""
TOLERANCES = (0.0025, 0.005, 0.01)
"""How far below its best an accuracy may be to count as stalled."""
FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the training, at which losses are compared."""
DECREASES = (0.5, 0.75, 0.9)
"""Shares of its own decrease in loss after which a sample counts as learned."""
FEWEST = 5
"""Evaluations that a slope needs."""


def hard_accuracy(metrics: xr.Dataset) -> xr.DataArray:
    """Test accuracy of the family `complex`; of all samples where there is none."""
    family = HARD if HARD in metrics.family.values else "all"
    found: xr.DataArray = metrics.accuracy.sel(split="test", family=family, drop=True)
    return found


def accuracy(metrics: xr.Dataset) -> xr.DataArray:
    """Test accuracy of all samples."""
    found: xr.DataArray = metrics.accuracy.sel(split="test", family="all", drop=True)
    return found


def final(name: str) -> Pick:
    """A column of the metrics at the last evaluation."""
    return lambda metrics: metrics[name].isel(step=-1, drop=True)


def slope_after_plateau(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
    """Slope of A's accuracy minus that of B's, per 1000 updates, from where B stalls to the end.

    B has stalled at the first evaluation whose accuracy is within a tolerance of the best that B ever has. NaN where
    fewer than five evaluations, or less than a quarter of the training, are left: B has not stalled.
    """
    ys = xr.align(hard_accuracy(a), hard_accuracy(b), join="inner")
    steps = ys[0].step.values.astype(float)
    own, other = (y.values.astype(float) for y in ys)
    out = []
    for tolerance in TOLERANCES:
        near = other >= np.nanmax(other) - tolerance if np.isfinite(other).any() else np.zeros(len(other), bool)
        first = int(near.argmax()) if near.any() else len(steps)
        rest = steps[first:]
        long_enough = len(rest) >= FEWEST and rest[-1] - rest[0] >= 0.25 * (steps[-1] - steps[0])
        slopes = [1000 * np.polyfit(rest, y[first:], 1)[0] for y in (own, other)] if long_enough else [np.nan] * 2
        out.append(slopes[0] - slopes[1])
    return xr.DataArray(out, {"tolerance": list(TOLERANCES)}, dims="tolerance")


def order_of_learning(samples: xr.Dataset) -> xr.DataArray:
    """Spearman's correlation of a sample's information content and the step at which it was learned.

    A sample is learned at the first checkpoint at which its loss has made a share of its decrease from the first to
    the last one; one whose loss did not fall comes last. NaN without information content, or if it is all the same.
    """
    coordinate = {"decrease": list(DECREASES)}
    if "information_content" not in samples:
        return xr.DataArray([np.nan] * len(DECREASES), coordinate, dims="decrease")
    loss = samples.loss.transpose("step", "sample").values
    content = samples.information_content.values
    out = []
    for share in DECREASES:
        there = loss <= loss[0] - share * (loss[0] - loss[-1])
        step = np.where(loss[-1] < loss[0], there.argmax(0), len(loss))
        constant = len(np.unique(step)) < 2 or len(np.unique(content)) < 2
        out.append(np.nan if constant else float(stats.spearmanr(content, step).statistic))
    return xr.DataArray(out, coordinate, dims="decrease")


def _loss(metrics: xr.Dataset) -> xr.DataArray:
    found: xr.DataArray = metrics.loss.sel(split="probe", family="all", drop=True)
    return found


def loss_at_equal_updates(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
    """Loss of B minus that of A after K updates, at shares of the training; each at the nearest evaluation of both."""
    ours, others = xr.align(_loss(a), _loss(b), join="inner")
    steps = ours.step.values
    at = [int(np.abs(steps - f * steps[-1]).argmin()) for f in FRACTIONS] if len(steps) else []
    found = [float(others[i] - ours[i]) for i in at] or [np.nan] * len(FRACTIONS)
    return xr.DataArray(found, {"share of updates": list(FRACTIONS)}, dims="share of updates")


def loss_at_equal_compute(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
    """Loss of B minus that of A after equal FLOPs, at shares of what the cheaper of both used; linear in between."""
    curves = [(m.flops.values.astype(float), _loss(m).values.astype(float)) for m in (a, b)]
    budget = min(float(x[-1]) for x, _ in curves) * np.array(FRACTIONS)
    ours, others = (interpolate(x, y, budget) for x, y in curves)
    return xr.DataArray(others - ours, {"share of FLOPs": list(FRACTIONS)}, dims="share of FLOPs")


def drop(record: xr.Dataset) -> xr.DataArray:
    """Accuracy lost at the switch; NaN of a run that did not switch."""
    found: xr.DataArray = record.accuracy_drop.sel(split="test", family="all", drop=True)
    return found


def length_accuracy(*, mean: bool) -> Pick:
    """Accuracy as trained at lengths beyond the longest trained one, which is that at the last checkpoint."""

    def pick(length: xr.Dataset) -> xr.DataArray:
        trained = int(np.atleast_1d(length.trained_length.values)[-1])
        own = length.accuracy.isel(loops=0, drop=True)
        beyond = own.where(own.length > trained, drop=True)
        found: xr.DataArray = beyond.mean("length") if mean else beyond
        return found

    return pick


def column(name: str) -> Pick:
    """One number of a table of branches."""
    return lambda table: table[name]
