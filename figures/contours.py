"""Contours of the loss on planes, with one set of levels for all of them, and the path of training on top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import QuadContourSet
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from landscape.figures.datasets import Array
from landscape.figures.marks import one_colour
from landscape.figures.style import MAP, missing, no_value

__all__ = ["POINT", "Levels", "draw_path", "plane_handles"]

_WIDE = 10.0
"""Levels are spaced logarithmically if the largest excess over the minimum is this many times a slice's median one."""


@dataclass(frozen=True)
class Levels:
    """Contour levels for all panels together, of the loss or of its excess over the minimum of each slice."""

    values: Array
    log: bool
    unit: str

    @classmethod
    def of(cls, losses: Sequence[Array], levels: str, unit: str) -> Levels:
        """Round levels that cover all finite losses; in the logarithmic case, the highest four decades of them."""
        finite = [z[np.isfinite(z)] for z in losses if np.isfinite(z).any()] or [np.zeros(1)]
        excess = [z - z.min() for z in finite]
        highest = max(e.max() for e in excess)
        flat = any(highest > _WIDE * np.median(e) or one_colour(e, highest) for e in excess)
        wide = levels == "log" or (levels == "auto" and flat)
        if wide and highest > 0:
            lowest = max(min(e[e > 0].min() for e in excess if e.any()), 1e-4 * highest)
            decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
            round_numbers = np.array([float(f"{m}e{k}") for k in decades for m in (1, 2, 5)])
            first = int(np.searchsorted(round_numbers, lowest, side="right")) - 1
            last = max(int(np.searchsorted(round_numbers, highest)), first + 1)
            return cls(round_numbers[first : last + 1], log=True, unit=unit)
        low, high = min(z.min() for z in finite), max(z.max() for z in finite)
        return cls(np.asarray(MaxNLocator(nbins=14).tick_values(low, high), float), log=False, unit=unit)

    @property
    def ticks(self) -> list[float]:
        """Where the colour bar has ticks: at most seven."""
        return [float(v) for v in self.values[:: -(-len(self.values) // 7)]]

    @property
    def label(self) -> str:
        """The label of the colour bar."""
        return f"loss − minimum of the slice\n({self.unit}; log scale)" if self.log else f"loss ({self.unit})"

    def draw(self, ax: Axes, ds: xr.Dataset, *, scale: tuple[float, float] = (1.0, 1.0)) -> QuadContourSet:
        """The contours of one slice; its rows (beta) run along y and its columns (alpha) along x, times `scale`."""
        no_value(ax)
        loss = ds["loss"].values.astype(float).T  # (beta, alpha), as contourf wants it
        z = np.ma.masked_invalid(loss - np.nanmin(loss) if self.log and np.isfinite(loss).any() else loss)
        extend: Literal["min", "neither"] = "min" if self.log else "neither"
        # Not LogNorm: it would punch a hole where the loss is exactly the minimum.
        norm = BoundaryNorm(self.values, 256, extend=extend)
        x, y = ds["alpha"].values * scale[0], ds["beta"].values * scale[1]
        return ax.contourf(x, y, z, levels=self.values, cmap=MAP, norm=norm, extend=extend)


def draw_path(ax: Axes, ds: xr.Dataset, *, scale: tuple[float, float] = (1.0, 1.0)) -> None:
    """The projected path with its start and end, and the centre of the slice; the axes grow to hold all of it."""
    x, y = ds["path_alpha"].values * scale[0], ds["path_beta"].values * scale[1]
    ax.plot(x, y, color="white", linewidth=1.2, marker=".", markersize=2.5, path_effects=_OUTLINE)
    for i, marker in ((0, "o"), (-1, "s")):
        if len(x):
            ax.plot(x[i], y[i], marker=marker, **POINT)
    ax.plot(0, 0, marker="P", **POINT)
    ax.margins(0.03)


POINT: dict[str, Any] = {
    "linestyle": "none",
    "markersize": 5,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "zorder": 4,
}
_OUTLINE = [patheffects.withStroke(linewidth=2.6, foreground="black")]


def plane_handles(*, holes: bool, walked: bool) -> list[Line2D | Patch]:
    """What the marks that are there mean."""
    path = [
        Line2D([], [], color="white", linewidth=1.2, path_effects=_OUTLINE, label="training path (projected)"),
        Line2D([], [], marker="o", **POINT, label="first step of the path"),
        Line2D([], [], marker="s", **POINT, label="last step of the path"),
    ]
    return [
        *(path if walked else []),
        Line2D([], [], marker="P", **POINT, label="centre of the slice"),
        *([missing()] if holes else []),
    ]
