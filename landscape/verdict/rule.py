"""The rule: from numbers, one a seed, to supported, refuted or inconclusive. It knows no runs and no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from landscape.errors import LandscapeError

__all__ = [
    "DECISION_LEVEL",
    "LEVEL",
    "MINIMUM",
    "MOST",
    "POWER",
    "Decision",
    "Refutation",
    "decide",
    "interval",
    "seeds_for",
    "seeds_needed",
    "side",
]

Array = NDArray[np.float64]
Decision = Literal["supported", "refuted", "inconclusive"]
Refutation = Literal["all", "any"]

LEVEL = 0.95
"""Of the intervals that are shown."""
DECISION_LEVEL = 0.98
"""Of the intervals that decide: at 95 % skewed numbers are called an effect too often, see docs/concepts/verdict.md."""
MINIMUM = 5
"""Fewest seeds that decide: of n numbers without effect all are on the claimed side once in 2^n times, 3 % for five."""
POWER = 0.8
"""With which the number of seeds that would be needed is worked out."""
MOST = 1000
"""More seeds than these are not named."""
_T_POWER = 0.9
"""Power of the t-test where that of this rule, which asks more, was measured to be 0.8."""
_RESAMPLES = 9999
_FAR = 1e100
"""In place of infinity, which scipy warns of."""


def interval(values: ArrayLike, *, seed: int, levels: Sequence[float] = (LEVEL,), resamples: int = _RESAMPLES) -> Array:
    r"""Intervals of the mean of one number per seed: the hull of Student's and of the studentised bootstrap's.

    With mean m and standard error e of the n numbers, the bootstrap (`scipy.stats.bootstrap`) gives the distribution of
    t\* = (m\* - m) / e\* over resamples, and the interval [m - q_hi e, m - q_lo e] by its quantiles; Student's takes
    those of the t distribution. The hull holds both: the bootstrap knows about skewness, Student's about few seeds. A
    resample of one number repeated has no spread and counts as infinitely far. Where most seeds gave the same number
    these are so many that an end would be infinite: it is then the farther of Student's and of the numbers themselves.
    With fewer than five seeds Student's interval alone is given, which then decides nothing (`side`).

    Args:
        values: (..., n), one number per seed along the last axis, in the order of the seeds.
        seed: of the resampling.
        levels: of confidence, L of them.
        resamples: how many.

    Returns:
        (..., L, 2): lower and upper ends. NaN with a single number, or where one is not finite; without any spread the
        ends are the number itself.

    Raises:
        LandscapeError: without numbers, or for a level outside (0, 1).

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 12; the hull is a definition of this
        project.

    Example:
        >>> interval([1.0, 2.0, 2.5, 1.5, 2.0], seed=0, levels=[0.95, 0.98]).round(2).tolist()
        [[0.97, 2.51], [0.27, 2.82]]
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 0 or not x.shape[-1] or not all(0 < level < 1 for level in levels):
        raise LandscapeError(f"expected numbers and levels in (0, 1), found shape {x.shape} and {tuple(levels)}.")
    n, known = x.shape[-1], np.asarray(np.isfinite(x).all(-1))
    if n == 1 or not x.size:
        return np.full((*x.shape[:-1], len(levels), 2), np.nan)
    x = np.where(known[..., None], x, 0.0)
    mean = x.mean(-1)
    error = x.std(-1, ddof=1) / np.sqrt(n)
    quantiles = np.zeros((len(levels), 2, *mean.shape))
    if n >= MINIMUM:
        quantiles = _quantiles(x - mean[..., None], levels, seed, resamples)
    none = error <= 1e-13 * np.abs(x).max(-1)  # all the same number, but for rounding
    own = np.stack([x.min(-1), x.max(-1)], axis=-1)
    step, out = np.where(none, 1.0, error), []
    for level, (high, low) in zip(levels, quantiles, strict=True):
        # What bounds the mean from below is how far too high it may have come out, and the other way round.
        t = stats.t.ppf((1 + level) / 2, n - 1)
        bootstrap = np.stack([mean - high * step, mean - low * step], axis=-1)
        bootstrap = np.where(np.isinf(bootstrap), own, bootstrap)
        hull = np.stack(
            [np.fmin(bootstrap[..., 0], mean - t * step), np.fmax(bootstrap[..., 1], mean + t * step)], axis=-1
        )
        out.append(np.where(known[..., None], np.where(none[..., None], own, hull), np.nan))
    return np.stack(out, axis=-2)


def _quantiles(x: Array, levels: Sequence[float], seed: int, resamples: int) -> Array:
    """Upper and lower quantiles of the studentised mean over resamples of centred numbers (..., n); (L, 2, ...)."""
    found = stats.bootstrap(
        (x,), _studentised, n_resamples=resamples, batch=max(1, 2**21 // x.size), vectorized=True, axis=-1,
        method="percentile", random_state=np.random.default_rng(seed),
    ).bootstrap_distribution  # fmt: skip
    # The ends of a sample, not interpolated: half-way to infinity is nowhere.
    at = [(1 + sign * level) / 2 for level in levels for sign in (1, -1)]
    out = np.quantile(found, at, axis=-1, method="inverted_cdf").reshape(len(levels), 2, *x.shape[:-1])
    ends: Array = np.where(np.abs(out) < _FAR, out, np.copysign(np.inf, out))
    return ends


def _studentised(x: Array, axis: int) -> Array:
    """Mean over standard error of resamples of centred numbers; `_FAR` without spread."""
    mean = x.mean(axis)
    spread = x.std(axis, ddof=1)
    # One number repeated has a standard deviation of a rounding or two instead of 0.
    none = spread <= 1e-12 * np.abs(x).max(axis)
    out: Array = np.where(none, np.sign(mean) * _FAR, mean / np.where(none, 1.0, spread) * np.sqrt(x.shape[axis]))
    return out


def side(ends: ArrayLike, *, n: int, direction: int = 1, margin: float = 0.0) -> NDArray[np.int64]:
    """Where intervals lie: 1 on the claimed side of the margin, -1 on the other, 0 on neither or with too few seeds.

    Args:
        ends: (..., 2).
        n: seeds behind them.
        direction: 1 if numbers above the margin are claimed, -1 if those below.
        margin: what has to be passed; an interval that touches it lies on neither side.

    Example:
        >>> side([[0.1, 0.4], [-0.1, 0.4], [-0.4, -0.1]], n=8).tolist(), side([0.1, 0.4], n=3).tolist()
        ([1, 0, -1], 0)
    """
    low, high = np.moveaxis(np.asarray(ends, dtype=np.float64), -1, 0)
    above, below = low > margin, high < margin
    known = above | below
    claimed, other = (above, below) if direction > 0 else (below, above)
    out: NDArray[np.int64] = np.where(known & (n >= MINIMUM), claimed.astype(np.int64) - other, 0)
    return out


def decide(parts: Mapping[str, Sequence[int]], *, refuted_by: Refutation = "all") -> Decision:
    """What the sides of all rows say together.

    *supported*: every row of every part lies on the claimed side. *refuted*: every row of every part on the other
    side; or, for a claim each of whose parts is necessary (`refuted_by` "any"), every row of one of them.

    Args:
        parts: sides of the rows (metrics, thresholds) of each quantity; a part without rows was not answered.
        refuted_by: "all" parts, or "any".

    Example:
        >>> decide({"spread": [1, 1], "width": [1]}), decide({"spread": [1, 0], "width": [1]})
        ('supported', 'inconclusive')
        >>> decide({"accuracy": [1], "compute": [-1]}, refuted_by="any")
        'refuted'
    """
    if parts and all(len(rows) and all(s == 1 for s in rows) for rows in parts.values()):
        return "supported"
    against = [bool(len(rows)) and all(s == -1 for s in rows) for rows in parts.values()]
    if against and (any(against) if refuted_by == "any" else all(against)):
        return "refuted"
    return "inconclusive"


def seeds_needed(effect: float) -> int | None:
    """Seeds with which one row would be decided with a chance of 0.8, if the effect is what was seen.

    The smallest n at which the one-sided t-test at half of 1 - `DECISION_LEVEL` finds an effect of this size with
    probability 0.9; the rule, whose intervals are wider, was then measured to find it with about 0.8.

    Args:
        effect: standardised, (mean - margin) / standard deviation over seeds.

    Returns:
        At least `MINIMUM`; None if it is more than `MOST`, or not known.

    Source:
        Non-central t distribution; the correction is a definition of this project, measured in
        docs/concepts/verdict.md.

    Example:
        >>> [seeds_needed(effect) for effect in (2.0, -1.0, 0.5, 0.0)]
        [7, 16, 55, None]
    """
    size = abs(effect)
    if np.isinf(size):
        return MINIMUM
    if not size > 0:
        return None
    # With known spread it would take so many; Student's t takes a few more.
    least = (stats.norm.ppf((1 + DECISION_LEVEL) / 2) + stats.norm.ppf(_T_POWER)) ** 2 / size**2
    return next((n for n in range(max(MINIMUM, int(min(least, MOST))), MOST + 1) if _power(size, n) >= _T_POWER), None)


def _power(size: float, n: int) -> float:
    """Of the one-sided t-test."""
    return float(stats.nct.sf(stats.t.ppf((1 + DECISION_LEVEL) / 2, n - 1), n - 1, size * np.sqrt(n)))


def seeds_for(parts: Mapping[str, Sequence[float]], *, refuted_by: Refutation = "all") -> int | None:
    """Seeds with which a claim would be decided with a chance of about 0.8 a row, if all effects are as they were seen.

    Args:
        parts: standardised effects of the rows of each part, positive on the claimed side.
        refuted_by: as in `decide`.

    Returns:
        None where no number of seeds up to `MOST` would do: rows that point to different sides, or hardly to any.

    Example:
        >>> seeds_for({"a": [2.0, 1.0]}), seeds_for({"a": [2.0, -1.0]}), seeds_for({"a": [2.0], "b": [-1.0]})
        (16, None, None)
    """
    if not parts or not all(len(rows) for rows in parts.values()):
        return None

    def most(rows: Sequence[float], sign: int) -> int | None:
        found = [seeds_needed(e) if sign * e > 0 else None for e in rows]
        return None if None in found else max(n for n in found if n is not None)

    every = [e for rows in parts.values() for e in rows]
    ways: list[Any] = [most(every, 1), most(every, -1)]
    if refuted_by == "any":
        ways += [most(rows, -1) for rows in parts.values()]
    return min((n for n in ways if n is not None), default=None)
