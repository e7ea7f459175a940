"""The loss along the optimiser's update: how far it may go before the loss rises, and what one update does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.figures.datasets import by_arch, loss_unit, require_all, titled
from landscape.figures.marks import (
    Scale,
    band_marks,
    fit_steps,
    hollow_handle,
    seed_curves,
    signed_scale,
    step_axis,
    threshold,
    threshold_handle,
)
from landscape.figures.style import NEUTRAL, arch_style, family_color, grid, styled, tint

__all__ = ["sharpness"]

_PARTS: dict[str, tuple[str, str, Any]] = {
    "first_order": (family_color(2), "s", "--"),
    "second_order": (family_color(1), "v", "-."),
    "remainder": ("0.55", "+", ":"),
}
_FOUND = ("critical_sharpness", "directional_sharpness", "converged", "censored", "falls", "learning_rate", "change")
_NEEDED = dict.fromkeys((*_FOUND, *_PARTS, "step"), ("step",))


@styled
def sharpness(datasets: Sequence[xr.Dataset], *, scale: Scale = "symlog") -> Figure:
    """One column per architecture; above 2 / critical learning rate, below the change of the loss by one update.

    The dashed curve is the directional sharpness, that of the parabola; the dash-dotted line is 2 / learning rate of
    the training: where the critical sharpness is above it, the next update raises the loss. Curves are means over seeds
    in a band from minimum to maximum. A point is hollow if any seed has not converged there, or is censored (an upper
    bound). Where the loss rises at once, or the parabola never does, there is no point.

    Args:
        datasets: one ``sharpness`` dataset per run, all of one task.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure = sharpness([sweep("sharpness", train(RunConfig.make(**small), f"{folder}/a"), seed=0)])
        >>> figure.axes[0].get_title(loc="left")
        'single (1 seed)'
    """
    datasets = require_all(datasets, _NEEDED)
    groups = by_arch(datasets)
    figure, axes = grid(2, len(groups), height=2.3, sharex=True, sharey="row")
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    known = [_draw(axes[0][i], axes[1][i], group, arch_style(a).color) for i, (a, group) in enumerate(groups.items())]
    for column, (arch, group) in enumerate(groups.items()):
        axes[0][column].set_title(titled(arch, group))
        for row in axes:
            label = step_axis(row[column], steps, scale=scale, gap=0.13 if len(groups) < 3 else 0.2)
            fit_steps(row[column], steps)
        axes[1][column].set_xlabel(label)
    axes[0][0].set_yscale("log")
    axes[0][0].set_ylabel("sharpness along\nthe update\n(1 / learning rate)")
    axes[1][0].set_ylabel(f"change of the loss\nby one update\n({loss_unit(datasets)}){_scaled(axes[1][0], datasets)}")
    for row in axes:
        row[0].margins(y=0.1)
    marks = _legend(list(groups), datasets, edge=any(known))
    figure.legend(handles=marks, loc="outside upper center", ncols=2 if len(groups) == 1 else 4)
    return figure


def _draw(above: Axes, below: Axes, group: Sequence[xr.Dataset], color: str) -> bool:
    """Both panels of an architecture; whether the learning rate is known."""
    xs = [d["step"].values.astype(float) for d in group]

    def curves(
        ax: Axes, name: str, *, hollow: Sequence[Any] | None = None, positive: bool = False, **look: Any
    ) -> None:
        ys = [d[name].values.astype(float) for d in group]
        ys = [np.where(y > 0, y, np.nan) for y in ys] if positive else ys
        seed_curves(ax, xs, ys, hollow=hollow, **look)

    doubt = [~d["converged"].values.astype(bool) for d in group]
    pale = tint(color, 0.35)
    curves(above, "directional_sharpness", positive=True, color=pale, marker="s", linestyle="--")
    curves(above, "critical_sharpness", positive=True, hollow=doubt, color=color, marker="o", linestyle="-")
    below.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)
    curves(below, "change", color=color, marker="o", linestyle="-")
    for name, (shade, marker, line) in _PARTS.items():
        curves(below, name, color=shade, marker=marker, linestyle=line)
    rates = [d["learning_rate"].values for d in group]
    return threshold(above, xs, [2 / np.where(rate > 0, rate, np.nan) for rate in rates])


def _scaled(ax: Axes, datasets: Sequence[xr.Dataset]) -> str:
    """A scale on which all changes of the loss are seen, and what the label says of it."""
    values = np.concatenate([d[n].values.ravel() for d in datasets for n in ("change", *_PARTS)])
    name, linthresh = signed_scale(values, decades=3)
    ax.set_yscale(name, **({"linthresh": linthresh, "linscale": 0.5} if name == "symlog" else {}))
    return {"linear": "", "log": "\n(log scale)", "symlog": f"\n(symlog: linear\nwithin ±{linthresh:g})"}[name]


def _legend(archs: Sequence[str], datasets: Sequence[xr.Dataset], *, edge: bool) -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = []
    for arch in archs:
        color = arch_style(arch).color
        marks.append(Line2D([], [], color=color, marker="o", label=f"{arch}: critical; change"))
        marks.append(Line2D([], [], color=tint(color, 0.35), marker="s", linestyle="--", label=f"{arch}: directional"))
    for name, (shade, marker, line) in _PARTS.items():
        marks.append(Line2D([], [], color=shade, marker=marker, linestyle=line, label=name.replace("_", " ")))
    marks += [threshold_handle("2 / learning rate")] if edge else []
    if any(bool((~d["converged"].astype(bool) & (d["falls"] | d["censored"]).astype(bool)).any()) for d in datasets):
        marks.append(hollow_handle("not converged, or a bound"))
    return [*marks, *band_marks(by_arch(datasets).values())]
