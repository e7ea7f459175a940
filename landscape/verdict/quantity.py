"""What a claim is judged by: a number per seed, where it comes from, and which side of what is claimed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

__all__ = ["METRICS", "Pick", "Quantity", "base", "difference", "log_ratio", "ratio", "treated"]

Pick = Callable[[xr.Dataset], xr.DataArray]
"""From one answer, numbers along `step` and whatever thresholds it scans."""
Reader = Callable[[xr.Dataset, xr.Dataset], xr.DataArray]
"""From the answers of both runs of a pair, in the order of `Quantity.of`, one seed's number, along the same axes."""
METRICS = ("euclidean", "filter", "adam")
"""In which curvatures are asked for: those of two architectures are not commensurable in any single one."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One quantity of a claim.

    Attributes:
        name: short.
        words: what it is, with A and B for the two architectures of a pair (A the one that is claimed to differ).
        unit: of it.
        probe: whose answers it is read from; or what runs tell themselves: metrics, shift, projection, decay.
        variables: of these answers, that are read; of what runs tell themselves all are.
        read: number of a seed from the answers of A and B.
        of: whose answers are needed.
        metrics: that are looked at; one without a metric has "none".
        fewest: metrics that must be answered before the quantity can support a claim.
        direction: 1 if what is claimed lies above the margin, -1 if below.
        margin: see `landscape.verdict.rule.side`.
        decides: whether the claim depends on it; if not it is shown beside.
        optional: a claim that can be decided without it, where it was not asked.
        why: why it does not decide, or where its margin comes from.
    """

    name: str
    words: str
    unit: str
    probe: str
    read: Reader
    variables: tuple[str, ...] = ()
    of: Literal["both", "A", "B"] = "both"
    metrics: tuple[str, ...] = ("none",)
    fewest: int = 1
    direction: int = 1
    margin: float = 0.0
    decides: bool = True
    optional: bool = False
    why: str = ""


def difference(pick: Pick) -> Reader:
    """A minus B."""
    return lambda a, b: pick(a) - pick(b)


def ratio(pick: Pick) -> Reader:
    """A over B, where B is not 0."""

    def read(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
        below = pick(b)
        return pick(a) / below.where(below != 0)

    return read


def log_ratio(pick: Pick) -> Reader:
    """Natural logarithm of A over B, where both are positive."""

    def read(a: xr.Dataset, b: xr.Dataset) -> xr.DataArray:
        over, below = pick(a), pick(b)
        found: xr.DataArray = xr.apply_ufunc(np.log, over.where(over > 0) / below.where(below > 0))
        return found

    return read


def treated(pick: Pick) -> Reader:
    """The number of A alone."""
    return lambda a, b: pick(a)  # noqa: ARG005


def base(pick: Pick) -> Reader:
    """The number of B alone."""
    return lambda a, b: pick(b)  # noqa: ARG005
