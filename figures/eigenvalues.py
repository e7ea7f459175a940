"""The largest and smallest Hessian eigenvalues during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from landscape.figures.datasets import alike, by_arch, require_all, say_step, titled, units
from landscape.figures.marks import (
    Scale,
    arch_handles,
    band_marks,
    fit_steps,
    hollow_handle,
    scale_note,
    seed_curves,
    signed_scale,
    step_axis,
    threshold,
    threshold_handle,
)
from landscape.figures.style import NEUTRAL, arch_style, grid, styled, tint

__all__ = ["eigenvalues"]

_NEEDED = {
    "eigenvalue": ("step", "mode"),
    "residual": ("step", "mode"),
    "converged": ("step", "mode"),
    "end": ("mode",),
    "edge": ("step",),
    "step": ("step",),
}


@styled
def eigenvalues(datasets: Sequence[xr.Dataset], *, scale: Scale = "symlog") -> Figure:
    """Extreme eigenvalues of the Hessian against the step, one panel per architecture, on shared axes.

    Measured at one point only, they are drawn against their index, one line per architecture.

    The band reaches from the smallest ``eigenvalue - residual`` of the seeds to their largest ``eigenvalue +
    residual``; a point is hollow if any of the seeds has not converged there. Where the training's learning rate is
    known and the metric is its optimiser's own, a line shows the edge of stability, such as 2 / lr of gradient descent.

    Args:
        datasets: one ``spectrum`` dataset per run, all of one task.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or seeds of one architecture differ in
            their modes.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="spectrum")
        >>> value = (("step", "mode"), [[2.0, -0.1], [9.0, -0.2]])
        >>> ds = xr.Dataset({"eigenvalue": value, "residual": 0.01 * xr.Variable(*value), "converged": value},
        ...                 {"step": [0, 10], "end": ("mode", ["top", "bottom"])}, attrs)
        >>> eigenvalues([ds]).axes[0].get_title(loc="left")
        'single (1 seed)'
    """
    datasets = require_all([_with_edge(ds) for ds in datasets], _NEEDED)
    groups = by_arch(datasets)
    if all(d.sizes["step"] == 1 for d in datasets):
        return _of_one_point(datasets, groups)
    figure, axes = grid(1, len(groups), height=3.1, sharex=True, sharey=True)
    for ax, (arch, group) in zip(axes[0], groups.items(), strict=True):
        _draw_arch(ax, group, color=arch_style(arch).color)
        ax.set_title(titled(arch, group))
    values = np.concatenate(
        [(d["eigenvalue"] + s * d["residual"]).values.ravel() for d in datasets for s in (-1, 0, 1)]
    )
    name, linthresh = signed_scale(values)
    axes[0][0].set_yscale(name, **({"linthresh": linthresh, "linscale": 0.9} if name == "symlog" else {}))
    notes = [
        "Hessian eigenvalue",
        f"({units(datasets, 'eigenvalue')})",
        f"({scale_note(name, linthresh)})".replace("()", ""),
    ]
    axes[0][0].set_ylabel("\n".join(filter(None, notes)))
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    for ax in axes[0]:
        ax.set_xlabel(step_axis(ax, steps, scale=scale))
        fit_steps(ax, steps)
        if name == "symlog":
            ax.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)
    figure.legend(handles=_legend(datasets), loc="outside upper center", ncols=2 if len(groups) == 1 else 4)
    return figure


def _with_edge(ds: xr.Dataset) -> xr.Dataset:
    """With an edge of stability that is not known, where a result does not tell one."""
    if "edge" in ds or "eigenvalue" not in ds or "mode" not in ds["eigenvalue"].dims:
        return ds
    return ds.assign(edge=xr.full_like(ds["eigenvalue"].isel(mode=0, drop=True), np.nan))


def _of_one_point(datasets: Sequence[xr.Dataset], groups: dict[str, list[xr.Dataset]]) -> Figure:
    """Eigenvalue against its index, the largest first, with residuals."""
    figure, [[ax]] = grid(1, 1, height=3.0)
    for arch, group in groups.items():
        alike(group, "end")
        at = [d.isel(step=0) for d in group]
        style = arch_style(arch)
        seed_curves(
            ax,
            [np.arange(1.0, d.sizes["mode"] + 1) for d in at],
            [d["eigenvalue"].values for d in at],
            errors=[d["residual"].values for d in at],
            hollow=[~d["converged"].values.astype(bool) for d in at],
            color=style.color, marker=style.marker, linestyle=style.linestyle, most=10**6,
        )  # fmt: skip
    ends = np.array([1.0, max(d.sizes["mode"] for d in datasets)])
    threshold(ax, [ends] * len(datasets), [np.repeat(d["edge"].values, 2) for d in datasets])
    values = np.concatenate(
        [(d["eigenvalue"] + s * d["residual"]).values.ravel() for d in datasets for s in (-1, 0, 1)]
    )
    name, linthresh = signed_scale(values)
    ax.set_yscale(name, **({"linthresh": linthresh, "linscale": 0.9} if name == "symlog" else {}))
    if name == "symlog":
        ax.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)
    scale = f"({scale_note(name, linthresh)})".replace("()", "")
    ax.set_ylabel("\n".join(filter(None, ["Hessian eigenvalue", f"({units(datasets, 'eigenvalue')})", scale])))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("index, from the largest eigenvalue")
    steps = {say_step(int(s)) for d in datasets for s in d["step"].values}
    ax.set_title(
        ", ".join([*groups, *(steps if len(steps) == 1 and steps != {""} else [])]) if len(groups) == 1 else ""
    )
    marks = arch_handles(groups)
    if not all(bool(d["converged"].all()) for d in datasets):
        marks.append(hollow_handle("not converged"))
    marks += [*band_marks(groups.values(), "residual"), *_edge_handle(datasets)]
    figure.legend(handles=marks, loc="outside upper center", ncols=2)
    return figure


def _draw_arch(ax: Axes, group: Sequence[xr.Dataset], *, color: str) -> None:
    """Every mode of one architecture."""
    ends = alike(group, "end")
    for mode in range(len(ends)):
        pick = [d.isel(mode=mode) for d in group]
        seed_curves(
            ax,
            [d["step"].values.astype(float) for d in pick],
            [d["eigenvalue"].values for d in pick],
            errors=[d["residual"].values for d in pick],
            hollow=[~d["converged"].values.astype(bool) for d in pick],
            most=10**6,
            **_look(ends, mode, color),
        )
    threshold(ax, [d["step"].values.astype(float) for d in group], [d["edge"].values for d in group])


def _look(ends: Sequence[str], mode: int, color: str) -> dict[str, Any]:
    """The extreme mode of each end is darkest, the others fade; bottom modes are grey and point down."""
    top = ends[mode] != "bottom"
    first, last = ends.index(ends[mode]), len(ends) - 1 - ends[::-1].index(ends[mode])
    rank = (mode - first if top else last - mode) / max(1, last - first)
    return {
        "color": tint(color if top else NEUTRAL, 0.55 * rank),
        "marker": "o" if top else "v",
        "linestyle": "-" if top else ":",
    }


def _legend(datasets: Sequence[xr.Dataset]) -> list[Line2D | Patch]:
    """What the marks that are there mean."""
    archs = list(dict.fromkeys(d.attrs["arch"] for d in datasets))
    ends = {str(e) for d in datasets for e in d["end"].values}
    top = "largest magnitude" if "largest" in ends else "top"
    marks: list[Line2D | Patch] = [
        Line2D([], [], color=arch_style(a).color, marker="o", label=f"{a}, {top}") for a in archs if ends != {"bottom"}
    ]
    if "bottom" in ends:
        marks.append(Line2D([], [], color=NEUTRAL, marker="v", linestyle=":", label="bottom"))
    if not all(bool(d["converged"].all()) for d in datasets):
        marks.append(hollow_handle("not converged"))
    return [*marks, *band_marks(by_arch(datasets).values(), "residual"), *_edge_handle(datasets)]


def _edge_handle(datasets: Sequence[xr.Dataset]) -> list[Line2D]:
    known = any(bool(np.isfinite(d["edge"]).any()) for d in datasets)
    return [threshold_handle("edge of stability")] if known else []
