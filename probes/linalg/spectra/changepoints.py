"""Where a series changes its level or its slope: exact segmentation with a penalty for every change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError

__all__ = ["FEWEST", "Signal", "change_points", "noise_of_differences"]

Array = NDArray[np.float64]
Signal = Literal["level", "slope"]

FEWEST = 5
"""Points below which no change is looked for."""


def noise_of_differences(x: Sequence[float] | Array) -> float:
    r"""Standard deviation of the noise on a piecewise constant series: median |x_(t+1) - x_t| / (0.6745 sqrt(2)).

    The median leaves out the few differences that hold a change. It is not centred: a steady drift counts as noise, so
    that it takes a faster change than the usual one to be found.

    Source:
        definition of this project, after the median absolute deviation of Hampel, J. Am. Stat. Assoc. 69 (1974).

    Example:
        >>> round(noise_of_differences([0.0, 0.9539, 0.0, 0.9539]), 3)
        1.0
    """
    x = np.asarray(x, float)
    return float(np.median(np.abs(np.diff(x)))) / (0.6745 * math.sqrt(2)) if len(x) > 1 else math.nan


def change_points(
    x: Sequence[float] | Array, *, penalty: float, signal: Signal = "level", shortest: int = 2
) -> NDArray[np.bool_]:
    r"""Where new segments begin: the segmentation with the least sum_segments sum_t (x_t - mean)^2 + beta * changes.

    beta = penalty * sigma^2 * log n, with sigma from `noise_of_differences`. Under noise of known variance the
    Bayesian information criterion is penalty = 2: each change brings one mean and one position. The minimum is exact:
    dynamic programming gives the best segmentation for every number of changes. Pruning as in PELT is not used, since
    with a shortest segment it can drop the start of the best segment.

    Args:
        x: the series (n,), one value per checkpoint; distances between checkpoints do not enter.
        penalty: positive.
        signal: segments of constant "level", or of constant "slope", that is level of x_(t+1) - x_t.
        shortest: fewest points in a segment.

    Returns:
        (n,) bool, True at the first point of each new segment; the first point of all begins none. For "slope" the
        point at which the slope turns. No change with fewer than five points, or a value that is not finite.

    Raises:
        LandscapeError: for a penalty that is not positive, an unknown signal, or `shortest` below 1.

    Source:
        Optimal partitioning of Jackson and others, IEEE Signal Processing Letters 12 (2005), by `Dynp` of the package
        ruptures (Truong, Oudre, Vayatis, Signal Processing 167, 2020).

    Example:
        >>> change_points([5.0, 5.1, 5.0, 1.0, 1.1, 1.0, 1.1], penalty=2.0).nonzero()[0].tolist()
        [3]
    """
    x = np.asarray(x, float)
    if not penalty > 0 or shortest < 1 or signal not in ("level", "slope"):
        raise LandscapeError(
            "expected penalty > 0, shortest >= 1 and signal level or slope, found "
            f"{penalty}, {shortest} and {signal!r}."
        )
    found = np.zeros(len(x), dtype=bool)
    if len(x) < FEWEST or not np.isfinite(x).all() or np.ptp(x) == 0:
        return found
    series = (np.diff(x) if signal == "slope" else x) / np.ptp(x)
    if len(series) < 2 * shortest:
        return found
    series = series - series.mean()
    # Steps that are all equal leave no noise; rounding of the series itself is the least there can be.
    sigma = max(noise_of_differences(series), float(np.finfo(float).eps * np.abs(x).max() / np.ptp(x)))
    found[_cheapest(series, penalty * sigma**2 * math.log(len(series)), shortest)] = True
    return found


def _cheapest(series: Array, beta: float, shortest: int) -> list[int]:
    """The changes of the segmentation with the least squares + beta * changes; of equal ones, the fewest changes."""
    import ruptures  # loads for a second, which only those pay who look for changes

    method = ruptures.Dynp(model="l2", min_size=shortest, jump=1).fit(series[:, None])
    least, best = math.inf, []
    for changes in range(len(series) // shortest):
        if beta * changes >= least:  # squares are not negative: more changes cannot cost less
            break
        ends = method.predict(n_bkps=changes)
        cost = float(method.cost.sum_of_costs(ends)) + beta * changes
        if cost < least:
            least, best = cost, ends[:-1]
    method.seg.cache_clear()  # it belongs to the class and would keep this series
    return best
