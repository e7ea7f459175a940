"""Dimension and condition number of the valley during training, for several thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.datasets import by_arch, require_all, same
from landscape.figures.marks import Scale, arch_handles, band_marks, hollow_handle, seed_curves, step_axis
from landscape.figures.style import arch_style, grid, styled

__all__ = ["split"]

_NEEDED = {
    **{f"{name}_absolute": ("step", "eps") for name in ("dimension", "kappa", "converged")},
    "eps": ("eps",),
    "step": ("step",),
}


@styled
def split(datasets: Sequence[xr.Dataset], *, eps: tuple[float, ...] | None = None, scale: Scale = "symlog") -> Figure:
    """Number of eigenvalues above a threshold, and their condition number kappa, against the step.

    Absolute thresholds only: kappa at a relative one is about its inverse, whatever the network.

    Args:
        datasets: one ``split`` dataset per run, all of one task.
        eps: thresholds to show, of those measured; None takes three in the middle of the grid.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or the runs' thresholds differ.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="split")
        >>> numbers = (("step", "eps"), [[3.0], [4.0]])
        >>> ds = xr.Dataset({"dimension_absolute": numbers, "kappa_absolute": numbers,
        ...                  "converged_absolute": (("step", "eps"), [[True], [True]])},
        ...                 {"step": [0, 10], "eps": [0.1]}, attrs)
        >>> split([ds]).axes[0].get_title(loc="left")
        'λ > 0.1'
    """
    datasets = require_all(datasets, _NEEDED)
    groups = by_arch(datasets)
    if not same([d["eps"].values for d in datasets]):
        raise LandscapeError("expected the same eps in all runs. Measure them with the same settings.")
    known = [float(e) for e in datasets[0]["eps"].values]
    start = max(0, (len(known) - 3 + 1) // 2)
    chosen = list(eps) if eps is not None else known[start : start + 3]
    if not chosen or any(e not in known for e in chosen):
        raise LandscapeError(f"expected eps among {', '.join(f'{e:g}' for e in known)}, found {chosen}.")
    figure, axes = grid(2, len(chosen), height=2.1, sharex=True, sharey="row")
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    for column, threshold in enumerate(chosen):
        for row, name in enumerate(("dimension_absolute", "kappa_absolute")):
            ax = axes[row][column]
            for arch, group in groups.items():
                _curves(ax, arch, [d.sel(eps=threshold) for d in group], name)
            label = step_axis(ax, steps, scale=scale, gap=0.2)
            ax.set_yscale("log")
        axes[0][column].set_title(f"λ > {threshold:g}")
        axes[1][column].set_xlabel(label)
    axes[0][0].set_ylabel("dimension of the valley\n(log scale)")
    axes[1][0].set_ylabel("condition number κ\n(log scale)")
    figure.legend(handles=_legend(datasets, groups), loc="outside upper center", ncols=1 if len(chosen) == 1 else 3)
    return figure


def _curves(ax: Axes, arch: str, at: Sequence[xr.Dataset], name: str) -> None:
    style = arch_style(arch)
    seed_curves(
        ax,
        [d["step"].values.astype(float) for d in at],
        [np.where(d[name] > 0, d[name], np.nan) for d in at],
        hollow=[~d["converged_absolute"].values.astype(bool) for d in at],
        color=style.color,
        marker=style.marker,
        linestyle=style.linestyle,
    )


def _legend(datasets: Sequence[xr.Dataset], groups: dict[str, list[xr.Dataset]]) -> list[Line2D | Patch]:
    marks = arch_handles(groups)
    if not all(bool(d["converged_absolute"].all()) for d in datasets):
        marks.append(hollow_handle("an eigenvalue is within its error of the threshold"))
    return [*marks, *band_marks(groups.values())]
