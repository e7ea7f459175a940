"""Entropy, ranks, spread and power law of the Hessian spectrum during training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.figures.datasets import Array, by_arch, require_all, unknown_error
from landscape.figures.marks import Scale, arch_handles, error_marks, fit_steps, hollow_handle, seed_curves, step_axis
from landscape.figures.style import arch_style, grid, styled

__all__ = ["entropy"]

_PANELS = {
    "entropy": "matrix entropy (nats)",
    "participation_ratio": "participation ratio\n(eigenvalues)",
    "log_spread": "spread of log λ (weighted\nstd, positive λ)",
    "slope": "power-law slope of\nλ against rank",
}
_NEEDED = {
    **{n: ("step",) for name in _PANELS for n in (name, f"{name}_stderr")},
    "exact": ("step",),
    "slope_first": ("step",),
    "slope_last": ("step",),
    "step": ("step",),
}


@styled
def entropy(datasets: Sequence[xr.Dataset], *, scale: Scale = "symlog") -> Figure:
    """Four threshold-free statistics of the spectrum against the step, one curve per architecture.

    The curve is the mean over seeds; the band reaches from the smallest ``value - standard error`` of the seeds to
    their largest sum, and is missing where a seed's error is unknown. A point is hollow if any seed's was estimated
    from random vectors, not from all eigenvalues.

    Args:
        datasets: one ``entropy`` dataset per run, all of one task.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="entropy")
        >>> values = {name: ("step", [1.0, 2.0]) for name in _NEEDED if name != "step"}
        >>> ds = xr.Dataset(values, {"step": [0, 10]}, attrs)
        >>> entropy([ds]).axes[0].get_ylabel()
        'matrix entropy (nats)'
    """
    datasets = require_all(datasets, _NEEDED)
    groups = by_arch(datasets)
    figure, axes = grid(2, 2, height=2.2, sharex=True)
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    flat = [ax for row in axes for ax in row]
    for ax, (name, label) in zip(flat, _PANELS.items(), strict=True):
        for arch, group in groups.items():
            style = arch_style(arch)
            seed_curves(
                ax,
                [d["step"].values.astype(float) for d in group],
                [d[name].values for d in group],
                errors=[d[f"{name}_stderr"].values for d in group],
                hollow=[~d["exact"].values.astype(bool) for d in group],
                color=style.color,
                marker=style.marker,
                linestyle=style.linestyle,
            )
        ax.set_ylabel(label if name != "slope" else f"{label}\n({_ranks(datasets)})")
        x_label = step_axis(ax, steps, scale=scale)
    _finish(flat, steps, x_label)
    figure.legend(handles=_legend(datasets, groups), loc="outside upper center", ncols=3)
    return figure


def _finish(axes: Sequence[Axes], steps: Array, label: str) -> None:
    for ax in axes[2:]:
        ax.set_xlabel(label)
    for ax in axes:
        fit_steps(ax, steps)


def _ranks(datasets: Sequence[xr.Dataset]) -> str:
    """The ranks of the fit, which may end earlier at some checkpoints."""
    first, last = (np.concatenate([d[n].values for d in datasets]) for n in ("slope_first", "slope_last"))
    end = f"{last.max():g}" if last.min() == last.max() else f"{last.min():g} to {last.max():g}"
    return f"ranks {first.min():g}–{end}"


def _legend(datasets: Sequence[xr.Dataset], groups: dict[str, list[xr.Dataset]]) -> list[Line2D | Patch]:
    marks = arch_handles(groups)
    if not all(bool(d["exact"].all()) for d in datasets):
        marks.append(hollow_handle("estimated from random vectors"))
    values, errors = ([d[f"{n}{end}"].values for d in datasets for n in _PANELS] for end in ("", "_stderr"))
    return [*marks, *error_marks(groups.values(), unknown_error(values, errors))]
