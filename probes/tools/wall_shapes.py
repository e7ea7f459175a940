"""What shape a valley has: statistics of half-widths over groups of directions, and a label for each direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError

__all__ = ["GROUPS", "RULE", "asymmetry", "group_statistics", "shape_labels"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

GROUPS = ("top", "bottom", "negative", "random", "filter", "gradient")
"""Kinds of directions, in the order in which they are measured."""

RULE = (
    "on both sides: V if p + 2 se < 2 - shape_tol, U if p - 2 se > 2 + shape_tol, quadratic if |p - 2| + 2 se <= "
    "shape_tol; falling if there is no floor: the loss falls as far as the limit, or, with no rise reached, falls "
    "below the place found by the smallest rise; else flat if no rise was reached; absent if there is no such "
    "direction; else undecided"
)
"""How a direction gets its label, from the exponents p and their standard errors se."""


def shape_labels(
    exponent: Array, stderr: Array, *, censored: Bools, falling: Bools, floor: Bools, present: Bools, tol: float
) -> NDArray[np.str_]:
    """The label of each direction: V, U, quadratic, flat, falling, absent or undecided; see `RULE`.

    The standard error is that of a straight line through log rise against log half-width: it measures how far the wall
    is from a power law, not noise. An exponent without a standard error (fewer than 3 rises reached) decides nothing,
    nor does one around a floor that was not found.

    Args:
        exponent: (m, 2) of both sides.
        stderr: (m, 2) its standard error.
        censored: (m, 2, n_rises), the limit came before the rise.
        falling: (m,) whether there is no floor, because the loss falls.
        floor: (m,) whether the floor is a minimum that was located.
        present: (m,) whether there is such a direction.
        tol: how far from 2 an exponent counts as 2.

    Returns:
        (m,) text.

    Raises:
        LandscapeError: for a tol that is negative or infinite.

    Source:
        Definition of this project; the paper gives none.

    Example:
        >>> p, yes, no = np.array([[1.0, 1.1], [2.1, 1.9], [1.0, 2.0]]), np.ones(3, bool), np.zeros((3, 2, 4), bool)
        >>> ask = {"censored": no, "falling": ~yes, "floor": yes, "present": yes}
        >>> shape_labels(p, 0.01 + 0 * p, **ask, tol=0.25).tolist()
        ['V', 'quadratic', 'undecided']
    """
    if not (np.isfinite(tol) and tol >= 0):
        raise LandscapeError(f"expected shape_tol >= 0 and finite, found {tol!r}.")
    with np.errstate(invalid="ignore"):  # NaN compares as False: it decides nothing
        rules = {
            "V": exponent + 2 * stderr < 2 - tol,
            "U": exponent - 2 * stderr > 2 + tol,
            "quadratic": np.abs(exponent - 2) + 2 * stderr <= tol,
        }
    label = np.full(len(exponent), "undecided", dtype="<U9")
    for name, sides in rules.items():
        label[sides.all(1) & floor] = name
    label[censored.all((1, 2))] = "flat"
    label[falling] = "falling"
    label[~present] = "absent"
    return label


def asymmetry(half_width: Array, trusted: Bools) -> Array:
    """log(s+ / s-) of the half-widths on the + and - side, at each rise.

    Args:
        half_width: (m, 2, n_rises), - side first.
        trusted: (m, 2, n_rises), which of them were reached and located.

    Returns:
        (m, n_rises); 0 for a symmetric valley, positive if the + side is wider; NaN unless both sides are trusted.

    Source:
        Definition of this project; the paper gives none.

    Example:
        >>> asymmetry(np.array([[[1.0], [np.e]]]), np.ones((1, 2, 1), bool)).round(9).tolist()
        [[1.0]]
    """
    sides = _logarithm(half_width, trusted)
    return sides[:, 1] - sides[:, 0]


def group_statistics(
    half_width: Array, trusted: Bools, exponent: Array, floor: Bools, group: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    r"""Mean and spread of log width, and mean exponent, over the directions of each group.

    The log width of a direction is the mean of log s over its two sides, of which both must be trusted; its exponent
    is the mean of both sides. Spreads are sample standard deviations (n - 1): cliffs that are equally steep have
    spread 0, varied ones a large one. For a quadratic valley the spread is half the standard deviation of log lambda,
    whatever the rise. Directions without a trusted width are left out, which `n_widths` says.

    Args:
        half_width: (m, 2, n_rises).
        trusted: (m, 2, n_rises), which of them were reached and located, around a floor that was.
        exponent: (m, 2).
        floor: (m,) whether the floor is a minimum that was located.
        group: (m,) the group of each direction, one of `GROUPS`.

    Returns:
        `log_width_mean`, `log_width_spread`, `n_widths` over (group, rise), `group_exponent`,
        `group_exponent_stderr`, `n_exponents` over (group,). Means are NaN without a direction, spreads and errors
        with fewer than 2.

    Source:
        Definition of this project; the paper gives none.

    Example:
        >>> s = np.array([1.0, np.e])[:, None, None] * np.ones((2, 2, 1))
        >>> yes = np.ones((2, 2, 1), bool)
        >>> found = group_statistics(s, yes, np.full((2, 2), 2.0), np.ones(2, bool), ["top", "top"])
        >>> found["log_width_spread"][0].round(6).tolist(), float(found["group_exponent"][0])
        ([0.707107], 2.0)
    """
    width = _logarithm(half_width, trusted).mean(1)
    power = np.where(floor[:, None], exponent, np.nan).mean(1)
    rows = [(width[np.array(group) == g], power[np.array(group) == g]) for g in GROUPS]
    widths = [_moments(w) for w, _ in rows]
    powers = [_moments(p[:, None]) for _, p in rows]
    n_exponents = np.array([n[0] for *_, n in powers])
    return {
        "log_width_mean": np.stack([mean for mean, _, _ in widths]),
        "log_width_spread": np.stack([spread for _, spread, _ in widths]),
        "n_widths": np.stack([n for *_, n in widths]),
        "group_exponent": np.array([mean[0] for mean, _, _ in powers]),
        "group_exponent_stderr": np.array([spread[0] for _, spread, _ in powers]) / np.sqrt(np.maximum(n_exponents, 1)),
        "n_exponents": n_exponents,
    }


def _logarithm(half_width: Array, trusted: Bools) -> Array:
    return np.log(np.where(trusted & (half_width > 0), half_width, np.nan))


def _moments(x: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean, sample standard deviation and number of what is finite in each column (m, n)."""
    n = np.isfinite(x).sum(0)
    mean = np.where(n > 0, np.nansum(x, 0) / np.maximum(n, 1), np.nan)
    square = np.nansum((x - mean) ** 2, 0) / np.maximum(n - 1, 1)
    return mean, np.where(n > 1, np.sqrt(square), np.nan), n.astype(np.int64)
