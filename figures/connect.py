"""The loss between two checkpoints: straight line and trained curve, before and after their units were aligned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import LandscapeError
from landscape.figures.datasets import loss_unit, require_all
from landscape.figures.style import NEUTRAL, SMALL, family_color, grid, styled

__all__ = ["connect"]

_EACH = ("alignment", "path", "objective")
_NEEDED = {
    "loss": (*_EACH, "t"),
    "barrier": _EACH,
    "barrier_t": _EACH,
    "rise": _EACH,
    "t": ("t",),
    "alignment": ("alignment",),
    "path": ("path",),
    "objective": ("objective",),
}
_MOST = 12
"""Panels of one figure."""
_FAR = 20.0
"""Times that the largest loss may be the smallest on a linear axis."""
_SEEN = 1 / 30
"""Part of what a panel spans that a barrier has to be to have a bar: its number would lie on the lines."""
_COLORS = {"line": family_color(2), "curve": family_color(1)}
_STYLES = {"none": "-", "matched": "--"}
_WORDS = {"none": "", "matched": ", aligned"}


@styled
def connect(datasets: Sequence[xr.Dataset], *, scale: Literal["auto", "linear", "log"] = "auto") -> Figure:
    """Loss against the place t on the path from a (t = 0) to b (t = 1), one panel for each pair and loss.

    Solid lines are of b as it is, dashed ones after its units were put in the order of a's; there are none where all
    were in that order already. The dotted line joins the losses at the ends; the bar from there to the highest place
    over it is the barrier, written beside it. Without a bar it is less than a thirtieth of what the panel spans, or not
    finite, as the loss is in the gaps. The axis of the loss is logarithmic where it spans more than a factor of 20,
    and says so.

    Args:
        datasets: one dataset of `landscape.connect` for each pair.
        scale: of the axis of the loss.

    Raises:
        LandscapeError: if there is none, a dataset lacks what is drawn, or there are more than twelve panels.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, connect as between, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 2}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     a, b = (train(RunConfig.make(seed=s, **small), f"{folder}/{s}") for s in (0, 1))
        ...     figure = connect([between(a, b, seed=0, points=5, iterations=2)])
        >>> figure.axes[0].get_xlabel()
        'place t on the path'
    """
    found = require_all(datasets, _NEEDED)
    if scale not in ("auto", "linear", "log"):
        raise LandscapeError(f"expected scale='auto', 'linear' or 'log', found {scale!r}. Use one of the three.")
    panels = [(ds, i) for ds in found for i in range(ds.sizes["objective"])]
    if len(panels) > _MOST:
        raise LandscapeError(f"expected at most {_MOST} panels, found {len(panels)}. Draw some connections at a time.")
    columns = 1 if len(panels) == 1 else 2
    figure, axes = grid(-(-len(panels) // columns), columns, height=2.7)
    every = [ax for row in axes for ax in row]
    for ax in every[len(panels) :]:
        ax.remove()
    for ax, (ds, i) in zip(every, panels, strict=False):
        said = _panel(ax, ds.isel(objective=i), scale)
        ax.set_title(f"{_ends(ds)}\nloss of {ds['objective'].values[i]}")
        ax.set_xlabel("place t on the path")
        ax.set_ylabel(f"loss ({loss_unit(found)}){said}")
    figure.legend(handles=_handles(found), loc="outside upper center", ncols=2)
    return figure


def _ends(ds: xr.Dataset) -> str:
    """Names and steps of both ends."""

    def said(name: str, step: str) -> str:
        return str(ds.attrs.get(name, name[-1])) + (f"@{ds.attrs[step]}" if step in ds.attrs else "")

    return f"{said('run', 'step')} to\n{said('run_b', 'step_b')}"


def _panel(ax: Axes, ds: xr.Dataset, scale: str) -> str:
    """The paths under one loss; what the axis label says of its scale."""
    t, losses = ds["t"].values.astype(float), ds["loss"].values.astype(float)
    finite = losses[np.isfinite(losses)]
    log = scale == "log" or (
        scale == "auto" and len(finite) > 0 and finite.min() > 0 and finite.max() > _FAR * finite.min()
    )
    if log:
        ax.set_yscale("log")
    for j, path in enumerate(ds["path"].values):
        for i, alignment in enumerate(ds["alignment"].values):
            if i > 0 and np.array_equal(losses[i], losses[0], equal_nan=True):  # nothing took another place
                continue
            y = np.where(np.isfinite(losses[i, j]), losses[i, j], np.nan)
            color = _COLORS.get(str(path), NEUTRAL)
            ax.plot(t, y, color=color, linestyle=_STYLES.get(str(alignment), ":"), zorder=2 + j)
            if j == 0 and i == 0:
                ax.plot(t, y[0] + t * (y[-1] - y[0]), color=NEUTRAL, linestyle=":", linewidth=0.8)
            at = ds.isel(alignment=i, path=j)
            _bar(ax, at, y, color, span=float(np.ptp(finite)) if len(finite) else 0.0)
    ax.set_xlim(-0.02, 1.02)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.08 if log else high + 0.1 * (high - low))  # room for the numbers
    return "\nlog scale" if log else ""


def _bar(ax: Axes, at: xr.Dataset, y: Any, color: str, *, span: float) -> None:
    """The barrier of one path, where it is not lost in what the panel spans."""
    height, t = float(at["barrier"]), float(at["barrier_t"])
    if not (np.isfinite(height) and height > _SEEN * span):
        return
    foot = y[0] + t * (y[-1] - y[0])
    ax.plot([t, t], [foot, foot + height], color=color, linewidth=0.7, marker="_", markersize=4, zorder=4)
    ax.annotate(
        f"{height:.3g}", (t, foot + height), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
        fontsize=SMALL, color=color,
    )  # fmt: skip


def _handles(found: Sequence[xr.Dataset]) -> list[Line2D]:
    moved = [ds for ds in found if not np.array_equal(ds["loss"][0], ds["loss"][-1], equal_nan=True)]
    alignments = list(dict.fromkeys(str(v) for ds in moved for v in ds["alignment"].values)) or ["none"]
    marks = []
    for path, words in (("line", "line"), ("curve", "trained curve")):
        for alignment in alignments:
            look: dict[str, Any] = {"color": _COLORS[path], "linestyle": _STYLES.get(alignment, ":")}
            marks.append(Line2D([], [], label=words + _WORDS.get(alignment, f", {alignment}"), **look))
    marks.append(Line2D([], [], color=NEUTRAL, linestyle=":", linewidth=0.8, label="between the ends"))
    marks.append(Line2D([], [], color=NEUTRAL, linewidth=0.7, marker="_", markersize=4, label="barrier"))
    return marks
