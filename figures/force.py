"""The cumulative force, sum of 1/|eigenvalue| in windows of the spectrum, during training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.datasets import by_arch, require_all, same, units, unknown_error
from landscape.figures.marks import Scale, arch_handles, error_marks, fit_steps, hollow_handle, seed_curves, step_axis
from landscape.figures.style import NEUTRAL, arch_style, grid, styled

__all__ = ["force"]

_WINDOW = ("step", "eps", "tau")
_NEEDED = {
    "inverse_sum": _WINDOW,
    "inverse_sum_stderr": _WINDOW,
    "flattest_share": _WINDOW,
    "resolved": ("step", "eps"),
    "eps": ("eps",),
    "tau": ("tau",),
    "step": ("step",),
}


@styled
def force(datasets: Sequence[xr.Dataset], *, tau: float | None = None, scale: Scale = "symlog") -> Figure:
    """Sum of 1/|eigenvalue| over eps < eigenvalue <= tau against the step, and the share of the flattest tenth.

    Columns are lower ends eps: the smallest, the middle and the largest below tau. Bands are as in the figure of the
    entropy. A point is hollow if eps is not above the rounding of the eigenvalues in any seed.

    Args:
        datasets: one ``force`` dataset per run, all of one task.
        tau: upper end of the windows, one of those measured; None takes the middle one.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or the runs' windows differ.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="force")
        >>> sums = (("step", "eps", "tau"), [[[3.0]], [[4.0]]])
        >>> ds = xr.Dataset({"inverse_sum": sums, "inverse_sum_stderr": sums, "flattest_share": sums,
        ...                  "resolved": (("step", "eps"), [[True], [True]])},
        ...                 {"step": [0, 10], "eps": [0.1], "tau": [1.0]}, attrs)
        >>> force([ds]).axes[0].get_title(loc="left")
        '0.1 < λ ≤ 1'
    """
    datasets = require_all(datasets, _NEEDED)
    groups = by_arch(datasets)
    if not (same([d["eps"].values for d in datasets]) and same([d["tau"].values for d in datasets])):
        raise LandscapeError("expected the same eps and tau in all runs. Measure them with the same settings.")
    grid_tau = datasets[0]["tau"].values
    upper = float(grid_tau[len(grid_tau) // 2]) if tau is None else tau
    lower = [float(e) for e in datasets[0]["eps"].values if e < upper]
    if upper not in grid_tau or not lower:
        raise LandscapeError(
            f"expected tau to be one of {', '.join(f'{t:g}' for t in grid_tau)} and above some eps, found {upper:g}."
        )
    lower = [lower[i] for i in sorted({0, len(lower) // 2, len(lower) - 1})]
    datasets = [d.sel(tau=upper) for d in datasets]
    figure, axes = grid(2, len(lower), height=2.1, sharex=True, sharey="row")
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    for column, eps in enumerate(lower):
        for row, name in enumerate(("inverse_sum", "flattest_share")):
            ax = axes[row][column]
            for arch, group in groups.items():
                at = [d.sel(eps=eps, tau=upper) for d in group]
                style = arch_style(arch)
                errors = [d["inverse_sum_stderr"].values for d in at] if row == 0 else None
                seed_curves(
                    ax,
                    [d["step"].values.astype(float) for d in at],
                    [np.where(d[name] > 0, d[name], np.nan) for d in at],
                    errors=errors,
                    hollow=[~d["resolved"].values.astype(bool) for d in at],
                    color=style.color,
                    marker=style.marker,
                    linestyle=style.linestyle,
                )
            label = step_axis(ax, steps, scale=scale, gap=0.2)
            fit_steps(ax, steps)
        axes[0][column].set_title(f"{eps:g} < λ ≤ {upper:g}")
        axes[1][column].axhline(0.1, color=NEUTRAL, linewidth=0.6, linestyle=":")
        axes[1][column].set_xlabel(label)
    axes[0][0].set_yscale("log")
    axes[0][0].set_ylabel(f"sum of 1/|λ|\n({units(datasets, 'inverse_sum')}; log scale)")
    axes[1][0].set_ylabel("share of the\nflattest 10 %")
    axes[1][0].set_ylim(0, 1.02)
    figure.legend(handles=_legend(datasets, groups), loc="outside upper center", ncols=1 if len(lower) == 1 else 3)
    return figure


def _legend(datasets: Sequence[xr.Dataset], groups: dict[str, list[xr.Dataset]]) -> list[Line2D | Patch]:
    marks = arch_handles(groups)
    if not all(bool(d["resolved"].all()) for d in datasets):
        marks.append(hollow_handle("window reaches into rounding"))
    marks.append(Line2D([], [], color=NEUTRAL, linewidth=0.6, linestyle=":", label="all eigenvalues equal"))
    values, errors = ([d[n].values for d in datasets] for n in ("inverse_sum", "inverse_sum_stderr"))
    return [*marks, *error_marks(groups.values(), unknown_error(values, errors))]
