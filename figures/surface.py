"""The loss on a plane through a checkpoint, and the training path projected on that plane."""

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
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from landscape.errors import LandscapeError
from landscape.figures.datasets import NO_STEP, Array, loss_unit, require_all, say_step
from landscape.figures.marks import one_colour
from landscape.figures.style import MAP, grid, missing, no_value, styled

__all__ = ["surface"]

_NEEDED = {
    "loss": ("alpha", "beta"),
    "alpha": ("alpha",),
    "beta": ("beta",),
    "gram": ("direction", "direction_2"),
    "path_alpha": ("path_step",),
    "path_beta": ("path_step",),
    "path_distance": ("path_step",),
    "path_step": ("path_step",),
}
_NAMES = {"eigen": "eigen direction", "random": "random direction", "pca": "PCA direction"}
_WIDE = 10.0
"""Levels are spaced logarithmically if the largest excess over the minimum is this many times a slice's median one."""


@styled
def surface(datasets: Sequence[xr.Dataset], *, levels: Literal["auto", "linear", "log"] = "auto") -> Figure:
    """Filled contours of the loss over alpha (x) and beta (y), one panel per run, with the path of training on top.

    Colours are shared by all panels. If the loss rises far, they show the loss above the minimum of the slice, with
    levels spaced logarithmically; the colour bar says which. Hatched parts of the plane have no value. The title gives
    the largest distance of the path from the plane, and the cosine of the two directions if they are not orthogonal.

    Args:
        datasets: one ``surface`` dataset per run.
        levels: ``"auto"`` takes ``"log"`` if the loss rises far above the floor of a slice, or much of it is flat.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = surface([sweep("surface", run, seed=0)])
        >>> figure.axes[0].get_title(loc="left")[:9]
        'a, step 4'
    """
    extra = [d["explained_variance"].values if "explained_variance" in d else None for d in datasets]
    slices = require_all([_with_path(d) for d in datasets], _NEEDED)
    if levels not in ("auto", "linear", "log"):
        raise LandscapeError(f"expected levels='auto', 'linear' or 'log', found {levels!r}. Use one of the three.")
    scale = _Levels.of([d["loss"].values.astype(float) for d in slices], levels, loss_unit(slices))
    columns = min(len(slices), 2)
    figure, axes = grid(-(-len(slices) // columns), columns, height=3.2)
    panels = [ax for row in axes for ax in row]
    for ax in panels[len(slices) :]:
        ax.remove()
    panels = panels[: len(slices)]
    for ax, ds, variance in zip(panels, slices, extra, strict=True):
        contours = scale.draw(ax, ds)
        _draw_path(ax, ds)
        ax.set_title(_title(ds))
        ax.set_xlabel(_axis_label(ds, 0, variance))
        ax.set_ylabel(_axis_label(ds, 1, variance))
    figure.colorbar(contours, ax=panels, label=scale.label, ticks=scale.ticks, format="%g", pad=0.02, aspect=30)
    holes = any(not np.isfinite(d["loss"].values).all() for d in slices)
    walked = any(d.sizes["path_step"] for d in slices)
    figure.legend(handles=_legend(holes, walked), loc="outside upper center", ncols=2 if len(slices) == 1 else 4)
    return figure


def _with_path(ds: xr.Dataset) -> xr.Dataset:
    """A slice that was made without a path has one of no points."""
    if "path_step" in ds.variables:
        return ds
    names = ("path_alpha", "path_beta", "path_distance", "path_step")
    return ds.assign({name: ("path_step", np.zeros(0)) for name in names})


@dataclass(frozen=True)
class _Levels:
    """Contour levels for all panels together, of the loss or of its excess over the minimum of each slice."""

    values: Array
    log: bool
    unit: str

    @classmethod
    def of(cls, losses: Sequence[Array], levels: str, unit: str) -> _Levels:
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

    def draw(self, ax: Axes, ds: xr.Dataset) -> QuadContourSet:
        """The contours of one slice; its rows (beta) run along y and its columns (alpha) along x."""
        no_value(ax)
        loss = ds["loss"].values.astype(float).T  # (beta, alpha), as contourf wants it
        z = np.ma.masked_invalid(loss - np.nanmin(loss) if self.log and np.isfinite(loss).any() else loss)
        extend: Literal["min", "neither"] = "min" if self.log else "neither"
        # Not LogNorm: it would punch a hole where the loss is exactly the minimum.
        norm = BoundaryNorm(self.values, 256, extend=extend)
        x, y = ds["alpha"].values, ds["beta"].values
        return ax.contourf(x, y, z, levels=self.values, cmap=MAP, norm=norm, extend=extend)


def _draw_path(ax: Axes, ds: xr.Dataset) -> None:
    """The projected path with its start and end, and the centre of the slice; the axes grow to hold all of it."""
    x, y = ds["path_alpha"].values, ds["path_beta"].values
    ax.plot(x, y, color="white", linewidth=1.2, marker=".", markersize=2.5, path_effects=_OUTLINE)
    for i, marker in ((0, "o"), (-1, "s")):
        if len(x):
            ax.plot(x[i], y[i], marker=marker, **_POINT)
    ax.plot(0, 0, marker="P", **_POINT)
    ax.margins(0.03)


_POINT: dict[str, Any] = {
    "linestyle": "none",
    "markersize": 5,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "zorder": 4,
}
_OUTLINE = [patheffects.withStroke(linewidth=2.6, foreground="black")]


def _title(ds: xr.Dataset) -> str:
    """Run and step of the centre; distance of the path from the plane; cosine of directions that are not orthogonal."""
    gram = ds["gram"].values
    cosine = gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1])
    lines = [f"{ds.attrs['run']}{say_step(ds.attrs.get('step', NO_STEP), before=', ')}"]
    if len(distance := ds["path_distance"].values):
        lines.append(f"path up to {distance.max():.3g} from the plane")
    if not abs(cosine) < 1e-3:
        lines.append(f"directions not orthogonal: cosine {cosine:.2g}")
    return "\n".join(lines)


def _axis_label(ds: xr.Dataset, i: int, variance: Array | None) -> str:
    """Name, explained variance and unit of a direction."""
    kind = str(ds.attrs.get("directions", "given"))
    name = f"{_NAMES.get(kind, kind + ' direction')} {i + 1}"
    known = variance is not None and np.isfinite(variance[i])
    share = f"\n{variance[i]:.0%} of squared displacement" if variance is not None and known else ""
    length = float(np.sqrt(ds["gram"].values[i, i]))
    unit = "parameter distance" if abs(length - 1) < 1e-6 else f"in units of its length {length:.3g}"
    return f"{name} ({unit}){share}"


def _legend(holes: bool, walked: bool) -> list[Line2D | Patch]:
    """What the marks that are there mean."""
    path = [
        Line2D([], [], color="white", linewidth=1.2, path_effects=_OUTLINE, label="training path (projected)"),
        Line2D([], [], marker="o", **_POINT, label="first step of the path"),
        Line2D([], [], marker="s", **_POINT, label="last step of the path"),
    ]
    return [
        *(path if walked else []),
        Line2D([], [], marker="P", **_POINT, label="centre of the slice"),
        *([missing()] if holes else []),
    ]
