"""The valley's condition number against the threshold that defines the valley, and what the threshold makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from landscape.errors import LandscapeError
from landscape.figures.choices import common_step
from landscape.figures.datasets import Array, by_arch, require_all, same, say_step, units
from landscape.figures.marks import arch_handles, band_marks, hollow_handle, log_ticks, seed_curves, spread_ticks
from landscape.figures.style import arch_style, grid, styled

__all__ = ["kappa"]

_KINDS = {"absolute": "eps", "relative": "eps_relative"}
_NEEDED = {
    **{
        f"{name}_{kind}": ("step", dim)
        for kind, dim in _KINDS.items()
        for name in ("dimension", "kappa", "gap", "converged")
    },
    "largest_eigenvalue": ("step",),
    "eps": ("eps",),
    "eps_relative": ("eps_relative",),
    "step": ("step",),
}
_BY_CONSTRUCTION: dict[str, Any] = {"color": "0.1", "linestyle": (0, (4, 2)), "linewidth": 0.8, "zorder": 3.5}


@styled
def kappa(datasets: Sequence[xr.Dataset], *, step: int | None = None) -> Figure:
    r"""Condition number, dimension and gap of the valley against its threshold at one step, one curve per architecture.

    Left for absolute thresholds, right for thresholds relative to the largest eigenvalue. Dashed in black is what kappa
    would be if an eigenvalue lay just above the threshold: 1/eps for a relative one, the same for every network, and
    lambda_1/eps for an absolute one, lambda_1 of each architecture. Where a curve lies on its dashed line, kappa is the
    threshold again and tells nothing of the valley. The gap, the ratio of the two eigenvalues next to the threshold,
    says the same: it is 1 where the spectrum is continuous. Curves are means over seeds in a band from minimum to
    maximum. A point is hollow where, in any seed, an eigenvalue is within its error of the threshold.

    Args:
        datasets: one ``split`` dataset per run, all of one task.
        step: the checkpoint; None for the last one that all runs have.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, the runs' thresholds differ, or the step was
            not measured.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = kappa([sweep("split", run, seed=0, steps=[4])])
        >>> figure.axes[1].get_title(loc="left")
        'relative threshold, step 4'
    """
    datasets = require_all(datasets, _NEEDED)
    if not all(same([d[dim].values for d in datasets]) for dim in _KINDS.values()):
        raise LandscapeError("expected the same eps in all runs. Measure them with the same settings.")
    at = common_step(datasets, step)
    groups = by_arch([d.sel(step=at) for d in datasets])
    figure, axes = grid(3, 2, height=1.7, sharex="col", sharey="row")
    for column, (kind, dim) in enumerate(_KINDS.items()):
        eps = datasets[0][dim].values.astype(float)
        for row, name in enumerate(("kappa", "dimension", "gap")):
            for arch, group in groups.items():
                _curve(axes[row][column], arch, group, f"{name}_{kind}", eps)
            axes[row][column].set_yscale("log")
        _by_construction(axes[0][column], groups, eps, relative=kind == "relative")
        axes[2][column].axhline(1, **_BY_CONSTRUCTION)
        axes[2][column].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[2][column].yaxis.set_major_formatter("{x:g}")
        axes[2][column].yaxis.set_minor_locator(NullLocator())
        axes[0][column].set_title(f"{kind} threshold{say_step(at, before=', ')}")
        log_ticks(axes[2][column], eps[spread_ticks(np.log(eps), gap=0.12)].tolist())
    axes[2][0].set_xlabel(f"ε ({units(datasets, 'eps')}; log scale)")
    axes[2][1].set_xlabel("ε / λ₁ (dimensionless; log scale)")
    labels = (
        "condition number κ\n(log scale)",
        "dimension of the\nvalley (log scale)",
        "gap at the threshold\n(ratio; log scale)",
    )
    for cells, label in zip(axes, labels, strict=True):
        cells[0].set_ylabel(label)
    figure.legend(handles=_legend(groups), loc="outside upper center", ncols=2)
    return figure


def _curve(ax: Axes, arch: str, group: Sequence[xr.Dataset], name: str, eps: Array) -> None:
    """One quantity of one architecture; an empty valley has none, and the last eigenvalue no finite gap."""
    style, kind = arch_style(arch), name.rpartition("_")[2]
    seed_curves(
        ax,
        [eps] * len(group),
        [np.where((d[name] > 0) & np.isfinite(d[name]), d[name], np.nan) for d in group],
        hollow=[~d[f"converged_{kind}"].values.astype(bool) for d in group],
        color=style.color,
        marker=style.marker,
        linestyle=style.linestyle,
    )


def _by_construction(ax: Axes, groups: dict[str, list[xr.Dataset]], eps: Array, *, relative: bool) -> None:
    """What kappa is on a continuous spectrum, wherever there is a valley at all."""
    if relative:
        ax.plot(eps, 1 / eps, **_BY_CONSTRUCTION)
        return
    for group in groups.values():
        largest = float(np.mean([d["largest_eigenvalue"] for d in group]))
        inside = eps[eps < largest]
        ax.plot(inside, largest / inside, **_BY_CONSTRUCTION)


def _legend(groups: dict[str, list[xr.Dataset]]) -> list[Line2D | Patch]:
    marks = arch_handles(groups)
    marks.append(Line2D([], [], label="by construction: λ₁/ε, 1/ε; gap 1", **_BY_CONSTRUCTION))
    if not all(bool(d[f"converged_{kind}"].all()) for group in groups.values() for d in group for kind in _KINDS):
        marks.append(hollow_handle("an eigenvalue is within its error of ε"))
    return [*marks, *band_marks(groups.values())]
