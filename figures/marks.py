"""Marks and axes that several figures share: curves with holes, bands over seeds, axes of training steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.figures.datasets import NO_STEP, Array, over_seeds, same, titled
from landscape.figures.style import NEUTRAL, arch_style

__all__ = [
    "Color",
    "Scale",
    "arch_curves",
    "arch_handles",
    "band_marks",
    "band_said",
    "curve",
    "edges",
    "error_marks",
    "fit_steps",
    "hollow_handle",
    "log_ticks",
    "one_colour",
    "scale_note",
    "seed_curves",
    "signed_scale",
    "spread_ticks",
    "step_axis",
    "threshold",
    "threshold_handle",
]

Scale = Literal["linear", "symlog"]
Color = str | tuple[float, float, float]


def curve(
    ax: Axes,
    x: Array,
    y: Array,
    *,
    color: Color,
    marker: str,
    linestyle: str,
    hollow: NDArray[np.bool_] | None = None,
    label: str | None = None,
    thin: bool = False,
    most: int = 12,
) -> None:
    """A line broken where y is not finite, with filled markers, and hollow ones where `hollow`.

    At most about `most` filled markers are drawn on a long line, plus every point that no line segment reaches.
    """
    hollow = np.zeros(len(x), bool) if hollow is None else hollow
    finite = np.isfinite(y)
    left, right = np.r_[False, finite[:-1]], np.r_[finite[1:], False]
    marked = (np.arange(len(x)) % max(1, -(-len(x) // most)) == 0) | (finite & ~left & ~right)
    look: dict[str, Any] = {"color": color, "linewidth": 0.6 if thin else 1.2, "markersize": 2.5 if thin else 3.5}
    ax.plot(
        x, y, marker=marker, linestyle=linestyle, label=label, markevery=list(np.flatnonzero(marked & ~hollow)), **look
    )
    if (hollow & finite).any():
        at = np.flatnonzero(hollow & finite)
        ax.plot(x[at], y[at], marker=marker, linestyle="none", markerfacecolor="white", zorder=2.5, **look)


def seed_curves(
    ax: Axes,
    xs: Sequence[Array],
    ys: Sequence[Array],
    *,
    color: Color,
    marker: str,
    linestyle: str,
    errors: Sequence[Array] | None = None,
    hollow: Sequence[NDArray[np.bool_]] | None = None,
    label: str | None = None,
    most: int = 12,
) -> None:
    """The mean over seeds in a band from the smallest to the largest; thin single curves if the seeds' x differ."""
    hollow = hollow or [np.zeros(len(x), bool) for x in xs]
    if same(xs):
        mean, low, high = over_seeds(ys, errors)
        if len(ys) > 1 or errors is not None:
            ax.fill_between(xs[0], low, high, color=color, alpha=0.2, linewidth=0)
        flags = np.any(np.stack(hollow), axis=0)
        curve(ax, xs[0], mean, hollow=flags, label=label, color=color, marker=marker, linestyle=linestyle, most=most)
        return
    for i, (x, y, flags) in enumerate(zip(xs, ys, hollow, strict=True)):
        if errors is not None:
            ax.fill_between(x, y - errors[i], y + errors[i], color=color, alpha=0.2, linewidth=0)
        curve(
            ax, x, y, hollow=flags, label=label if i == 0 else None, thin=True,
            color=color, marker=marker, linestyle=linestyle, most=most,
        )  # fmt: skip


def band_said(groups: Iterable[Sequence[xr.Dataset]], error: str) -> str:
    """What a band shows: the range over seeds where an architecture has several, and the error of each value."""
    several = any(len(group) > 1 for group in groups)
    return " ".join(filter(None, ("range over seeds" if several else "", f"± {error}" if error else "")))


def band_marks(groups: Iterable[Sequence[xr.Dataset]], error: str = "") -> list[Line2D | Patch]:
    """The legend entry of bands; none where there is nothing to show."""
    said = band_said(groups, error)
    return [Patch(facecolor=NEUTRAL, alpha=0.2, label=said)] if said else []


def error_marks(groups: Iterable[Sequence[xr.Dataset]], unknown: bool) -> list[Line2D | Patch]:
    """Legend entries of bands of standard errors, and of places without one because the error is unknown."""
    marks = band_marks(groups, "standard error")
    return [*marks, Line2D([], [], linestyle="none", label="no band: error unknown")] if unknown else marks


def scale_note(name: str, linthresh: float) -> str:
    """What an axis label says about its scale."""
    return {"linear": "", "log": "log scale", "symlog": f"symlog: linear within ±{linthresh:g}"}[name]


def step_axis(
    ax: Axes, x: Array, *, scale: Scale, label: str = "training step", ticks: bool = True, gap: float = 0.13
) -> str:
    """Scale the x axis for the sorted values `x` (all panels together) and return the label, which names the scale.

    ``"symlog"`` is linear up to the smallest positive value and logarithmic beyond, so step 0 has a place.

    Raises:
        LandscapeError: if the scale has another name.
    """
    if scale not in ("linear", "symlog"):
        raise LandscapeError(f"expected scale='linear' or 'symlog', found {scale!r}. Use one of the two.")
    positive = x[x > 0]
    if scale == "symlog" and len(positive) > 1:
        linthresh = float(positive.min())
        ax.set_xscale("symlog", linthresh=linthresh, linscale=0.5)
        label = f"{label}\n(symlog: linear below {linthresh:g})"
    if len(x) == 1 and x[0] == NO_STEP:
        ax.set_xticks([NO_STEP], ["one point"])
        return ""
    if ticks:
        chosen = spread_ticks(ax.xaxis.get_transform().transform(x), gap=gap)
        ax.xaxis.set_major_locator(FixedLocator(x[chosen].tolist()))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    return label


def fit_steps(ax: Axes, x: Array) -> None:
    """Limits around the sorted steps `x` of a symlog axis: its default margin is as wide as the linear part."""
    if ax.get_xscale() == "symlog":
        ax.set_xlim(-0.3 * x[x > 0].min() if x[0] == 0 else 0.8 * x[0], 1.25 * x[-1])


def spread_ticks(position: Array, *, gap: float = 0.13) -> list[int]:
    """Indices of ascending positions that are at least `gap` of their whole range apart, with the first and the last.

    Example:
        >>> spread_ticks(np.array([0.0, 1.0, 2.0, 50.0, 99.0, 100.0]))
        [0, 3, 5]
    """
    least = gap * (position[-1] - position[0])
    chosen = [0]
    for i in range(1, len(position)):
        if position[i] - position[chosen[-1]] >= least:
            chosen.append(i)
    if chosen[-1] != len(position) - 1:
        chosen[len(chosen) - 1 or 1 :] = [len(position) - 1]
    return chosen


def signed_scale(values: Array, *, decades: int = 4) -> tuple[str, float]:
    """``("log", 0)`` if all values are positive, else ``("symlog", linthresh)``, linthresh a power of ten.

    The linear part ends at the smallest magnitude, but at most `decades` below the largest: noise around zero would
    otherwise fill the axis.

    Example:
        >>> signed_scale(np.array([20.0, -0.03, 1e-9]))
        ('symlog', 0.001)
    """
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(size):
        return "linear", 0.0
    if not (values[np.isfinite(values)] <= 0).any():
        return "log", 0.0
    return "symlog", float(f"1e{int(np.floor(np.log10(max(size.min(), size.max() * 10.0**-decades))))}")


def edges(ax: Axes, x: Array) -> Array:
    """Borders (n + 1,) of cells around ascending x (n,), half-way between neighbours on the scale of the axis."""
    transform = ax.xaxis.get_transform()
    t = np.asarray(transform.transform(x), float)
    if len(t) == 1:
        return np.array([x[0] - 0.5, x[0] + 0.5])
    middle = (t[1:] + t[:-1]) / 2
    border = np.r_[2 * t[0] - middle[0], middle, 2 * t[-1] - middle[-1]]
    return np.asarray(transform.inverted().transform(border), float)


def arch_curves(ax: Axes, arch: str, group: Sequence[xr.Dataset], name: str, x: str = "step") -> None:
    """The curves of one variable of the runs of one architecture, labelled for a legend."""
    look = arch_style(arch)
    xs = [d[x].values.astype(float) for d in group]
    how = "" if len(group) == 1 else ", mean and range" if same(xs) else ", drawn singly"
    seed_curves(
        ax,
        xs,
        [d[name].values.astype(float) for d in group],
        color=look.color,
        marker=look.marker,
        linestyle=look.linestyle,
        label=titled(arch, group, more=how),
    )


def arch_handles(groups: Mapping[str, Sequence[xr.Dataset]]) -> list[Line2D | Patch]:
    """Legend entries of the architectures, each with its number of seeds."""
    marks: list[Line2D | Patch] = []
    for arch, group in groups.items():
        style = arch_style(arch)
        look: dict[str, Any] = {"color": style.color, "marker": style.marker, "linestyle": style.linestyle}
        marks.append(Line2D([], [], label=titled(arch, group), **look))
    return marks


def log_ticks(ax: Axes, at: Sequence[float]) -> None:
    """A logarithmic x axis with ticks at these values and no others."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(at))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def hollow_handle(label: str) -> Line2D:
    """The legend entry of hollow points."""
    return Line2D([], [], color=NEUTRAL, marker="o", linestyle="none", markerfacecolor="white", label=label)


_FLAT = 0.25, 1 / 14
"""Colours must be logarithmic if this part of the values lies within this part of the largest."""


def one_colour(values: Array, largest: float) -> bool:
    """Whether much of what is to be seen would be one colour on a linear scale from 0 to the largest value."""
    share, step = _FLAT
    return bool(np.quantile(values, share) < step * largest)


_THRESHOLD: dict[str, Any] = {"color": "0.1", "linestyle": (0, (5, 1.5, 1, 1.5)), "linewidth": 0.9}


def threshold(ax: Axes, xs: Sequence[Array], ys: Sequence[Array]) -> bool:
    """What the curves are held against, such as an edge of stability: each of them once; whether there is any."""
    found = {(*x.tolist(), *y.tolist()): (x, np.where(np.isfinite(y), y, np.nan)) for x, y in zip(xs, ys, strict=True)}
    found = {key: (x, y) for key, (x, y) in found.items() if np.isfinite(y).any()}
    for x, y in found.values():
        if len(x) == 1:
            ax.axhline(float(y[0]), **_THRESHOLD, zorder=1.5)
        ax.plot(x, y, **_THRESHOLD, zorder=1.5)
    return bool(found)


def threshold_handle(label: str) -> Line2D:
    """The legend entry of `threshold`."""
    return Line2D([], [], **_THRESHOLD, label=label)
