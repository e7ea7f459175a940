"""Spectral dominance: has one spectrum more, and component-wise smaller, eigenvalues below a threshold?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.errors import LandscapeError

__all__ = ["dominance"]


def dominance(a: ArrayLike, b: ArrayLike, taus: Sequence[float], *, floor: float = 0.0) -> dict[str, NDArray[Any]]:
    r"""Count and compare, eigenvalue by eigenvalue, what lies in floor < lam <= tau of two spectra.

    The eigenvalues of a window are ordered from the smallest: if any assignment of each of a's to another one of b's
    that is no larger exists, then this one is. Assumption 1 of the paper holds for b against a where
    `count_below_difference` > 0 and `dominance_fraction` = 1.

    Args:
        a: all eigenvalues (P_a,), in any order.
        b: all eigenvalues (P_b,).
        taus: thresholds, positive.
        floor: eigenvalues not above it (negative ones, rounding) do not belong to the valley.

    Returns:
        Arrays, one entry per threshold: `count_below_a`, `count_below_b`, `count_below_difference` (b - a),
        `dominance_ranks` (the smaller count: ranks that both have), and `dominance_fraction`, the share of these with
        lam_i(b) <= lam_i(a); NaN without ranks or for spectra that are not finite.

    Raises:
        LandscapeError: for thresholds that are not positive, or a negative floor.

    Source:
        arXiv 2510.10089, Assumption 1; the paper gives no threshold and no order of the components.

    Example:
        >>> found = dominance([4.0, 0.5, 0.2], [3.0, 0.6, 0.1, 0.01], [1.0])
        >>> {name: float(value[0]) for name, value in found.items()}  # 0.01 <= 0.2, 0.1 <= 0.5
        {'count_below_a': 2.0, 'count_below_b': 3.0, 'count_below_difference': 1.0, 'dominance_ranks': 2.0,
         'dominance_fraction': 1.0}
    """
    if not all(t > 0 for t in taus) or floor < 0:
        raise LandscapeError(f"expected positive thresholds and a floor >= 0, found {tuple(taus)} and {floor}.")
    one, two = np.sort(np.asarray(a, float)), np.sort(np.asarray(b, float))
    known = bool(np.isfinite(one).all() and np.isfinite(two).all())
    rows = []
    for tau in taus:
        p, q = (x[(x > floor) & (x <= tau)] for x in (one, two))
        n = min(len(p), len(q))
        fraction = float(np.mean(q[:n] <= p[:n])) if n else np.nan
        rows.append((len(p), len(q), len(q) - len(p), n, fraction) if known else (np.nan,) * 5)
    names = ("count_below_a", "count_below_b", "count_below_difference", "dominance_ranks", "dominance_fraction")
    return dict(zip(names, np.array(rows, dtype=float).reshape(-1, 5).T, strict=True))
