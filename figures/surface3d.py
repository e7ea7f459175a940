"""The loss on a plane as a shaded surface in three dimensions, with the path of training on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from landscape.errors import AbsentError
from landscape.figures.contours import SLICE, Levels, check_levels, direction_name, measured, triangles
from landscape.figures.datasets import NO_STEP, Array, loss_unit, require_all, say_step
from landscape.figures.style import COLUMN, MAP, NEUTRAL, PAGE, SMALL, sheet, styled

__all__ = ["surface3d"]

_PATH: dict[str, Any] = {"color": "#D55E00", "linewidth": 1.2, "marker": ".", "markersize": 3}
_TRUE: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "marker": "x",
    "markersize": 2.5,
    "markeredgewidth": 0.6,
}
_LIGHT = np.array([-0.4, -0.5, 0.77])
"""Direction of the light, in the box of the axes."""
_STEEP = 20.0
"""Heights are logarithmic if the largest excess over the minimum is this many times a slice's median one."""
_LOWEST = 0.02
"""Part of the points below which logarithmic heights end: the lowest point itself would be infinitely deep."""


@styled
def surface3d(
    datasets: Sequence[xr.Dataset],
    *,
    levels: Literal["auto", "linear", "log"] = "auto",
    azimuth: float = -60.0,
    elevation: float = 35.0,
) -> Figure:
    r"""The loss over alpha and beta as a shaded surface, one panel per run, all with the same heights and colours.

    Heights are the loss or, if it rises far, the logarithm of what is above the lowest point of the slice, cut off
    where the lowest 2 % of the points are; the axis says which. The path
    of training lies on the surface at the loss of its projections; crosses are the true losses of the checkpoints,
    which are not in the plane. Where the loss is no number the surface has a hole.

    Args:
        datasets: one ``surface`` dataset per run.
        levels: ``"auto"`` takes ``"log"`` if the loss rises above the lowest point by more than 20 times the median.
        azimuth: from where the surface is looked at, in degrees around the vertical axis.
        elevation: in degrees above the plane.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or is a line.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = surface3d([sweep("surface", run, seed=0, points=5)])
        >>> figure.axes[0].get_title(loc="left")
        'a, step 4\nα: PCA direction 1 (distance)\nβ: PCA direction 2 (distance)'
    """
    slices = require_all(datasets, SLICE)
    check_levels(levels)
    if any(min(ds.sizes["alpha"], ds.sizes["beta"]) < 2 for ds in slices):
        raise AbsentError("expected a plane, found a line of points. Draw it with the figure `cuts`.")
    losses = [z[np.isfinite(z)] for z in (ds["loss"].values.astype(float) for ds in slices)]
    if levels == "auto":
        levels = "log" if any(len(z) and np.ptp(z) > _STEEP * np.median(z - z.min()) for z in losses) else "linear"
    scale = Levels.of(losses, levels, loss_unit(slices))
    columns = min(len(slices), 2)
    rows = -(-len(slices) // columns)
    figure = sheet(COLUMN if columns == 1 else PAGE, 3.4 * rows)
    for i, (ds, whole) in enumerate(zip(slices, datasets, strict=True), start=1):
        ax = figure.add_subplot(rows, columns, i, projection="3d", computed_zorder=False)
        _draw(ax, whole, scale)
        ax.view_init(elev=elevation, azim=azimuth)
        ax.set_title(
            f"{ds.attrs['run']}{say_step(ds.attrs.get('step', NO_STEP), before=', ')}\n{_units(ds)}", loc="left"
        )
        _label(ax, scale)
    marks = [
        Line2D([], [], **_PATH, label="training path, at the loss of its projection"),
        Line2D([], [], **_TRUE, label="true loss of its checkpoints"),
    ]
    if any(ds.sizes.get("path_step", 0) for ds in datasets):
        figure.legend(handles=marks, loc="outside upper center", ncols=1 if columns == 1 else 2)
    return figure


def _height(values: Array, scale: Levels, low: float, floor: float) -> Array:
    """Of losses: these, or log10 of what is above `low`, no less than `floor`; NaN where there is none."""
    finite = np.where(np.isfinite(values), values, np.nan)
    if not scale.log:
        return finite
    with np.errstate(invalid="ignore"):
        found: Array = np.log10(np.maximum(finite - low, floor))
    return found


def _draw(ax: Any, ds: xr.Dataset, scale: Levels) -> None:
    """The surface, and the path that lies in its range."""
    loss = ds["loss"].transpose("alpha", "beta").values.astype(float)
    finite = loss[np.isfinite(loss)] if np.isfinite(loss).any() else np.zeros(1)
    low = float(finite.min())
    above = finite[finite > low] - low
    floor = max(float(scale.values[0]), float(np.quantile(above, _LOWEST)) if scale.log and len(above) else 0.0)
    z = _height(loss, scale, low, floor)
    alpha, beta = ds["alpha"].values, ds["beta"].values
    ends = _height(np.array([scale.values[0], scale.values[-1]]) + (low if scale.log else 0.0), scale, low, floor)
    look: dict[str, Any] = {"linewidth": 0, "antialiased": False, "shade": False, "zorder": 1}
    if measured(ds).all():
        x, y = np.meshgrid(alpha, beta, indexing="ij")
        colors = _shaded(x, y, z, ends)
        ax.plot_surface(x, y, z, facecolors=colors, rcount=len(alpha), ccount=len(beta), **look)
    else:
        mesh = triangles(ds)
        norm = Normalize(float(ends[0]), float(ends[1]))
        ax.plot_trisurf(
            alpha[mesh.alpha], beta[mesh.beta], np.nan_to_num(z[mesh.alpha, mesh.beta]), cmap=MAP, norm=norm,
            triangles=mesh.corners[~mesh.holes], **look,
        )  # fmt: skip
    ax.set_zlim(*ends)
    if ds.sizes.get("path_step", 0):
        x, y = ds["path_alpha"].values, ds["path_beta"].values
        for name, marks in (("path_loss", _TRUE), ("path_plane_loss", _PATH)):
            if name in ds:
                at = _height(ds[name].values.astype(float), scale, low, floor)
                box = ((x, alpha), (y, beta), (at, ends))
                inside = np.logical_and.reduce([(v >= span.min()) & (v <= span.max()) for v, span in box])
                ax.plot(*(np.where(inside, v, np.nan) for v in (x, y, at)), zorder=3, **marks)


def _shaded(x: Array, y: Array, z: Array, ends: Array) -> Array:
    """Colours (n, m, 4) of the cells of a surface by their first corner, shaded; none where a corner has no value."""
    known = np.nan_to_num(z, nan=float(ends[0]))
    rise = [(known - ends[0]) / np.ptp(ends), (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)]
    across, along = (np.stack([np.gradient(v, axis=axis) for v in (rise[1], rise[2], rise[0])], -1) for axis in (0, 1))
    normal = np.cross(across, along)
    light = normal @ _LIGHT / np.linalg.norm(normal, axis=-1) / np.linalg.norm(_LIGHT)
    colors = colormaps[MAP](Normalize(float(ends[0]), float(ends[1]))(known))[..., :3]
    seen = np.isfinite(z).astype(float)
    seen[:-1], seen[:, :-1] = np.minimum(seen[:-1], seen[1:]), np.minimum(seen[:, :-1], seen[:, 1:])
    shaded: Array = np.dstack([colors * (0.6 + 0.4 * np.clip(light, 0, 1))[..., None], seen])
    return shaded


def _units(ds: xr.Dataset) -> str:
    """What the horizontal axes are, and in which units."""
    kind = str(ds.attrs.get("directions", "given"))
    lines = []
    for i, letter in enumerate("αβ"):
        length = float(np.sqrt(ds["gram"].values[i, i]))
        unit = "distance" if abs(length - 1) < 1e-6 else f"units of {length:.3g}"
        lines.append(f"{letter}: {direction_name(kind, i)} ({unit})")
    return "\n".join(lines)


def _label(ax: Any, scale: Levels) -> None:
    """Axes with few ticks, and their names."""
    for letter, axis in zip("αβ", (ax.xaxis, ax.yaxis), strict=True):
        axis.set_label_text(letter)
        axis.set_major_locator(MaxNLocator(4))
    label = f"loss − minimum\n({scale.unit}, log)" if scale.log else f"loss\n({scale.unit})"
    ax.zaxis.set_label_text(label)
    if scale.log:
        low, high = ax.get_zlim()
        decades = [float(k) for k in range(int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9)) + 1)]
        ax.zaxis.set_major_locator(FixedLocator(decades or [low, high]))
        ax.zaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{10**v:.3g}"))
    else:
        ax.zaxis.set_major_locator(MaxNLocator(5))
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_tick_params(labelsize=SMALL, pad=-1)
        axis.labelpad = 1
        axis.line.set_color(NEUTRAL)
    ax.set_box_aspect((1, 1, 0.75), zoom=0.9)
