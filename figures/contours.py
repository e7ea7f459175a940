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
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.figures.datasets import Array
from landscape.figures.marks import one_colour
from landscape.figures.style import MAP, missing, no_value

__all__ = [
    "POINT",
    "SLICE",
    "SWITCH",
    "Levels",
    "check_levels",
    "direction_name",
    "draw_path",
    "draw_walk",
    "measured",
    "plane_handles",
    "triangles",
]

SLICE = {
    "loss": ("alpha", "beta"),
    "alpha": ("alpha",),
    "beta": ("beta",),
    "gram": ("direction", "direction_2"),
}
"""Variables of every slice, with their dimensions."""
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

    def draw(self, ax: Axes, ds: xr.Dataset, *, scale: tuple[float, float] = (1.0, 1.0)) -> ContourSet:
        """The contours of one slice; its rows (beta) run along y and its columns (alpha) along x, times `scale`."""
        no_value(ax)
        loss = ds["loss"].transpose("beta", "alpha").values.astype(float)  # as contourf wants it
        z = np.ma.masked_invalid(loss - np.nanmin(loss) if self.log and np.isfinite(loss).any() else loss)
        extend: Literal["min", "neither"] = "min" if self.log else "neither"
        # Not LogNorm: it would punch a hole where the loss is exactly the minimum.
        norm = BoundaryNorm(self.values, 256, extend=extend)
        x, y = ds["alpha"].values * scale[0], ds["beta"].values * scale[1]
        look: dict[str, Any] = {"levels": self.values, "cmap": MAP, "norm": norm, "extend": extend}
        if not measured(ds).all():
            mesh = triangles(ds)
            shown = Triangulation(x[mesh.alpha], y[mesh.beta], mesh.corners)
            shown.set_mask(mesh.holes)
            return ax.tricontourf(shown, np.nan_to_num(z[mesh.beta, mesh.alpha].filled(0.0)), **look)
        return ax.contourf(x, y, z, **look)


@dataclass(frozen=True)
class Mesh:
    """Triangles between the points of a grid that were evaluated.

    Attributes:
        alpha: (n,) index of each point along alpha.
        beta: likewise.
        corners: (T, 3) indices of points.
        holes: (T,) whether a corner has no finite value.
    """

    alpha: NDArray[np.int64]
    beta: NDArray[np.int64]
    corners: NDArray[np.int64]
    holes: NDArray[np.bool_]


def check_levels(levels: str) -> None:
    """Refuse levels that no figure of slices knows."""
    if levels not in ("auto", "linear", "log"):
        raise LandscapeError(f"expected levels='auto', 'linear' or 'log', found {levels!r}. Use one of the three.")


def measured(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which points of the grid (alpha, beta) were evaluated: all, where nothing else is said."""
    if "evaluated" in ds:
        return ds["evaluated"].transpose("alpha", "beta").values.astype(bool)
    return np.ones((ds.sizes["alpha"], ds.sizes["beta"]), bool)


def triangles(ds: xr.Dataset) -> Mesh:
    """The triangles of a refined grid; between its points nothing is known, and a figure draws straight lines."""
    i, j = np.nonzero(measured(ds))
    corners = Triangulation(i, j).triangles  # of indices: axes may have any units
    values = ds["loss"].transpose("alpha", "beta").values[i, j]
    return Mesh(i, j, corners, ~np.isfinite(values[corners]).all(1))


def draw_path(ax: Axes, ds: xr.Dataset, *, scale: tuple[float, float] = (1.0, 1.0), ends: bool = True) -> None:
    """The projected path with its start and end, and the centre of the slice; the axes grow to hold all of it."""
    x, y = ds["path_alpha"].values * scale[0], ds["path_beta"].values * scale[1]
    ax.plot(x, y, color="white", linewidth=1.2, marker=".", markersize=2.5, path_effects=_OUTLINE)
    for i, marker in ((0, "o"), (-1, "s")):
        if len(x) and ends:
            ax.plot(x[i], y[i], marker=marker, **POINT)
    ax.plot(0, 0, marker="P", **POINT)
    ax.margins(0.03)


def draw_walk(ax: Axes, ds: xr.Dataset, *, scale: tuple[float, float] = (1.0, 1.0)) -> list[Line2D | Patch]:
    """The switch of SHIFT on the path and updates that were replayed, where there are any; what their marks mean."""
    marks: list[Line2D | Patch] = []
    if "replay_alpha" in ds:
        x, y = (ds[f"replay_{name}"].values * k for name, k in zip(("alpha", "beta"), scale, strict=True))
        ax.plot(x, y, **_REPLAY)
        marks.append(Line2D([], [], **_REPLAY, label="single updates, replayed"))
    if "path_loops" in ds and len(later := np.flatnonzero(np.diff(ds["path_loops"].values) > 0)):
        i = int(later[0]) + 1
        ax.plot(ds["path_alpha"].values[i] * scale[0], ds["path_beta"].values[i] * scale[1], **SWITCH)
        marks.append(Line2D([], [], **SWITCH, label="switch of SHIFT"))
    return marks


_NAMES = {
    "pca": ("PCA direction 1", "PCA direction 2"),
    "eigen-ends": ("first eigenvector", "last eigenvector"),
    "river": ("progress outside the valley", "leading eigenvector"),
    "gradient": ("gradient", "leading eigenvector across it"),
    "update": ("optimiser's update", "leading eigenvector across it"),
    "towards": ("way to the target", "leading eigenvector across it"),
}


def direction_name(kind: str, i: int) -> str:
    """What the i-th direction of a plane is called on an axis.

    Example:
        >>> direction_name("river", 0), direction_name("random", 1)
        ('progress outside the valley', 'random direction 2')
    """
    return _NAMES[kind][i] if kind in _NAMES else f"{kind} direction {i + 1}"


POINT: dict[str, Any] = {
    "linestyle": "none",
    "markersize": 5,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "zorder": 4,
}
SWITCH: dict[str, Any] = POINT | {"marker": "*", "markersize": 9}
_OUTLINE = [patheffects.withStroke(linewidth=2.6, foreground="black")]
_REPLAY: dict[str, Any] = {
    "color": "#E69F00",
    "linewidth": 0.9,
    "marker": ".",
    "markersize": 3,
    "path_effects": [patheffects.withStroke(linewidth=1.9, foreground="black")],
    "zorder": 3.5,
}


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
